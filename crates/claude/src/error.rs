//! What can go wrong between us and the model, one variant per thing a caller does something about.
//!
//! Two questions decide what happens next: is the failure passing ([`Error::is_retryable`]), and had the reply already
//! completed a block ([`Error::after_output`])? The client retries by itself only when the answers are yes and no.
//! A request repeated after output could run the same tool call twice, so that choice belongs to the caller.

use std::time::Duration;

/// Why a call to the model failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The back end refused: any status of 400 and above that has no variant of its own.
    #[error("the model back end answered {status} {kind}: {message}")]
    Status {
        status: u16,
        /// `error.type` of the body, such as `invalid_request_error`; empty when the body was not the API's.
        kind: String,
        /// `error.details.error_code`, such as `enforced_spend_limit_reached`.
        code: Option<String>,
        message: String,
        request_id: Option<String>,
        /// The `x-should-retry` header, which overrules the status.
        should_retry: Option<bool>,
    },
    /// The conversation no longer fits the model's window: compact, do not retry.
    #[error("the prompt is too long: {message}")]
    PromptTooLong { message: String, request_id: Option<String> },
    /// The back end has no room now (429, 529, or their event in a stream), still so after all retries.
    #[error("the model back end is overloaded ({kind}): {message}")]
    Overloaded { status: Option<u16>, kind: String, message: String, request_id: Option<String>, after_output: bool },
    /// The stream carried an `error` event other than overload, after HTTP 200.
    #[error("the model's stream failed with {kind}: {message}")]
    Stream { kind: String, message: String, request_id: Option<String>, after_output: bool },
    /// The stream ended before the message did.
    #[error("the model's stream ended before the message did")]
    Truncated {
        after_output: bool,
        #[source]
        source: Option<reqwest::Error>,
    },
    /// No byte came for [`crate::Options::silence_limit`]; pings count as bytes.
    #[error("the model back end sent nothing for {} s", limit.as_secs_f64())]
    Silence { limit: Duration, after_output: bool },
    /// No connection, or it broke before the answer's headers.
    #[error("cannot reach the model back end")]
    Connect(#[source] reqwest::Error),
    /// What came back is not the Messages API.
    #[error("cannot understand the model back end: {message}")]
    Protocol { message: String, after_output: bool },
    /// A good status, but no event stream: the address is not a Messages API.
    #[error("the model back end answered with {content_type:?} instead of an event stream")]
    NotAStream { content_type: String },
    /// What we were asked to send, or the settings, cannot be right. Nothing was sent.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Whether the same request may succeed later. Says nothing about output already seen: see [`Error::after_output`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { code: Some(code), .. } if is_spend_limit(code) => false,
            Self::Status { should_retry: Some(decided), .. } => *decided,
            Self::Status { status, .. } => matches!(status, 408 | 409 | 429 | 500..),
            Self::Stream { kind, .. } => matches!(kind.as_str(), "api_error" | "timeout_error"),
            Self::Overloaded { .. }
            | Self::Truncated { .. }
            | Self::Silence { .. }
            | Self::Connect(_)
            | Self::Protocol { .. } => true,
            Self::PromptTooLong { .. } | Self::NotAStream { .. } | Self::Invalid(_) => false,
        }
    }

    /// Whether a limit on money was reached, which no waiting helps against.
    pub fn is_spend_limit(&self) -> bool {
        matches!(self, Self::Status { code: Some(code), .. } if is_spend_limit(code))
    }

    /// Whether the reply had completed at least one content block before it failed.
    pub fn after_output(&self) -> bool {
        match self {
            Self::Overloaded { after_output, .. }
            | Self::Stream { after_output, .. }
            | Self::Truncated { after_output, .. }
            | Self::Silence { after_output, .. }
            | Self::Protocol { after_output, .. } => *after_output,
            Self::Status { .. }
            | Self::PromptTooLong { .. }
            | Self::Connect(_)
            | Self::NotAStream { .. }
            | Self::Invalid(_) => false,
        }
    }

    /// One word for it, for those who count failures: the back end's own type where it gave one.
    pub fn kind(&self) -> &str {
        match self {
            Self::Status { kind, .. } | Self::Overloaded { kind, .. } | Self::Stream { kind, .. }
                if !kind.is_empty() =>
            {
                kind
            }
            Self::Status { .. } | Self::Overloaded { .. } | Self::Stream { .. } => "_OTHER",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::Truncated { .. } => "truncated",
            Self::Silence { .. } => "timeout",
            Self::Connect(_) => "connect",
            Self::Protocol { .. } | Self::NotAStream { .. } => "protocol",
            Self::Invalid(_) => "invalid_request",
        }
    }

    /// The back end's id of the failed request, for its support and our log.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Status { request_id, .. }
            | Self::PromptTooLong { request_id, .. }
            | Self::Overloaded { request_id, .. }
            | Self::Stream { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol { message: message.into(), after_output: false }
    }

    /// The same failure, marked with whether a block had been completed.
    pub(crate) fn mark_output(mut self, seen: bool) -> Self {
        match &mut self {
            Self::Overloaded { after_output, .. }
            | Self::Stream { after_output, .. }
            | Self::Truncated { after_output, .. }
            | Self::Silence { after_output, .. }
            | Self::Protocol { after_output, .. } => *after_output = seen,
            Self::Status { .. }
            | Self::PromptTooLong { .. }
            | Self::Connect(_)
            | Self::NotAStream { .. }
            | Self::Invalid(_) => {}
        }
        self
    }
}

/// A limit on money does not pass by waiting some seconds, although it is a 429.
pub(crate) fn is_spend_limit(code: &str) -> bool {
    matches!(code, "enforced_spend_limit_reached" | "contract_spend_limit_reached")
}
