//! The HTTP API: JSON in, rows; rows, JSON out.
//!
//! Only this crate knows the names of the wire and HTTP's statuses. It never calls the executor: a message becomes a row
//! in the store, and what happens to it is read from the store again. Every route is registered together with its
//! description, so the OpenAPI document cannot miss one.

mod agents;
mod api;
mod auth;
mod body;
mod capacity;
mod caps;
mod check;
mod context;
mod control;
mod cors;
mod deleted;
mod environments;
mod error;
mod events;
mod files;
mod idempotency;
mod json;
mod limits;
mod list;
mod messages;
mod models;
mod openapi;
mod path;
mod permissions;
mod query;
mod queue;
mod router;
mod runs;
mod stream;
mod system;
mod threads;
mod timestamp;
mod trace;
mod wire_event;

pub use api::{Api, Settings, Version};
pub use error::Error;
pub use models::{Model, Models};
pub use router::{openapi, router};

/// The result of every handler.
type Result<T, E = Error> = std::result::Result<T, E>;
