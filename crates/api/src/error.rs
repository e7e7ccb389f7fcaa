//! What a client is told when a request fails, and what the log is told.
//!
//! Clients crash on error bodies that are not a JSON object with a string `error`, so there is one shape, also for
//! unknown routes and broken bodies. The two texts are kept apart: `message` is for the client; the source, with its
//! chain, is logged once when the response is made, and never sent.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// A request that failed. One pointer wide, since every handler's result has room for it.
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    message: Cow<'static, str>,
    code: Option<&'static str>,
    details: Option<Value>,
    budget: Option<BudgetNumbers>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field by its name on the wire, for example `mcpServers[0].url`.
    pub field: String,
    pub message: String,
}

/// The body of every response that is not a success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error, example = json!({"error": "Not Found", "message": "Agent agent_1 not found"}))]
pub(crate) struct ErrorBody {
    /// The status's reason phrase.
    error: &'static str,
    /// A sentence that says what was wrong.
    message: Cow<'static, str>,
    /// A word for programs, where more than the status is to be told: `VALIDATION_FAILED`, `disk_full`, `thread_busy`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// For `VALIDATION_FAILED`: an array of `{field, message}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
    /// With 402: US dollars that are left.
    #[serde(rename = "currentBudget", skip_serializing_if = "Option::is_none")]
    current_budget: Option<f64>,
    /// With 402: how much was spent, of what.
    #[serde(rename = "budgetStatus", skip_serializing_if = "Option::is_none")]
    budget_status: Option<BudgetNumbers>,
}

/// What a project may spend and has spent, in US dollars. A limit of `null` is none.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BudgetNumbers {
    pub balance: f64,
    pub daily_limit: Option<f64>,
    pub daily_spent: f64,
    pub monthly_limit: Option<f64>,
    pub monthly_spent: f64,
    pub total_limit: Option<f64>,
    pub total_spent: f64,
}

impl Error {
    /// Makes an error with a sentence for the client.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Parts {
            status,
            message,
            code: None,
            details: None,
            budget: None,
            retry_after: None,
            source: None,
        }))
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 for a thing that is not there, or belongs to another project.
    pub(crate) fn not_found(kind: &str, id: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{kind} {id} not found"))
    }

    /// 501 for what is known and not done here.
    pub(crate) fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message).with_code("NOT_IMPLEMENTED")
    }

    /// 400 for fields whose values are not acceptable.
    pub(crate) fn invalid(fields: Vec<FieldError>) -> Self {
        let message = fields.iter().map(|field| format!("{}: {}", field.field, field.message)).collect::<Vec<_>>();
        Self::bad_request(message.join("; ")).with_code("VALIDATION_FAILED").with_details(json!(fields))
    }

    /// 400 for one field whose value is not acceptable.
    pub(crate) fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// 400 for a field that must be there.
    pub(crate) fn missing_field(field: &str) -> Self {
        Self::bad_request(format!("Missing required field: {field}"))
            .with_code("VALIDATION_FAILED")
            .with_details(json!([FieldError { field: field.to_owned(), message: "is required".to_owned() }]))
    }

    /// 500. The client learns nothing; the log gets the source.
    pub(crate) fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong on the server; its log says more")
            .with_source(source)
    }

    /// 503 for what may work again soon.
    pub(crate) fn unavailable(
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_retry_after(Duration::from_secs(2)).with_source(source)
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Tells that a budget is used up: how much was spent, of what.
    pub(crate) fn with_budget(mut self, budget: BudgetNumbers) -> Self {
        self.0.budget = Some(budget);
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        // Here and nowhere else: whoever turns an error into a response gives up on it.
        // What is not served yet is no failure of ours: the answer says all there is to say.
        if self.0.status.is_server_error() && self.0.status != StatusCode::NOT_IMPLEMENTED {
            let mut chain = String::new();
            let mut source = self.source();
            while let Some(err) = source {
                chain.push_str(if chain.is_empty() { "" } else { ": " });
                chain.push_str(&err.to_string());
                source = err.source();
            }
            tracing::error!(status = self.0.status.as_u16(), cause = %chain, "{}", self.0.message);
        }
        let Parts { status, message, code, details, budget, retry_after, source: _ } = *self.0;
        let error = status.canonical_reason().unwrap_or("Error");
        let (current_budget, budget_status) = (budget.map(|_| 0.0), budget);
        let body = ErrorBody { error, message, code, details, current_budget, budget_status };
        let mut response = (status, Json(body)).into_response();
        if let Some(delay) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(delay));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Gives a delay as a header's value, rounded up: who waits that long has waited long enough.
pub(crate) fn whole_seconds(delay: Duration) -> HeaderValue {
    HeaderValue::from(delay.as_millis().div_ceil(1000) as u64)
}

impl From<store::Error> for Error {
    fn from(err: store::Error) -> Self {
        use store::Error as E;
        match err {
            E::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, err.to_string()),
            E::Busy => Self::new(StatusCode::CONFLICT, "The thread is busy with another run").with_code("thread_busy"),
            E::Conflict(message) => Self::new(StatusCode::CONFLICT, message).with_code("conflict"),
            E::KeyReused => Self::new(StatusCode::CONFLICT, err.to_string()).with_code("key_reused"),
            E::State(message) => Self::bad_request(message),
            E::Unavailable(_) => Self::unavailable("The database is not reachable right now; try again", err),
            E::DiskFull(_) => disk_full().with_source(err),
            E::LeaseLost | E::Database(_) | E::Unreadable { .. } | E::Setup(_) => Self::internal(err),
        }
    }
}

