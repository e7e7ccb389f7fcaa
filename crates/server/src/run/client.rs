//! The connection: starts a run and follows its events to the end, over as many connections as that takes.
//!
//! Before anything with a number has come, the same request is sent again: its Idempotency-Key makes it the same run.
//! After that the thread's events are asked for from the last number on. Either way nothing is missed or done twice.

use std::{pin::Pin, time::Duration};

use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::{
    Error,
    event::{Event, Origin},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The server shows that it lives four times as often.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A server that is restarted is back within this many tries, a second or two apart.
const MAX_TRIES: u32 = 30;
/// Without a server at the very beginning there is nothing to wait for.
const MAX_FIRST_TRIES: u32 = 2;
const LONGEST_DELAY: Duration = Duration::from_secs(2);
const LONGEST_ASKED_DELAY: Duration = Duration::from_secs(60);

pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    key: SecretString,
}

/// What to run, and where.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) content: String,
    pub(super) thread: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) model: Option<String>,
}

/// What came.
pub(super) enum Followed {
    Event {
        event: Event,
        data: String,
    },
    /// The connection broke and is being made again.
    Trouble(String),
    /// The run is over and all of it has been told.
    End,
}

type Frames = Pin<Box<dyn Stream<Item = Result<(String, String), String>> + Send>>;

/// A run being followed.
pub(super) struct Following {
    client: Client,
    task: Task,
    idempotency_key: String,
    thread: Option<String>,
    /// The newest number seen.
    last_id: Option<String>,
    frames: Option<Frames>,
    /// The server has taken the task once, so it is there, or coming back.
    is_accepted: bool,
    tries: u32,
    delay: Duration,
    is_over: bool,
}

/// Why a request gave no stream.
enum Refusal {
    /// Trying again has a reason to hope.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    Final(Error),
}

impl Client {
    pub(super) fn new(base: Url, key: SecretString) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(SILENCE_LIMIT);
        let is_here =
            base.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        if is_here {
            // A proxy knows another 127.0.0.1.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|err| Error::Usage(format!("cannot make an HTTP client: {err}")))?;
        Ok(Self { http, base, key })
    }

    pub(super) fn start(self, task: Task) -> Following {
        Following {
            client: self,
            thread: task.thread.clone(),
            task,
            idempotency_key: Uuid::new_v4().to_string(),
            last_id: None,
            frames: None,
            is_accepted: false,
            tries: 0,
            delay: Duration::ZERO,
            is_over: false,
        }
    }

    pub(super) fn request(&self, method: reqwest::Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Ids are pushed as single segments, whatever is in them.
            segments.pop_if_empty();
            if !self.base.path().trim_end_matches('/').ends_with("/v1") {
                segments.push("v1");
            }
            segments.extend(path);
        }
        let mut key = header::HeaderValue::from_str(&format!("Bearer {}", self.key.expose_secret()))
            .unwrap_or(header::HeaderValue::from_static(""));
        key.set_sensitive(true);
        self.http.request(method, url).header(header::AUTHORIZATION, key)
    }
}

impl Following {
    /// Gives what comes next.
    pub(super) async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            if self.is_over {
                return Ok(Followed::End);
            }
            if self.frames.is_none() {
                if !self.delay.is_zero() {
                    tokio::time::sleep(self.delay).await;
                }
                match self.connect().await {
                    Ok(frames) => (self.frames, self.is_accepted) = (Some(frames), true),
                    Err(Refusal::Final(err)) => return Err(err),
                    Err(Refusal::Passing { why, after }) => return self.try_again(&why, after),
                }
            }
            let Some(frames) = &mut self.frames else { continue };
            match frames.next().await {
                Some(Ok((id, data))) => {
                    if let Some(event) = self.note(id, &data) {
                        return Ok(Followed::Event { event, data });
                    }
                }
                Some(Err(why)) => return self.try_again(&why, None),
                None => return self.try_again("the stream ended before the run did", None),
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The thread, once the server has told it.
    pub(super) fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// Asks the server to stop the run.
    pub(super) async fn cancel(&self) -> Result<(), Error> {
        let Some(thread) = &self.thread else {
            return Err(Error::Refused("the server has not accepted the task yet".into()));
        };
        let request = self.client.request(reqwest::Method::POST, &["threads", thread, "cancel"]);
        let response = request.send().await.map_err(|err| self.unreachable(&chain(&err)))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            // It ended in the meantime; its stream says how.
            StatusCode::BAD_REQUEST => Ok(()),
            _ => Err(Error::Refused(read_error(response).await)),
        }
    }

