//! The whole system as its users start it, for tests: the real program with a data directory of its own, its private
//! Postgres, real containers, and a model that follows a script.
//!
//! What can only be seen from outside is tested here: what survives the server, what is left when it is gone, what
//! clients read. A test begins with [`World::start`] and ends with [`World::finish`], which asserts that nothing is left.

mod disk;
mod engine;
mod follower;
mod http;
mod job;
mod leftovers;
mod memory;
mod private_engine;
mod processes;
mod script;
mod sse;
mod wait;
mod world;

pub use disk::Filler;
pub use engine::Container;
pub use follower::{Follower, Reader};
pub use http::Answer;
pub use job::{Counted, Job};
pub use memory::Memory;
pub use private_engine::PrivateEngine;
pub use processes::holding as processes_holding;
pub use script::message;
pub use sse::{Frame, Frames, assert_complete, durable};
pub use wait::eventually;
pub use world::World;
