//! What can go wrong with writing down the past, or reading it.

/// An error of the ledger. What was written down before is not touched by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files of the past, or those of the workspace.
    #[error("the history of an environment failed")]
    History(#[source] history::Error),
    #[error("cannot reach the workspace")]
    Workspace(#[source] sandbox::Error),
    #[error("cannot reach the rows of a history")]
    Store(#[source] store::Error),
    /// A row names what cannot be a snapshot.
    #[error("the snapshot's name is not one")]
    Name(#[source] history::InvalidId),
    #[error("work on a history was cut off")]
    CutOff(#[source] tokio::task::JoinError),
    /// All files would change under a run that works with them.
    #[error("the run {0} is under way in the environment")]
    InUse(domain::RunId),
    /// The snapshot is of an environment that this one was not made from.
    #[error("the snapshot is of another environment")]
    Elsewhere,
    /// Others wrote as often as we tried.
    #[error("other snapshots are taken all the time")]
    Contended,
}

impl From<history::Error> for Error {
    fn from(err: history::Error) -> Self {
        Self::History(err)
    }
}

impl From<store::Error> for Error {
    fn from(err: store::Error) -> Self {
        Self::Store(err)
    }
}