    async fn connect(&self) -> Result<Frames, Refusal> {
        let request = match (&self.thread, &self.last_id) {
            (Some(thread), Some(last_id)) => self
                .client
                .request(reqwest::Method::GET, &["threads", thread, "events"])
                // The header `Accept` asks for the stream, here as for the others.
                .header("last-event-id", last_id),
            (_, _) => match &self.task.thread {
                Some(thread) => self.client.request(reqwest::Method::POST, &["threads", thread, "messages"]),
                None => self.client.request(reqwest::Method::POST, &["threads"]),
            }
            .header("idempotency-key", &self.idempotency_key)
            .json(&body(&self.task)),
        };
        let response = request.header(header::ACCEPT, "text/event-stream").send().await;
        let response = response.map_err(|err| Refusal::Passing { why: chain(&err), after: None })?;
        let status = response.status();
        if status.is_success() {
            return Ok(frames(response));
        }
        let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let why = read_error(response).await;
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refusal::Passing { why, after: after.map(Duration::from_secs) }),
            _ => Err(Refusal::Final(Error::Refused(why))),
        }
    }

    /// Keeps what is needed to go on, and reads the event. `None` for what is no event of the run.
    fn note(&mut self, id: String, data: &str) -> Option<Event> {
        (self.tries, self.delay) = (0, Duration::ZERO);
        if let Ok(origin) = serde_json::from_str::<Origin>(data) {
            self.thread = origin.thread_id.or(origin.thread.map(|thread| thread.id)).or(self.thread.take());
        }
        if !id.is_empty() {
            self.last_id = Some(id);
        }
        // One that this client does not understand is passed on, for those who read the JSON; the greeting of a resumed
        // stream has no type and is for nobody.
        let event = serde_json::from_str(data).unwrap_or(Event::Other);
        if matches!(event, Event::Other) && !data.contains("\"type\"") {
            return None;
        }
        self.is_over = matches!(event, Event::StreamCompleted { .. });
        Some(event)
    }

    fn try_again(&mut self, why: &str, after: Option<Duration>) -> Result<Followed, Error> {
        self.frames = None;
        self.tries += 1;
        let most = if self.is_accepted { MAX_TRIES } else { MAX_FIRST_TRIES };
        if self.tries > most {
            return Err(self.unreachable(why));
        }
        let delay = Duration::from_millis(100) * 2u32.pow(self.tries.min(8));
        self.delay = after.map_or(delay.min(LONGEST_DELAY), |after| after.min(LONGEST_ASKED_DELAY));
        Ok(Followed::Trouble(format!("{why}; trying again")))
    }

    fn unreachable(&self, why: &str) -> Error {
        let kept = match &self.thread {
            Some(thread) if self.is_accepted => {
                format!(
                    "; the task is not lost: it goes on with the server, and `atelier run --thread {thread}` goes on after it"
                )
            }
            _ => String::new(),
        };
        Error::Unreachable { url: self.client.base.to_string(), why: format!("{why}{kept}") }
    }
}

fn body(task: &Task) -> Value {
    let mut body = Map::new();
    body.insert("content".into(), task.content.clone().into());
    body.insert("stream".into(), true.into());
    for (name, value) in [("environmentId", &task.environment), ("agentId", &task.agent)] {
        if let Some(value) = value {
            body.insert(name.into(), value.clone().into());
        }
    }
    if let Some(model) = &task.model {
        body.insert("agentConfig".into(), json!({"model": model}));
    }
    body.into()
}

fn frames(response: Response) -> Frames {
    let frames = response.bytes_stream().eventsource().map(|frame| match frame {
        Ok(frame) => Ok((frame.id, frame.data)),
        Err(err) => Err(chain(&err)),
    });
    Box::pin(frames)
}

async fn read_error(response: Response) -> String {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    match body["message"].as_str().or(body["error"].as_str()) {
        Some(message) => format!("{message} ({})", status.as_u16()),
        None => format!("the server answered {status}"),
    }
}

/// The whole chain of causes; the outermost of an HTTP client says little.
fn chain(err: &(dyn std::error::Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(err), |err| err.source()) {
        let cause = cause.to_string();
        if !causes.iter().any(|said| said.contains(&cause)) {
            causes.push(cause);
        }
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests;
