//! `POST /webhooks/triggers/{id}`: where senders tell of events. No key opens it; the signature does.
//!
//! A trigger that is not there and a signature that is wrong are answered alike, and counted against the address like
//! wrong keys. Nothing of a body is parsed before its signature was found right.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Extension, Json,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;
use domain::{
    TriggerId, signature,
    trigger::{Delivery, Source},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Map, Value};
use store::triggers::Received;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, body, capacity, limits::Limits, path::Path};

/// The longest name that a sender may have for an event or a delivery.
const MAX_NAME_BYTES: usize = 256;

/// Gives the route, which needs no key.
pub(crate) fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(receive_event))
}

/// What was done with an event. The same again is answered the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReceivedView {
    /// Always true.
    received: bool,
    /// A run was started, now or when it was told before.
    triggered: bool,
    execution_id: Option<String>,
    thread_id: Option<String>,
    /// Why nothing was started.
    reason: Option<String>,
}

/// Tell a trigger of an event
///
/// Signed with the trigger's secret: `X-Webhook-Signature` or `X-Hub-Signature-256` with the HMAC-SHA256 of the body in hex
/// or base64, with `sha256=` before it or not; `X-Gitlab-Token` with the secret itself; or the three headers of Standard
/// Webhooks. The event's name is in `X-Webhook-Event`, `X-GitHub-Event` or `X-Gitlab-Event`, else in `event` or `type` of
/// the body. What has the same `X-Webhook-Delivery`, `X-GitHub-Delivery`, `X-Gitlab-Event-UUID` or `webhook-id` as something
/// before is not done again; without any of them, what has the same body within five minutes.
#[utoipa::path(post, path = "/webhooks/triggers/{id}", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    request_body(content = Object, description = "The event's payload"),
    responses(
        (status = 202, description = "It was taken, or is not what the trigger waits for", body = ReceivedView),
        (status = 401, description = "No such trigger, or the signature is wrong", body = crate::error::ErrorBody),
        (status = 429, description = "Too many events, or too many wrong signatures", body = crate::error::ErrorBody),
        (status = 503, description = "Too many runs wait; send it again later", body = crate::error::ErrorBody),
    ))]
async fn receive_event(
    State(api): State<Api>,
    Extension(limits): Extension<Arc<Limits>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<ReceivedView>)> {
    let address = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
    let refused = || {
        limits.count_failure(address)?;
        Err(Error::new(
            StatusCode::UNAUTHORIZED,
            "There is no such trigger, or the signature is not made with its secret",
        ))
    };
    let found = match id.parse::<TriggerId>() {
        Ok(id) => api.store.find_trigger_to_fire(&id).await?,
        Err(_) => None,
    };
    let Some((trigger, secret)) = found else { return refused() };
    let (parts, body) = request.into_parts();
    let settings = &api.settings;
    let body = body::read(&parts.headers, body, settings.max_body_bytes, settings.body_timeout).await?;
    if !is_signed(trigger.source, secret.expose_secret(), &parts.headers, &body) {
        return refused();
    }
    limits.count_event(&trigger.id)?;
    let delivery = Delivery {
        id: name(&parts.headers, &["x-webhook-delivery", "x-github-delivery", "x-gitlab-event-uuid", "webhook-id"])?,
        event: name(&parts.headers, &["x-webhook-event", "x-github-event", "x-gitlab-event"])?,
        payload: parse(&body, settings.max_json_depth)?,
    };
    capacity::check(&api, &trigger.project_id, false).await?;
    let received = match api.store.receive(&trigger.project_id, &trigger.id, &delivery, &body).await {
        Err(store::Error::NotFound { .. }) => return refused(),
        received => received?,
    };
    let view = match received {
        Received::Taken(execution) => ReceivedView {
            received: true,
            triggered: execution.run_id.is_some(),
            execution_id: Some(execution.id.into()),
            thread_id: execution.thread_id.map(Into::into),
            reason: execution.error.filter(|_| execution.run_id.is_none()),
        },
        Received::Passed(why) => {
            ReceivedView { received: true, triggered: false, execution_id: None, thread_id: None, reason: Some(why) }
        }
    };
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// Tells whether what came is signed with the secret, in one of the ways that senders have.
fn is_signed(source: Source, secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(given) = header("x-hub-signature-256").or_else(|| header("x-webhook-signature")) {
        return signature::is_signed(secret, body, given);
    }
    if let (Some(id), Some(timestamp), Some(given)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    {
        return signature::is_standard(secret, id, timestamp, body, given, Utc::now());
    }
    // Only of GitLab: it is the secret itself, which nobody else should send.
    source == Source::Gitlab && header("x-gitlab-token").is_some_and(|token| signature::is_token(secret, token))
}

/// Finds the first of these headers.
fn name(headers: &HeaderMap, names: &[&str]) -> Result<Option<String>> {
    let Some((name, value)) = names.iter().find_map(|name| Some((*name, headers.get(*name)?))) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= MAX_NAME_BYTES => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        _ => Err(Error::invalid_field(name, format!("must be ASCII and have at most {MAX_NAME_BYTES} bytes"))),
    }
}

/// Reads a payload: JSON, or JSON in a form's field `payload`, as GitHub sends it if told so.
fn parse(body: &[u8], max_depth: usize) -> Result<Map<String, Value>> {
    if body.starts_with(b"payload=")
        && let Some((_, payload)) = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload")
    {
        return body::parse(payload.as_bytes(), max_depth);
    }
    body::parse(body, max_depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_may_be_in_a_form() {
        let payload = parse(b"payload=%7B%22a%22%3A1%7D", 8).expect("parses");
        assert_eq!(Value::Object(payload), serde_json::json!({"a": 1}));
        assert!(parse(b"payload=%7B", 8).is_err() && parse(b"[]", 8).is_err() && parse(b"a=1", 8).is_err());
        assert!(parse(b"", 8).expect("nothing is an empty object").is_empty());
    }
}
