//! Runs on real parts: Postgres, containers, and a model that follows a script and refuses what the real one would.

mod approvals;
mod busy;
mod compaction;
mod crashes;
mod extras;
mod faults;
mod limits;
mod memory;
mod side_questions;
mod stopping;
mod world;
