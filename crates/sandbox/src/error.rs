//! What can go wrong in a sandbox.
//!
//! One variant per thing a caller can do something about, one for the rest. A message says what failed and on what; the
//! operating system's own words are in the source, which whoever logs the error prints.

use std::error::Error as StdError;

use domain::EnvironmentId;

/// A failure of a sandbox or of its files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no file or directory '{0}'")]
    NotFound(String),
    #[error("'{0}' is a directory")]
    IsDirectory(String),
    #[error("'{0}' is not a directory")]
    NotADirectory(String),
    #[error("access to '{0}' is not permitted")]
    PermissionDenied(String),
    #[error("'{0}' leads out of the workspace")]
    Outside(String),
    #[error("'{0}' is too large")]
    TooLarge(String),
    /// The request makes no sense for what is there; the reason is for the client.
    #[error("'{path}' {why}")]
    Refused { path: String, why: &'static str },
    #[error("no space is left on the disk")]
    DiskFull,
    /// The environment takes as much of the disk as it may.
    #[error("the environment's disk is full")]
    DiskLimit,
    #[error("no container engine answers")]
    NoEngine(#[source] bollard::errors::Error),
    /// The image is not on this engine; holds its name.
    #[error("there is no image '{0}'")]
    NoImage(String),
    /// The operator does not let environments use this image; holds its name.
    #[error("the image '{0}' is not among those that environments may use")]
    ImageRefused(String),
    /// The environment's recipe has mistakes, which the text names.
    #[error("the image cannot be built: {0}")]
    CannotBuild(String),
    /// A step of a build failed; holds the engine's words.
    #[error("the build failed: {0}")]
    BuildFailed(String),
    /// The container does not come up. `log` is what it said last, and may be empty.
    #[error("cannot start the container of environment {environment}: {reason}")]
    StartFailed { environment: EnvironmentId, reason: String, log: String },
    /// The environment wants the internet, and this host cannot keep its container from private networks.
    #[error("containers with internet access cannot be kept from private networks here: {0}")]
    Unfiltered(String),
    /// Nothing in the container listens on the port, or it takes no connection.
    #[error("nothing listens on the port")]
    NotListening,
    /// The container has ended. Opening the sandbox again may give a new one.
    #[error("the container has ended")]
    Gone,
    #[error("{what}")]
    Other {
        what: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// Wraps what no caller can do anything about. `what` says what failed and on what: "cannot start container {id}".
    pub(crate) fn other(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Other { what: what.into(), source: source.into() }
    }
}
