//! What can go wrong between us and a server.

use std::{error::Error as StdError, time::Duration};

use rmcp::{ServiceError, service::ClientInitializeError};

/// Why a server did not do what it was asked. The texts are for whoever named the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It answered that it cannot.
    #[error("it answered: {0}")]
    Refused(String),
    /// It wants whoever asks to be authorised. `challenge` is its `WWW-Authenticate`.
    #[error("it wants authorisation, and what is configured (bearerToken or headers) is missing or not accepted")]
    Unauthorized { challenge: String },
    #[error("it did not answer within {} seconds", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The connection is of no use any more.
    #[error("the connection ended{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Closed(Option<String>),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Nobody can sign in to it, or nobody could.
    #[error("{0}")]
    SignIn(String),
    /// It says something that the protocol does not have, or that we cannot do.
    #[error("it does not make sense: {0}")]
    Nonsense(String),
}

impl Error {
    /// Tells whether another connection may help.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl From<ServiceError> for Error {
    fn from(err: ServiceError) -> Self {
        if err.is_authorization_required() {
            return Self::Unauthorized { challenge: err.auth_challenge().unwrap_or_default().to_owned() };
        }
        match err {
            ServiceError::McpError(err) => Self::Refused(format!("{} ({})", err.message, err.code.0)),
            ServiceError::TransportClosed => Self::Closed(None),
            ServiceError::TransportSend(err) => Self::Closed(Some(innermost(&err))),
            ServiceError::Timeout { timeout } => Self::TimedOut(timeout),
            err => Self::Nonsense(err.to_string()),
        }
    }
}

impl From<ClientInitializeError> for Error {
    fn from(err: ClientInitializeError) -> Self {
        if err.is_authorization_required() {
            return Self::Unauthorized { challenge: err.auth_challenge().unwrap_or_default().to_owned() };
        }
        match err {
            ClientInitializeError::JsonRpcError(err) => Self::Refused(format!("{} ({})", err.message, err.code.0)),
            ClientInitializeError::ConnectionClosed(_) => Self::Closed(None),
            ClientInitializeError::TransportError { error, .. } => Self::Unreachable(innermost(&error)),
            ClientInitializeError::LegacyFallbackFailed { fallback, .. } => Self::from(*fallback),
            err => Self::Nonsense(err.to_string()),
        }
    }
}

/// Gives the words of the cause: those above it repeat it, each in its own way.
fn innermost(err: &dyn StdError) -> String {
    let mut cause = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
