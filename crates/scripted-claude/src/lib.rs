//! A Messages API server that follows a script instead of thinking.
//!
//! It stands where the model would stand: in tests, in benchmarks, and at a first start without a key. So it speaks the
//! real wire format, and it is strict: whatever the real API would refuse, it refuses with the same kind of sentence,
//! because a fake that accepts everything hides exactly the mistakes one starts it for. What it answers follows from the
//! conversation it is sent, so a restart or many threads at once change nothing.

mod asked;
mod builtin;
mod cache;
mod check;
mod gates;
mod models;
mod play;
mod record;
mod reply;
mod script;
mod server;
mod timing;
mod wire;

pub use asked::{Asked, Call, ToolResult};
pub use record::Received;
pub use reply::{Block, Fault, Reply, ReplyUsage};
pub use script::{Rule, Script, When};
pub use server::{Checks, Options, ScriptedClaude};
pub use timing::Timing;
