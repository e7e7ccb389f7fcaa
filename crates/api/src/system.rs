//! What the server tells of itself, without a key: is it well, what is it, what has it done.

mod docs;
mod health;
mod metrics;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use health::Checked;
pub(crate) use metrics::Counted;

use crate::Api;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(version))
        .routes(routes!(metrics::metrics))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::docs))
}

/// What this build is.
#[derive(Serialize, ToSchema)]
struct VersionView {
    #[schema(example = "0.1.0")]
    build_version: String,
    /// RFC 3339.
    build_timestamp: Option<String>,
    git_commit: Option<String>,
    skills_hash: Option<String>,
    skills_version: Option<String>,
    /// Always null: nothing here runs on Node.js.
    node_version: Option<String>,
}

/// Get the version
#[utoipa::path(get, path = "/version", tag = "system",
    responses((status = 200, description = "The version", body = VersionView)))]
async fn version(State(api): State<Api>) -> Json<VersionView> {
    let version = api.settings.version.clone();
    Json(VersionView {
        build_version: version.version,
        build_timestamp: version.built_at,
        git_commit: version.git_commit,
        skills_hash: None,
        skills_version: None,
        node_version: None,
    })
}
