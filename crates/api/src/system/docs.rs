//! `/openapi.json` and `/docs`.
//!
//! The page is one file, made from the document when it is opened. It loads nothing from elsewhere, so it works without
//! the internet and tells nobody that it is read.

use std::sync::LazyLock;

use axum::{
    http::{HeaderName, header},
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;

/// Made once: it depends on nothing but the code.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&crate::openapi()).expect("a document of strings and lists is JSON").into());

const PAGE: &str = include_str!("docs.html");

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Get this document
///
/// The OpenAPI 3.1 document of every route.
#[utoipa::path(get, path = "/openapi.json", tag = "system",
    responses((status = 200, description = "The document", content_type = "application/json", body = Object)))]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// Read the documentation
///
/// A page made from the OpenAPI document. It loads nothing from elsewhere.
#[utoipa::path(get, path = "/docs", tag = "system",
    responses((status = 200, description = "The page", content_type = "text/html", body = String)))]
pub(super) async fn docs() -> Response {
    let policy: (HeaderName, &str) = (header::CONTENT_SECURITY_POLICY, POLICY);
    ([policy, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(PAGE)).into_response()
}
