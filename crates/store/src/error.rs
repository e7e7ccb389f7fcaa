//! What can go wrong with the rows.

/// An error of the store. The first variants are for the caller to act on; the rest is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row, or it belongs to another project, which is the same to the caller.
    #[error("{kind} {id} not found")]
    NotFound { kind: &'static str, id: String },
    /// The thread has a run under way.
    #[error("the thread is busy with another run")]
    Busy,
    /// A row with this name or id is there already.
    #[error("{0}")]
    Conflict(String),
    /// The same idempotency key came with another request.
    #[error("this Idempotency-Key was used for a different request")]
    KeyReused,
    /// The row is not in a state that allows this.
    #[error("{0}")]
    State(String),
    /// Somebody else holds the run now; what was to be written was not.
    #[error("the lease on the run was lost")]
    LeaseLost,
    /// The database cannot be reached right now; the same call may succeed later.
    #[error("the database is not reachable")]
    Unavailable(#[source] sqlx::Error),
    /// The database has no space left on its disk; the same call may succeed once there is some.
    #[error("the database's disk is full")]
    DiskFull(#[source] sqlx::Error),
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A row holds what this version cannot read.
    #[error("cannot read {what} from the database")]
    Unreadable { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot prepare the database: {0}")]
    Setup(String),
}

impl Error {
    pub(crate) fn not_found(kind: &'static str, id: impl ToString) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }

    pub(crate) fn unreadable<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Unreadable { what, source: source.into() }
    }

    /// Tells whether trying again later has a reason to hope.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::DiskFull(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(err: sqlx::Error) -> Self {
        match &err {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(err)
            }
            sqlx::Error::Database(database) => match (database.code().as_deref(), database.constraint()) {
                (_, Some("runs_one_active")) => Self::Busy,
                (_, Some("skills_slug_once")) => {
                    Self::Conflict("the project has a skill that models would call the same".into())
                }
                (_, Some("agents_pkey")) => Self::Conflict("an agent with this id exists already".into()),
                (Some("53100"), _) => Self::DiskFull(err),
                // Class 57: shutting down, crashed, starting up. Class 53: out of memory or connections.
                (Some(code), _) if code.starts_with("57P") || matches!(code, "53200" | "53300") => {
                    Self::Unavailable(err)
                }
                _ => Self::Database(err),
            },
            _ => Self::Database(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    #[derive(Debug)]
    struct Coded(&'static str);

    impl std::fmt::Display for Coded {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_is_wrong() {
        let read = |code| Error::from(sqlx::Error::Database(Box::new(Coded(code))));
        assert!(matches!(read("53100"), Error::DiskFull(_)) && read("53100").is_unavailable());
        for code in ["53200", "53300", "57P01", "57P03"] {
            assert!(matches!(read(code), Error::Unavailable(_)), "{code}");
        }
        assert!(!read("42601").is_unavailable());
    }
}
