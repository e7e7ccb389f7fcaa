//! The HTTP API: JSON in, rows; rows, JSON out.
//!
//! Only this crate knows the names of the wire and HTTP's statuses. It never calls the executor: a message becomes a row
//! in the store, and what happens to it is read from the store again. Every route is registered together with its
//! description, so the OpenAPI document cannot miss one.

mod activity;
mod admin;
mod agents;
mod analytics;
mod api;
mod audit;
mod auth;
mod billing;
mod body;
mod budgets;
mod capacity;
mod caps;
mod changes;
mod check;
mod context;
mod control;
mod copies;
mod cors;
mod costs;
mod deleted;
mod diffs;
mod drain;
mod environments;
mod error;
mod events;
mod feedback;
mod files;
mod git;
mod history;
mod idempotency;
mod json;
mod keys;
mod limits;
mod list;
mod logs;
mod mcp;
mod messages;
mod models;
mod openapi;
mod path;
mod permissions;
mod previews;
mod projects;
mod query;
mod queue;
mod rates;
mod research;
mod router;
mod runs;
mod schedules;
mod scopes;
mod search;
mod skills;
mod snapshots;
mod steps;
mod stream;
mod system;
mod threads;
mod timeline;
mod timestamp;
mod titles;
mod trace;
mod triggers;
mod undisturbed;
mod users;
mod uses;
mod webhooks;
mod wire_event;

pub use api::{Api, Previews, Settings, Version};
pub use environments::{BeginSignIn, FinishSignIn, SignIns};
pub use error::Error;
pub use models::{Model, Models};
pub use router::{openapi, router};
pub use skills::WhyUnavailable;
pub use titles::{MadeTitle, MakeTitle};

/// The result of every handler.
type Result<T, E = Error> = std::result::Result<T, E>;
