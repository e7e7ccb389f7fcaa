//! Sandboxes on the real engine: each test has its own installation and leaves nothing behind, which its world asserts.
//!
//! `ATELIER_TEST_IMAGE` names the image (`atelier-workspace:latest`), `ATELIER_TEST_GUESTD` the static daemon
//! (`target/guestd/guestd`).

mod builds;
mod canaries;
mod commands;
mod disk;
mod escape;
mod files;
mod git;
mod killing;
mod lifecycle;
mod limits;
mod network;
mod places;
mod ports;
mod stdio;
mod warm;
mod world;
