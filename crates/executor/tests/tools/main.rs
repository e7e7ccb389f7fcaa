//! The tools as the model calls them, in a real container.
//!
//! `ATELIER_TEST_IMAGE` names the image (`atelier-workspace:latest`), `ATELIER_TEST_GUESTD` the static daemon
//! (`target/guestd/guestd`).

// Clippy knows test functions, but not what helps them.
#![allow(clippy::unwrap_used)]

mod background;
mod bash;
mod files;
mod images;
mod output;
mod recorded;
mod restart;
mod search;
mod web;
mod web_search;
mod world;
