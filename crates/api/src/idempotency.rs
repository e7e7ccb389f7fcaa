//! `Idempotency-Key`: a POST that is sent again is answered as the first one was, and does nothing.
//!
//! One layer around every POST. The request is carried out in a task of its own, so that a client that hangs up neither
//! stops it half-way nor keeps its answer from being stored: such a client is the one that will ask again. Answers that
//! a retry may change (5xx, 429) are not kept. Three things are left alone:
//!
//! - `POST /threads`, `POST /threads/{id}/messages` and `POST /runs`: they keep the key with the run they start, in its
//!   transaction, and a retry streams or shows that run.
//! - uploads as forms: sending the same file to the same path again has no other effect, and a file does not fit into
//!   memory.
//! - other streams: what has been streamed is not kept, so their keys are free again as soon as they begin.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{
    responses::{self, Claim, Known},
    runs::Idempotency,
};
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::Instrument;

use crate::{Api, Error, Result, auth::Caller, body, path::without_mount, stream::EVENT_STREAM};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells a client that it reads an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_KEY_BYTES: usize = 255;

/// Headers that belong to an answer, not to the connection it was sent on.
const KEPT_HEADERS: [HeaderName; 5] =
    [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CONTENT_DISPOSITION, header::CACHE_CONTROL];

/// The largest answer that is kept.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How long a claim is valid without a sign of life from its server.
const CLAIM: Duration = Duration::from_secs(30);

/// How long a retry waits for the first request's answer; clients give up after a minute.
const PATIENCE: Duration = Duration::from_secs(25);

/// Reads the key that came with a request.
pub(crate) fn find_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(key) if key.len() <= MAX_KEY_BYTES => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(Error::bad_request(format!(
            "The Idempotency-Key must be 1 to {MAX_KEY_BYTES} printable ASCII characters"
        ))),
    }
}

/// Hashes what a retry must repeat. `target` is method and path without the prefix of the mount.
pub(crate) fn hash(target: &str, body: &[u8], max_depth: usize) -> Vec<u8> {
    // A retry may write the same object in another order.
    let sorted = body::parse::<Value>(body, max_depth).ok().map(|mut body| {
        body.sort_all_objects();
        body.to_string()
    });
    let body = sorted.as_deref().map_or(body, str::as_bytes);
    Sha256::new().chain_update(target).chain_update("\n").chain_update(body).finalize().to_vec()
}

/// Answers a repeated POST as the first one was answered.
pub(crate) async fn layer(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) || is_exempt(&request) {
        return next.run(request).await;
    }
    once(&api, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

fn is_exempt(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"multipart/"));
    is_form || matches!(without_mount(route), "/threads" | "/threads/{id}/messages" | "/runs")
}

async fn once(api: &Api, request: Request, next: Next) -> Result<Response> {
    let Some(key) = find_key(request.headers())? else { return Ok(next.run(request).await) };
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| Error::internal("keys are looked at before the caller is known"))?;
    let (parts, body) = request.into_parts();
    let settings = &api.settings;
    let body = body::read(&parts.headers, body, settings.max_body_bytes, settings.body_timeout).await?;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let target = format!("POST {}", without_mount(path));
    let identity = Idempotency { key, request_hash: hash(&target, &body, settings.max_json_depth) };

    let request = Request::from_parts(parts, Body::from(body));
    // In a task from the claim on: dropped in the middle of it, this would leave a claim that nobody holds.
    let carried_out = answer(api.clone(), caller, identity, request, next);
    match tokio::spawn(carried_out.in_current_span()).await {
        Ok(answer) => answer,
        Err(err) => match err.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(err) => Err(Error::internal(err)),
        },
    }
}

async fn answer(api: Api, caller: Caller, identity: Idempotency, request: Request, next: Next) -> Result<Response> {
    match wait_for_answer(&api, &caller, &identity).await? {
        Ok(claim) => Ok(carry_out(api, claim, request, next).await),
        Err(answer) => replay(answer),
    }
}

/// Gives the right to carry the request out, or else the answer that it got before.
async fn wait_for_answer(
    api: &Api,
    caller: &Caller,
    identity: &Idempotency,
) -> Result<std::result::Result<Claim, responses::Response>> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(10);
    loop {
        let conflict = |message: &'static str, code| Error::new(StatusCode::CONFLICT, message).with_code(code);
        match api.store.claim_request(&caller.project, identity, CLAIM).await? {
            Known::Claimed(claim) => return Ok(Ok(claim)),
            Known::Answered(response) => return Ok(Err(response)),
            Known::Lost => {
                let message = "The server stopped while it carried out the request with this Idempotency-Key; whether \
                               it had an effect is unknown. Look before you send it with another key";
                return Err(conflict(message, "outcome_unknown"));
            }
            Known::UnderWay if Instant::now() < end && !api.stopping.is_cancelled() => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
            Known::UnderWay => {
                let message = "The first request with this Idempotency-Key is still running; try again";
                return Err(conflict(message, "still_running").with_retry_after(Duration::from_secs(5)));
            }
        }
    }
}

