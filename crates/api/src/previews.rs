//! `/environments/{id}/previews`: links that open what listens in an environment. [`preview`] opens them.

pub(crate) mod ports;

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use domain::{EnvironmentId, PreviewId, preview::Preview};
use preview::Site;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use store::{Page, Paged, previews::NewPreview};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Result,
    auth::Caller,
    body::Body,
    check::{self, Fields},
    deleted::Deleted,
    environments::find,
    error::ErrorBody,
    list::List,
    path::Path,
    timestamp::Timestamp,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(ports::routes())
        .routes(routes!(list_previews, create_preview))
        .routes(routes!(revoke_preview))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatePreview {
    /// The TCP port in the environment, 1 to 65535. Nothing needs to listen on it yet.
    #[schema(example = 5000)]
    port: i64,
    /// How long the link is good, in seconds; a day if absent, unless the server is set otherwise.
    expires_in: Option<i64>,
    /// What the preview is called in lists.
    name: Option<String>,
    /// Tells what listens that it is called `localhost`, with the port it has inside. For development servers that refuse
    /// names they do not know. Not needed for names below `localhost`, which most take.
    #[serde(default)]
    rewrite_host: bool,
}

/// A port of an environment that whoever has the link may open.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Preview)]
struct PreviewView {
    id: String,
    environment_id: String,
    port: u16,
    name: Option<String>,
    rewrite_host: bool,
    /// Its origin, which opens nothing without the link's token or the cookie that a browser got for it.
    #[schema(example = "http://preview-0190a8b7c1d27e3f8a4b5c6d7e8f9a0b.localhost:8081")]
    origin: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl PreviewView {
    fn new(site: &Site, preview: Preview) -> Self {
        Self {
            origin: site.origin(&preview.id),
            id: preview.id.into(),
            environment_id: preview.environment_id.into(),
            port: preview.port,
            name: preview.name,
            rewrite_host: preview.rewrites_host,
            created_at: preview.created_at.into(),
            expires_at: preview.expires_at.into(),
        }
    }
}

/// A preview that was just made. Its links are shown now and never again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewPreviewView {
    #[serde(flatten)]
    preview: PreviewView,
    /// The link. In a browser it changes its token for a cookie; whoever has it may open the port until it expires.
    url: String,
    /// What tools put before a path of what listens, where they do not know the name in `url` or keep no cookies. No
    /// browser shows anything from there: it is led to `url`.
    tool_url: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct PreviewEnvelope {
    preview: NewPreviewView,
}

impl NewPreviewView {
    fn new(site: &Site, preview: Preview, token: &SecretString) -> Self {
        Self {
            url: site.link(&preview.id, token),
            tool_url: site.tool_link(&preview.id, token),
            preview: PreviewView::new(site, preview),
        }
    }
}

/// List previews
///
/// The newest first; those that expired or were revoked are not among them. The links themselves are not kept.
#[utoipa::path(get, path = "/environments/{id}/previews", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "All of them", body = List<PreviewView>)))]
async fn list_previews(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<List<PreviewView>>> {
    find(&api, &caller, &id).await?;
    let items = api.store.list_previews(&caller.project, &id).await?;
    let total = items.len() as i64;
    let site = &api.settings.previews.site;
    Ok(Json(List::new(Paged { items, total }, Page::ALL, |preview| PreviewView::new(site, preview))))
}

/// Open a port by a link
///
/// The link works while something listens on the port, whatever network the environment has, for HTTP and WebSocket. It
/// does not start a container. No API key is needed to follow it: give it only to whom it is for.
#[utoipa::path(post, path = "/environments/{id}/previews", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = CreatePreview,
    responses(
        (status = 201, description = "The preview with its links, which are shown only now", body = PreviewEnvelope),
        (status = 409, description = "The environment has too many previews", body = ErrorBody),
    ))]
async fn create_preview(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<CreatePreview>,
) -> Result<(StatusCode, Json<PreviewEnvelope>)> {
    let settings = &api.settings.previews;
    let mut fields = Fields::default();
    let port = u16::try_from(body.port).ok().filter(|port| *port > 0);
    if port.is_none() {
        fields.refuse("port", "must be between 1 and 65535");
    }
    let expires_in = match body.expires_in {
        None => settings.default_expiry.min(settings.max_expiry),
        Some(seconds) => Duration::from_secs(seconds.max(0).unsigned_abs()),
    };
    if expires_in.is_zero() || expires_in > settings.max_expiry {
        fields.refuse("expiresIn", format!("must be between 1 and {} seconds", settings.max_expiry.as_secs()));
    }
    if let Some(name) = &body.name {
        fields.check("name", check::name(name));
    }
    fields.finish()?;
    let new =
        NewPreview { port: port.unwrap_or_default(), name: body.name, rewrites_host: body.rewrite_host, expires_in };
    let (preview, token) = api.store.create_preview(&caller.project, &id, new).await?;
    let preview = NewPreviewView::new(&settings.site, preview, &token);
    Ok((StatusCode::CREATED, Json(PreviewEnvelope { preview })))
}

/// Revoke a preview
///
/// Within a second its link opens nothing on any server, and what is open through it ends.
#[utoipa::path(delete, path = "/environments/{id}/previews/{previewId}", tag = "environments",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("previewId" = String, Path, description = "The preview's id"),
    ),
    responses((status = 200, description = "It is revoked", body = Deleted)))]
async fn revoke_preview(
    State(api): State<Api>,
    caller: Caller,
    Path((id, preview)): Path<(EnvironmentId, PreviewId)>,
) -> Result<Json<Deleted>> {
    api.store.revoke_preview(&caller.project, &id, &preview).await?;
    Ok(Json(Deleted::new("previewId", &preview)))
}
