//! What can go wrong with git.

use std::time::Duration;

/// A failure. All texts are for the client and hold no token; what git itself said is shortened and without colours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image has no git.
    #[error("git is not installed in the environment's image")]
    NoGit,
    #[error("there is no directory '{0}'")]
    NoSuchDirectory(String),
    #[error("'{0}' is not in a git repository")]
    NotARepository(String),
    /// A branch, a remote, a commit or a file is not there; a sentence without its full stop.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{why}")]
    Invalid { field: &'static str, why: String },
    /// The state of the repository does not allow it. `code` is a stable word.
    #[error("{message}")]
    Conflict { code: &'static str, message: String },
    /// The remote wants to know who we are, or does not let us.
    #[error("the remote refuses access: {0}")]
    AccessDenied(String),
    /// The remote cannot be reached.
    #[error("the remote cannot be reached: {0}")]
    Unreachable(String),
    #[error("git did not end within {} s and was stopped", .0.as_secs())]
    TimedOut(Duration),
    /// Anything else that git says.
    #[error("git says: {0}")]
    Failed(String),
    #[error(transparent)]
    Sandbox(#[from] crate::Error),
}

impl Error {
    pub(super) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    /// Says what a failure to reach a remote is, by git's words: it has no codes for it.
    pub(super) fn of_remote(said: String) -> Self {
        let holds = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if holds(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied",
            "returned error: 401",
            "returned error: 403",
            "Host key verification failed",
            "unable to read askpass",
        ]) {
            return Self::AccessDenied(said);
        }
        if holds(&["not found in upstream", "Repository not found", "repository not found", "' not found"])
            || holds(&["returned error: 404", "does not appear to be a git repository", "couldn't find remote ref"])
            || holds(&["does not exist"])
        {
            return Self::NotFound(said);
        }
        if holds(&[
            "Could not resolve",
            "Failed to connect",
            "Couldn't connect",
            "Connection refused",
            "Connection timed out",
            "Connection reset",
            "Network is unreachable",
            "No route to host",
            "unable to access",
            "Could not read from remote",
            "early EOF",
        ]) {
            return Self::Unreachable(said);
        }
        Self::Failed(said)
    }
}
