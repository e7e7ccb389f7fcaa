//! Where agents work: the container of an environment and the files that outlive it.

pub mod error;
pub mod workspace;

pub use error::Error;
pub use workspace::Workspace;
