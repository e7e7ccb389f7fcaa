//! One span, one id and one line of metrics for each request.
//!
//! The span holds the route, not the path and query: paths name people's files, and queries may hold what should not be
//! in a log. No header is logged.

use std::{any::Any, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;
use uuid::Uuid;

use crate::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How a request is called, in the log and towards its client.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub String);

/// Runs a request in its span, counts it, and names it to the client.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    for name in [header::AUTHORIZATION, HeaderName::from_static("x-api-key")] {
        if let Some(value) = request.headers_mut().get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let id = match request.headers().get(&REQUEST_ID) {
        Some(id) if is_request_id(id.as_bytes()) => id.clone(),
        _ => HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID is ASCII"),
    };
    request.extensions_mut().insert(RequestId(id.to_str().unwrap_or_default().to_owned()));
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    // The two mounts are one route.
    let route = route.strip_prefix("/v1").unwrap_or(route).to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        %method,
        route,
        project = tracing::field::Empty,
    );
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, elapsed_ms = elapsed.as_secs_f64() * 1000.0, "answered"));
    let labels = [("method", known(&method)), ("route", route), ("status", status.to_string())];
    metrics::counter!("atelier_http_requests_total", &labels).increment(1);
    metrics::histogram!("atelier_http_response_seconds", &labels).record(elapsed.as_secs_f64());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Gives the method for a label: any token can be one, and each label is a series that stays.
fn known(method: &Method) -> String {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    if known.contains(method) { method.to_string() } else { "other".to_owned() }
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// Makes a response of a handler's panic, which is a bug of ours.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Error::internal(format!("a handler panicked: {}", text.unwrap_or("without a text"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_are_one_series() {
        assert_eq!(known(&Method::PATCH), "PATCH");
        assert_eq!(known(&Method::from_bytes(b"BREW").unwrap()), "other");
        assert_eq!(known(&Method::from_bytes(b"BREW2").unwrap()), "other");
    }
}
