//! The only SQL of Atelier: rows in, rows out, and the one stream that tells what happened.
//!
//! API and executor never call each other; they meet here. What must be true under races is decided by constraints and
//! by single statements guarded with a project or a lease. Hints between the parts of a process ([`hub`]) carry no
//! data: whoever is woken reads the rows.
//!
//! The database's clock is the only one that decides (leases, expiry, order of creation), so any number of servers may
//! disagree about the time.

pub mod agent_versions;
pub mod agents;
pub mod analytics;
pub mod audit;
pub mod budgets;
pub mod builds;
pub mod changes;
pub(crate) mod charges;
pub mod context;
pub mod control;
pub mod copies;
pub mod costs;
pub mod environments;
pub mod error;
pub mod events;
pub mod feedback;
pub mod hub;
pub mod keys;
pub mod leases;
pub mod logs;
pub mod mcp;
pub mod messages;
pub mod metrics;
pub mod permissions;
pub mod postgres;
pub mod previews;
pub mod projects;
pub mod queue;
pub mod rates;
pub mod research;
pub mod responses;
pub mod retention;
pub mod rewind;
pub mod run_labels;
pub mod runs;
pub mod schedules;
pub mod seal;
pub mod search;
pub mod secrets;
pub mod side_questions;
pub mod skills;
pub mod snapshots;
pub mod states;
pub mod steering;
pub mod steps;
pub mod subagents;
pub mod tail;
pub mod threads;
pub mod titles;
pub mod transcript;
pub mod triggers;
pub mod users;
pub mod webhooks;

mod row;
mod starting;
mod store;

pub use error::Error;
pub use sqlx::postgres::PgConnectOptions as ConnectOptions;
pub use store::{MIGRATOR, Options, Page, Paged, Store};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
