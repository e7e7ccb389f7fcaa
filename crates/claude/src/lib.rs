//! The Claude Messages API, from our side: build a request, stream the reply, retry what may be retried.
//!
//! Nothing else in the workspace knows the Messages API's JSON. What a model says is kept as the API's own bytes
//! ([`Response::content`]) and sent back unchanged, because thinking blocks are bound to the exact prefix they were made
//! under and because a byte that moves costs the prompt cache. What a caller reads is a parsed view beside those bytes.

mod auth;
mod block;
pub mod blocks;
mod catalogue;
mod client;
mod conversation;
pub mod digest;
mod error;
mod fold;
pub mod measure;
mod models;
mod object;
mod request;
mod response;
mod retry;
mod sse;
mod stream;
mod usage;
mod web_search;

pub use auth::{Auth, default_version, parse_custom_headers};
pub use block::{Block, ToolUse};
pub use catalogue::{Catalogue, Model, Prices, ThinkingSupport};
pub use client::{Client, Options};
pub use conversation::{Conversation, Role};
pub use error::Error;
pub use models::ModelInfo;
pub use request::{BlockBinding, Caching, Effort, Request, Thinking, ThinkingDisplay, Tool};
pub use response::{Response, StopReason};
pub use stream::Update;
pub use usage::{Iteration, Usage};
pub use web_search::{Hit, WebSearch, read_hits};

pub use secrecy::SecretString;
