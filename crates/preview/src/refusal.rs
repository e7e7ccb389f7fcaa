//! What is answered where nothing can be passed on: a page for people, JSON for programs.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use serde_json::json;

use crate::Body;

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such preview, or no more, or the token is another's: one answer, that tells nothing about which.
    Unknown,
    /// Not a request that can be passed on.
    Malformed,
    NotRunning,
    NotListening(u16),
    /// What listens closed the connection, or does not speak HTTP.
    Broken(u16),
    /// What listens takes too long to begin its answer.
    Silent(u16),
    Busy,
    /// A part of the server does not answer.
    Unavailable,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotRunning | Self::NotListening(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::Silent(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Unknown => {
                "There is no such preview: it may have expired or been revoked. Ask for a new link.".into()
            }
            Self::Malformed => "This is not a request that can be passed on.".into(),
            Self::NotRunning => "The environment's container does not run, and a preview does not start it. Send the \
                                 agent a message, or start the environment."
                .into(),
            Self::NotListening(port) => format!("Nothing listens on port {port} of the environment right now."),
            Self::Broken(port) => {
                format!("What listens on port {port} of the environment closed the connection or does not speak HTTP.")
            }
            Self::Silent(port) => format!("What listens on port {port} of the environment does not answer."),
            Self::Busy => "Too many requests to this preview are under way. Try again in a moment.".into(),
            Self::Unavailable => "The server cannot open previews right now. Try again in a moment.".into(),
        }
    }

    /// Makes the answer: a page where `wants_page`.
    pub(crate) fn response(self, wants_page: bool) -> Response<Body> {
        let (status, sentence) = (self.status(), self.sentence());
        let reason = status.canonical_reason().unwrap_or("Error");
        // Nothing of the request is repeated in it.
        let (kind, text) = if wants_page {
            let page = format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{reason}</title>\
                 <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem}}</style>\
                 <h1>{reason}</h1><p>{sentence}</p></html>\n"
            );
            ("text/html; charset=utf-8", page)
        } else {
            ("application/json", json!({ "error": reason, "message": sentence }).to_string())
        };
        let mut response = Response::new(Either::Right(Full::new(Bytes::from(text))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
