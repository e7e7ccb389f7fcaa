//! The connection to one back end: address, key, limits, and how its refusals are read.
//!
//! Made for a server: connections are kept and reused (one per running turn, HTTP/1.1, so that no stream waits behind
//! another), the key is in no debug output, and redirects are not followed, because they would carry the key elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use url::{Host, Url};

use crate::fold::excerpt;
use crate::measure::Names;
use crate::{Auth, Error, auth, default_version, error, retry};

/// How to reach a back end. [`Options::new`] fills in what suits the address.
#[derive(Clone)]
pub struct Options {
    /// With or without a path; `/v1/messages` is put behind it.
    pub base_url: Url,
    pub api_key: Option<SecretString>,
    pub auth: Auth,
    /// The `anthropic-version` header.
    pub version: String,
    /// Sent last, so they replace ours of the same name. Values may be secrets and are never shown.
    pub custom_headers: Vec<(String, String)>,
    /// Repetitions after the first try.
    pub max_retries: u32,
    pub max_retry_delay: Duration,
    /// A stream without a single byte for this long is given up; pings count.
    pub silence_limit: Duration,
    pub connect_timeout: Duration,
}

impl Options {
    pub fn new(base_url: Url, api_key: Option<SecretString>) -> Self {
        Self {
            auth: Auth::default_for(&base_url),
            version: default_version(&base_url).to_owned(),
            base_url,
            api_key,
            custom_headers: Vec::new(),
            max_retries: 10,
            max_retry_delay: Duration::from_secs(60),
            silence_limit: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.custom_headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Options")
            .field("base_url", &shown(&self.base_url))
            .field("has_api_key", &self.api_key.is_some())
            .field("auth", &self.auth)
            .field("version", &self.version)
            .field("custom_headers", &names)
            .field("max_retries", &self.max_retries)
            .field("max_retry_delay", &self.max_retry_delay)
            .field("silence_limit", &self.silence_limit)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// A client of one back end; cheap to clone, all clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    http: reqwest::Client,
    headers: HeaderMap,
    messages: Url,
    /// What labels of measurements may say.
    pub(crate) known_models: Names,
    pub(crate) known_errors: Names,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.inner.options).finish()
    }
}

/// What `GET` waits for in all: only small, quick answers are got that way.
const GET_TIMEOUT: Duration = Duration::from_secs(30);
const GET_RETRIES: u32 = 2;
/// How much of a refusal is read for its message.
const MAX_ERROR_BYTES: usize = 64 << 10;

impl Client {
    /// Prepares a client; connects to nothing yet.
    /// # Errors
    /// `Invalid` when the address, the key or a custom header cannot be sent.
    pub fn new(options: Options) -> Result<Self, Error> {
        if !matches!(options.base_url.scheme(), "http" | "https") || options.base_url.host().is_none() {
            return Err(Error::Invalid(format!(
                "the model base URL {} is not an http or https address",
                shown(&options.base_url)
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            "anthropic-version",
            HeaderValue::from_str(&options.version)
                .map_err(|_| Error::Invalid(format!("anthropic-version {:?} cannot be sent", options.version)))?,
        );
        if let Some(key) = &options.api_key {
            options.auth.apply(&mut headers, key)?;
        }
        auth::insert_custom(&mut headers, &options.custom_headers)?;

        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(512)
            .pool_idle_timeout(Duration::from_secs(90))
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&options.base_url) {
            // A proxy of the environment has its own loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|err| Error::Invalid(format!("cannot set up HTTP: {err}")))?;
        let messages = endpoint(&options.base_url, "messages");
        let (known_models, known_errors) = (Names::default(), Names::default());
        Ok(Self { inner: Arc::new(Inner { options, http, headers, messages, known_models, known_errors }) })
    }

    /// Tells whether this is the API itself, which has tools of its own. What imitates it has not.
    pub fn has_server_tools(&self) -> bool {
        auth::is_anthropic(&self.inner.options.base_url)
    }

    pub(crate) fn endpoint(&self, name: &str) -> Url {
        endpoint(&self.inner.options.base_url, name)
    }

    /// Gets a small JSON answer.
    pub(crate) async fn get(&self, url: Url) -> Result<Bytes, Error> {
        let inner = &self.inner;
        let mut attempt = 0;
        loop {
            let request = inner.http.get(url.clone()).headers(inner.headers.clone()).timeout(GET_TIMEOUT);
            let (err, asked) = match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    return answer.bytes().await.map_err(|err| Error::Connect(err.without_url()));
                }
                Ok(answer) => refusal(answer).await,
                Err(err) => (Error::Connect(err.without_url()), None),
            };
            attempt += 1;
            if !err.is_retryable() || attempt > GET_RETRIES.min(inner.options.max_retries) {
                return Err(err);
            }
            tokio::time::sleep(retry::delay(attempt, asked, Duration::from_secs(8), rand::random())).await;
        }
    }
}

impl Inner {
    /// Posts a request for a stream. The answer's status is good and its body an event stream, else it is an error, with
    /// the delay its headers ask for.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        betas: &[String],
    ) -> Result<reqwest::Response, (Error, Option<Duration>)> {
        let mut headers = self.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if !betas.is_empty() {
            let own = headers.get("anthropic-beta").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let all: Vec<&str> = own.as_deref().into_iter().chain(betas.iter().map(String::as_str)).collect();
            let value = HeaderValue::from_str(&all.join(","))
                .map_err(|_| (Error::Invalid("a beta name cannot be sent in a header".into()), None))?;
            headers.insert("anthropic-beta", value);
        }
        let request = self.http.post(self.messages.clone()).headers(headers).body(body);
        let limit = self.options.silence_limit;
        let answer = match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) => return Err((Error::Connect(err.without_url()), None)),
            Err(_) => return Err((Error::Silence { limit, after_output: false }, None)),
        };
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let kind = header(answer.headers(), "content-type").unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err((Error::NotAStream { content_type: kind }, None));
        }
        Ok(answer)
    }
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorDetail,
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    r#type: Option<String>,
    message: Option<String>,
    details: Option<ErrorCode>,
}

