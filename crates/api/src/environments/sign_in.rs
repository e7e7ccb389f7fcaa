//! Signing in to an environment's MCP servers: begun with a key, ended by whoever comes back with the right state.
//!
//! The callback needs no key, as a browser has none: it is opened by a random state that is good once and for an hour. What
//! it is told is answered with a few fixed sentences, since anybody may send it anything, and whoever is wrong is counted
//! like those with wrong keys.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Extension, Json,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use domain::{EnvironmentId, environment::Environment};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::find;
use crate::{Api, Error, Result, auth::Caller, limits::Limits, path::Path, query::Query, timestamp::Timestamp};

/// The longest part of a query that is looked at. A code may be a whole signed token.
const MAX_PART_BYTES: usize = 4096;

/// Begins to sign in to a server of an environment, by its name: gives the address to open, or why there is none.
pub type BeginSignIn =
    Arc<dyn Fn(Environment, String) -> BoxFuture<'static, std::result::Result<String, String>> + Send + Sync>;

/// Ends it, by state, code and issuer: gives the server's name, or why nobody is signed in.
pub type FinishSignIn = Arc<
    dyn Fn(String, String, Option<String>) -> BoxFuture<'static, std::result::Result<String, String>> + Send + Sync,
>;

/// What the API is handed, which does not know the protocol.
#[derive(Clone)]
pub struct SignIns {
    pub begin: BeginSignIn,
    pub finish: FinishSignIn,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(begin_sign_in, get_sign_in, forget_sign_in))
}

/// Gives the route that a browser comes back to, which needs no key.
pub(crate) fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(finish_sign_in))
}

/// Where to sign in.
#[derive(Debug, Serialize, ToSchema)]
struct SignInBegun {
    /// The server's name.
    server: String,
    /// To be opened in a browser, within an hour.
    url: String,
}

/// Whether somebody is signed in to an MCP server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SignInView {
    /// The server's name.
    server: String,
    signed_in: bool,
    signed_in_at: Option<Timestamp>,
    /// When its tokens were renewed last.
    renewed_at: Option<Timestamp>,
}

/// Nothing is kept any more.
#[derive(Debug, Serialize, ToSchema)]
struct SignInForgotten {
    /// Always true.
    success: bool,
    /// The server's name.
    server: String,
}

/// Begin to sign in to an MCP server
///
/// For a server with a `url` that wants OAuth: gives the address that somebody opens in a browser. Later runs of the
/// environment use the tokens that come of it.
#[utoipa::path(post, path = "/environments/{id}/mcp-servers/{name}/sign-in", tag = "environments",
    params(("id" = String, Path, description = "The environment's id"), ("name" = String, Path, description = "The server's name")),
    responses(
        (status = 200, description = "Where to sign in", body = SignInBegun),
        (status = 502, description = "The server does not say where to sign in, or refuses", body = crate::error::ErrorBody),
    ))]
async fn begin_sign_in(
    State(api): State<Api>,
    caller: Caller,
    Path((id, name)): Path<(EnvironmentId, String)>,
) -> Result<Json<SignInBegun>> {
    let environment = find(&api, &caller, &id).await?;
    if !has_server_with_url(&environment, &name)? {
        let message = format!("'{name}' is a process in the computer: nobody signs in to it");
        return Err(Error::bad_request(message));
    }
    let Some(sign_ins) = &api.sign_ins else {
        return Err(Error::new(StatusCode::NOT_IMPLEMENTED, "This process does not sign in to MCP servers"));
    };
    let begun = (sign_ins.begin)(environment, name.clone()).await;
    let url =
        begun.map_err(|why| Error::new(StatusCode::BAD_GATEWAY, format!("Nobody can sign in to '{name}': {why}")))?;
    Ok(Json(SignInBegun { server: name, url }))
}

/// Tell whether somebody is signed in to an MCP server
#[utoipa::path(get, path = "/environments/{id}/mcp-servers/{name}/sign-in", tag = "environments",
    params(("id" = String, Path, description = "The environment's id"), ("name" = String, Path, description = "The server's name")),
    responses((status = 200, description = "Since when, without any token", body = SignInView)))]