impl From<sandbox::Error> for Error {
    fn from(err: sandbox::Error) -> Self {
        use sandbox::Error as E;
        match err {
            E::NotFound(_) => Self::new(StatusCode::NOT_FOUND, sentence(&err)),
            E::NotListening => Self::new(StatusCode::CONFLICT, sentence(&err)),
            E::IsDirectory(_) | E::NotADirectory(_) | E::Refused { .. } => {
                Self::new(StatusCode::CONFLICT, sentence(&err))
            }
            E::PermissionDenied(_) | E::Outside(_) => Self::new(StatusCode::FORBIDDEN, sentence(&err)),
            E::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, sentence(&err)),
            E::DiskFull => disk_full(),
            E::DiskLimit => {
                let message = "The environment takes as much of the disk as it may; remove what is not needed";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, message).with_code("disk_limit")
            }
            E::NoImage(ref name) => {
                let message = format!("There is no image '{name}' on this server");
                Self::new(StatusCode::CONFLICT, message).with_code("no_image")
            }
            E::ImageRefused(ref name) => {
                let message = format!("Environments may not use the image '{name}' on this server");
                Self::new(StatusCode::CONFLICT, message).with_code("image_refused")
            }
            E::CannotBuild(_) | E::BuildFailed(_) => {
                Self::new(StatusCode::CONFLICT, sentence(&err)).with_code("build_failed")
            }
            E::Unfiltered(_) => {
                let message = "This server cannot give containers the internet without the private networks around it; \
                               set internetAccess to false, or see the server's log";
                Self::new(StatusCode::CONFLICT, message).with_code("egress_not_enforced").with_source(err)
            }
            E::NoEngine(_) => Self::unavailable("The container engine does not answer right now; try again", err),
            E::Gone => Self::unavailable("The container has just ended; try again", err),
            E::StartFailed { .. } | E::Other { .. } => Self::internal(err),
        }
    }
}

impl From<ledger::Error> for Error {
    fn from(err: ledger::Error) -> Self {
        use ledger::{Error as E, history::Error as H};
        match err {
            E::History(H::NotFound(path)) => {
                Self::new(StatusCode::NOT_FOUND, format!("There is no '{path}' in the snapshot"))
            }
            E::History(H::NotAFile { path, why }) => Self::new(StatusCode::CONFLICT, format!("'{path}' {why}")),
            E::History(H::TooManyFiles(most)) => {
                let message = format!("The workspace holds more than {most} files; this server remembers no more");
                Self::new(StatusCode::CONFLICT, message).with_code("too_many_files")
            }
            E::History(H::DiskFull(_)) => disk_full().with_source(err),
            E::History(_) | E::Name(_) | E::CutOff(_) => Self::internal(err),
            E::Workspace(err) => err.into(),
            E::Store(err) => err.into(),
            E::InUse(run) => {
                let message = format!(
                    "The run {run} is under way in this environment: wait for its end, or cancel it, before all files are \
                     changed under it"
                );
                Self::new(StatusCode::CONFLICT, message).with_code("environment_busy")
            }
            E::Elsewhere => {
                let message = "The step was made in another environment than the one the thread works in now";
                Self::new(StatusCode::CONFLICT, message).with_code("another_environment")
            }
            E::Contended => Self::unavailable("Others change this environment all the time; try again", err),
        }
    }
}

fn disk_full() -> Error {
    Error::new(StatusCode::INSUFFICIENT_STORAGE, "No space is left on the server's disk").with_code("disk_full")
}

/// Gives an error's own text as a sentence for the client.
pub(crate) fn sentence(err: &impl fmt::Display) -> String {
    let text = err.to_string();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
