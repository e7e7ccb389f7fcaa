//! The whole system as its users start it, for tests: the real program with a data directory of its own, its private
//! Postgres, real containers, and a model that follows a script.
//!
//! What can only be seen from outside is tested here: what survives the server, what is left when it is gone, what
//! clients read. A test begins with [`World::start`] and ends with [`World::finish`], which asserts that nothing is left.

mod engine;
mod http;
mod processes;
mod script;
mod sse;
mod wait;
mod world;

pub use engine::Container;
pub use http::Answer;
pub use script::message;
pub use sse::{Frame, Frames, assert_complete, durable};
pub use wait::eventually;
pub use world::World;
