//! Histories of real directories.

// Clippy knows test functions, but not what helps them.
#![allow(clippy::unwrap_used)]

mod changes;
mod damage;
mod hostile;
mod model;
mod place;
mod snapshots;
mod undo;
