//! The client side of the Model Context Protocol: a connection to one server, and what can be asked of it.
//!
//! `rmcp` speaks the protocol, in its current revision and in older ones; nobody but this crate knows its types. What is
//! added here is what somebody needs who does not trust the other side: a server may be anything that a user named, so
//! what it sends is bounded in size, each wait has an end, and what it gives is turned into a few plain kinds. Where a
//! server's bytes come from is not known here either: a process in a container is a stream that somebody else opened.

mod answer;
mod bounded;
mod client;
mod error;
mod handler;
mod lent;
mod link;
mod listing;
pub mod oauth;
mod sse;

pub use answer::{Answer, Content};
pub use client::{Client, Options};
pub use error::Error;
pub use link::{Headers, Link, Stream};
pub use listing::{Listing, Tool};