fn replay(answer: responses::Response) -> Result<Response> {
    let Some(body) = answer.body() else {
        let message = format!(
            "The request with this Idempotency-Key was carried out and answered with {}, and its answer was too large \
             to be kept",
            answer.status
        );
        return Err(Error::new(StatusCode::CONFLICT, message).with_code("answer_not_kept"));
    };
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    for (name, value) in &answer.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(Error::internal)?;
        response.headers_mut().insert(name, HeaderValue::from_str(value).map_err(Error::internal)?);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Carries a claimed request out and keeps its answer, whether anybody waits for it or not.
async fn carry_out(api: Api, claim: Claim, request: Request, next: Next) -> Response {
    let claim = Freed { api: api.clone(), claim: Some(claim) };
    let response = {
        let running = next.run(request);
        tokio::pin!(running);
        let mut ticks = interval(CLAIM / 3);
        ticks.tick().await;
        loop {
            tokio::select! {
                response = &mut running => break response,
                _ = ticks.tick() => {
                    if let Err(err) = api.store.renew_request(claim.get(), CLAIM).await {
                        tracing::warn!(error = &err as &dyn std::error::Error, "cannot renew the claim of a request");
                    }
                }
            }
        }
    };
    let status = response.status();
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
    let is_final = status.is_success() || (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS);
    if is_stream || !is_final {
        return response;
    }
    let headers = KEPT_HEADERS
        .iter()
        .filter_map(|name| Some((name.to_string(), response.headers().get(name)?.to_str().ok()?.to_owned())))
        .collect();
    let (parts, body) = response.into_parts();
    let (body, kept) = collect(body).await;
    let answer = responses::Response { status: status.as_u16(), headers, body: kept.map(Into::into) };
    keep(&api, claim, &answer).await;
    Response::from_parts(parts, body)
}

/// Reads a body as far as it can be kept; gives it whole again, and as text if it is one.
async fn collect(body: Body) -> (Body, Option<String>) {
    let mut chunks = body.into_data_stream();
    let mut whole: Vec<Bytes> = Vec::new();
    let mut length = 0;
    while length <= MAX_ANSWER_BYTES {
        match chunks.next().await {
            None => {
                let whole = whole.concat();
                let text = String::from_utf8(whole.clone()).ok();
                return (Body::from(whole), text);
            }
            Some(Ok(chunk)) => {
                length += chunk.len();
                whole.push(chunk);
            }
            Some(Err(err)) => {
                let begun = futures::stream::iter(whole.into_iter().map(Ok)).chain(futures::stream::iter([Err(err)]));
                return (Body::from_stream(begun), None);
            }
        }
    }
    (Body::from_stream(futures::stream::iter(whole.into_iter().map(Ok)).chain(chunks)), None)
}

/// Keeps an answer, patiently: without it the effect is there and a retry could only be told that it is unknown.
async fn keep(api: &Api, mut claim: Freed, answer: &responses::Response) {
    let Some(kept) = claim.claim.take() else { return };
    let trying = async {
        while let Err(err) = api.store.answer_request(&kept, answer).await {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot keep the answer of a request, trying again");
            sleep(Duration::from_millis(500)).await;
        }
    };
    if timeout(CLAIM / 2, trying).await.is_err() {
        tracing::error!("could not keep the answer of a request; its retry is told that the outcome is unknown");
    }
}

/// A claim that is given back when it is dropped without an answer: after a failure, a panic, or a stream.
struct Freed {
    api: Api,
    claim: Option<Claim>,
}

impl Freed {
    fn get(&self) -> &Claim {
        self.claim.as_ref().expect("it is taken only by who keeps the answer")
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        // Without a runtime the process is ending, and the retry is told that the outcome is unknown.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = self.api.store.clone();
        runtime.spawn(async move {
            if let Err(err) = store.free_request(&claim).await {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot free the key of a failed request");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_has_the_same_hash_however_it_is_written() {
        let hash = |target, body: &str| hash(target, body.as_bytes(), 8);
        assert_eq!(hash("POST /a", r#"{"a":1,"b":{"c":2,"d":3}}"#), hash("POST /a", r#"{ "b":{"d":3,"c":2}, "a":1}"#));
        assert_eq!(hash("POST /a", ""), hash("POST /a", "{}"));
        assert_ne!(hash("POST /a", "{}"), hash("POST /b", "{}"));
        assert_ne!(hash("POST /a", r#"{"a":1}"#), hash("POST /a", r#"{"a":2}"#));
        assert_ne!(hash("POST /a", "not json"), hash("POST /a", "not JSON"));
    }
}
