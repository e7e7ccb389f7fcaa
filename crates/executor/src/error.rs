//! Why driving a run ends early: because it shall stop, or because something failed.

use crate::stop::Stop;

/// What ends the driving of a run before its natural end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// Not a failure.
    #[error("stopped: {0:?}")]
    Stop(Stop),
    /// The run has failed, and this is what the user reads.
    #[error("{message}")]
    Failed {
        code: &'static str,
        message: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The rows could not be read or written. The run is not marked: whoever claims it next goes on.
    #[error("cannot reach the run's rows")]
    Store(#[source] store::Error),
}

impl End {
    pub(crate) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into(), source: None }
    }

    /// Tells whether the conversation was more than the model's window takes.
    pub(crate) fn is_window_exceeded(&self) -> bool {
        matches!(self, Self::Failed { code: "context_window_exceeded", .. })
    }

    pub(crate) fn caused<E>(code: &'static str, message: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let message = message.into();
        move |source| Self::Failed { code, message, source: Some(source.into()) }
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<store::Error> for End {
    fn from(err: store::Error) -> Self {
        match err {
            store::Error::LeaseLost => Self::Stop(Stop::LeaseLost),
            err => Self::Store(err),
        }
    }
}
