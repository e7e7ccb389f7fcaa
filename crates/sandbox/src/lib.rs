//! Where agents work: the container of an environment and the files that outlive it.
//!
//! The container is cattle, the files are not. [`Sandboxes::open`] gives a running container, made from what
//! [`Spec`] says and rebuilt whenever that changes; [`Sandbox`] runs commands in it through `guestd`, the daemon that is
//! its first process; [`Workspace`] reaches the same files without any container. What comes out of a container, be it
//! bytes or files, is the work of an unknown program and is treated so.

pub mod error;
pub mod git;
pub mod options;

mod bring_up;
mod build;
mod container;
mod containers;
mod directories;
mod disk;
mod egress;
mod engine;
mod forward;
mod frames;
mod guest;
mod images;
mod network;
mod place;
mod ports;
mod process;
mod reconcile;
mod report;
mod runtimes;
mod sandbox;
mod sandboxes;
mod skills;
mod slot;
mod spec;
mod status;
mod stdio;
mod trial;
mod warm;
pub mod workspace;

pub use build::Plan;
pub use directories::HostDirectories;
pub use disk::{DiskUse, Overrun};
pub use egress::Egress;
pub use error::Error;
pub use forward::Forward;
pub use options::{BuildOptions, Limits, Network, Options, Sizes, Spec};
pub use ports::Port;
pub use process::{Chunk, Process, Stream};
pub use reconcile::Reconciled;
pub use report::{DiskEnforcement, Engine, Report};
pub use runtimes::Available;
pub use sandbox::{Command, FileContent, Sandbox, Task, Written};
pub use sandboxes::Sandboxes;
pub use skills::SKILLS;
pub use status::Status;
pub use stdio::{LastWords, Stdio};
pub use trial::Trial;
pub use workspace::Workspace;

pub use guest_protocol::Exit;
