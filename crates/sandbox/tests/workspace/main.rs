//! A workspace's files against real file systems and a hostile neighbour.

// Clippy knows test functions, but not what helps them.
#![allow(clippy::unwrap_used)]

mod escape;
mod files;
mod race;
mod scene;
mod speed;
mod upload;
mod zip;