async fn get_sign_in(
    State(api): State<Api>,
    caller: Caller,
    Path((id, name)): Path<(EnvironmentId, String)>,
) -> Result<Json<SignInView>> {
    let environment = find(&api, &caller, &id).await?;
    has_server_with_url(&environment, &name)?;
    let found = api.store.find_mcp_signed_in(&environment.id, &name).await?;
    Ok(Json(SignInView {
        server: name,
        signed_in: found.is_some(),
        signed_in_at: found.as_ref().map(|found| found.since.into()),
        renewed_at: found.and_then(|found| found.renewed_at).map(Into::into),
    }))
}

/// Forget the sign-in to an MCP server
///
/// Its tokens are removed here, and addresses to sign in at that were given out are of no use any more; the server is not
/// told.
#[utoipa::path(delete, path = "/environments/{id}/mcp-servers/{name}/sign-in", tag = "environments",
    params(("id" = String, Path, description = "The environment's id"), ("name" = String, Path, description = "The server's name")),
    responses((status = 200, description = "It is forgotten", body = SignInForgotten)))]
async fn forget_sign_in(
    State(api): State<Api>,
    caller: Caller,
    Path((id, name)): Path<(EnvironmentId, String)>,
) -> Result<Json<SignInForgotten>> {
    let environment = find(&api, &caller, &id).await?;
    // Also of a name that only a message gives a server: the tokens are there all the same.
    if !api.store.forget_mcp_tokens(&environment.id, &name).await? {
        return Err(Error::not_found("Sign-in to", &name));
    }
    Ok(Json(SignInForgotten { success: true, server: name }))
}

/// Finds a server of an environment, and tells whether it is one with a URL.
fn has_server_with_url(environment: &Environment, name: &str) -> Result<bool> {
    let mut servers = environment.settings.mcp_servers.iter();
    let server = servers.find(|server| server["name"].as_str() == Some(name));
    let server = server.ok_or_else(|| Error::not_found("MCP server", name))?;
    Ok(server["url"].is_string() && server["type"] != "stdio")
}

/// What an authorization server sends somebody back with.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Back {
    /// By which it is known who comes back.
    state: Option<String>,
    code: Option<String>,
    /// Who sends somebody back.
    iss: Option<String>,
}

/// Come back from signing in
///
/// Where a browser is sent after signing in to an MCP server, without a key. Answers with a page for people.
#[utoipa::path(get, path = "/mcp/callback", tag = "environments", params(Back),
    responses(
        (status = 200, description = "Somebody is signed in", content_type = "text/html", body = String),
        (status = 400, description = "Nobody is; a page for whom accepts `text/html`", body = crate::error::ErrorBody),
        (status = 429, description = "Too many that were wrong", body = crate::error::ErrorBody),
    ))]
async fn finish_sign_in(
    State(api): State<Api>,
    Extension(limits): Extension<Arc<Limits>>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Query(back): Query<Back>,
) -> Result<Response> {
    let finished = match (back, &api.sign_ins) {
        (Back { state: Some(state), code: Some(code), iss }, Some(sign_ins))
            if state.len().max(code.len()).max(iss.as_ref().map_or(0, String::len)) <= MAX_PART_BYTES =>
        {
            (sign_ins.finish)(state, code, iss).await
        }
        _ => Err("it lacks a state or a code".to_owned()),
    };
    let Err(why) = finished else {
        return Ok(page(StatusCode::OK, "You are signed in. You can close this window: the next run makes use of it."));
    };
    tracing::info!(why, "somebody came back from signing in to an MCP server, and is not signed in");
    let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Extension(ConnectInfo(address))| address.ip());
    limits.count_failure(address)?;
    let sentence = "You are not signed in: this was refused, or it was begun too long ago or is done. Begin again.";
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        Ok(page(StatusCode::BAD_REQUEST, sentence))
    } else {
        Err(Error::bad_request(sentence))
    }
}

/// Makes a page of one of our own sentences.
fn page(status: StatusCode, sentence: &'static str) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let page = format!("<!doctype html><html lang=\"en\"><title>Atelier</title><p>{sentence}</p></html>");
    (status, headers, Html(page)).into_response()
}
