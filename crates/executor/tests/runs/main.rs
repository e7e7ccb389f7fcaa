//! Runs on real parts: Postgres, containers, and a model that follows a script and refuses what the real one would.

mod agents;
mod approvals;
mod boundaries;
mod budgets;
mod builds;
mod busy;
mod compaction;
mod crashes;
mod cut;
mod extras;
mod faults;
mod images;
mod limits;
mod mcp;
mod memory;
mod model_faults;
#[path = "../tools/recorded.rs"]
mod recorded;
mod repository;
mod research;
mod rug_pulls;
mod side_questions;
mod sign_in;
mod site;
mod skills;
mod steps;
mod stopping;
mod tiers;
mod web_search;
mod webhooks;
mod world;