#[derive(Deserialize)]
struct ErrorCode {
    error_code: Option<String>,
}

/// Reads an answer of 300 and above.
async fn refusal(mut answer: reqwest::Response) -> (Error, Option<Duration>) {
    let status = answer.status().as_u16();
    let asked = retry::asked(answer.headers(), SystemTime::now());
    let should_retry = retry::should_retry(answer.headers());
    let request_id = header(answer.headers(), "request-id");
    let mut body = Vec::new();
    // A body that breaks or drags on still leaves us the status.
    let read = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    (classify(status, &body, request_id, should_retry), asked)
}

fn classify(status: u16, body: &[u8], request_id: Option<String>, should_retry: Option<bool>) -> Error {
    let answer: Option<ErrorAnswer> = serde_json::from_slice(body).ok();
    let request_id = request_id.or(answer.as_ref().and_then(|answer| answer.request_id.clone()));
    let (kind, message, code) = match answer {
        Some(answer) => (
            answer.error.r#type.unwrap_or_default(),
            answer.error.message.unwrap_or_default(),
            answer.error.details.and_then(|details| details.error_code),
        ),
        None => (String::new(), excerpt(String::from_utf8_lossy(body).trim()).to_owned(), None),
    };
    let is_spend_limit = code.as_deref().is_some_and(error::is_spend_limit);
    match status {
        413 => Error::PromptTooLong { message, request_id },
        400 if is_too_long(&message) || code.as_deref().is_some_and(is_too_large) => {
            Error::PromptTooLong { message, request_id }
        }
        429 | 529 if !is_spend_limit && should_retry != Some(false) => {
            Error::Overloaded { status: Some(status), kind, message, request_id, after_output: false }
        }
        _ => Error::Status { status, kind, code, message, request_id, should_retry },
    }
}

/// Codes for what a conversation holds too much of, which a summary of it does not.
fn is_too_large(code: &str) -> bool {
    matches!(code, "image_dimensions_too_large" | "request_body_too_large_after_decoding")
}

/// The API has no code of its own for this; other back ends word it differently.
fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "prompt is too long",
        "prompt too long",
        "exceed context limit",
        "context length",
        "context window",
        "context size",
    ]
    .iter()
    .any(|wording| message.contains(wording))
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `name` behind the base address, whose path is kept; a `/v1` at its end is not doubled.
fn endpoint(base_url: &Url, name: &str) -> Url {
    let mut url = base_url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path);
    url.set_path(&format!("{path}/v1/{name}"));
    url
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The address without a password it may hold.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some("…"));
    }
    url.to_string()
}
