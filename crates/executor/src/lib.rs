//! Runs, from claim to end: what the model is asked, which tools it calls, what of it is written down.
//!
//! `worker` claims runs, `drive` is the loop over turns, `ask` one model call, `reply` what it gave, `compaction` what
//! happens when the window is full (`summary` the texts of that), `steps` what became of files, `calls` the tools of
//! one reply, `progress` every commit, `permissions` which calls wait for somebody, `agents` the runs that a run calls, `computer` the sandbox they run in, `mcp` the servers whose tools are offered beside ours, `prompt` and `conversation` what the model reads. `schedules` is the clock of work that starts by itself, `webhooks` tells others what happened, `spans` a tracing system,
//! `measure` whoever watches figures. `side_questions` are
//! answered and images built (`builds`; `image` waits for one) beside all that. Nothing here knows HTTP or SQL:
//! the API and this crate meet in the store.

mod agents;
mod answer;
mod ask;
mod attachments;
mod bounds;
mod builds;
mod calls;
mod compaction;
mod computer;
mod conversation;
mod drive;
mod error;
mod image;
pub mod mcp;
mod measure;
mod options;
mod permissions;
mod progress;
mod prompt;
mod reply;
mod repository;
mod research;
mod schedules;
mod server_tools;
mod setup;
mod side_questions;
mod skills;
pub mod spans;
mod steering;
mod steps;
mod stop;
mod summary;
pub mod tools;
pub mod webhooks;
mod worker;

pub use options::{AgentOptions, Options, ResearchOptions, SearchOptions};
pub use reply::spent;
pub use skills::why_unavailable;
pub use worker::Executor;
