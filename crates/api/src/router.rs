//! All routes, in one table that is served at `/` and at `/v1`.
//!
//! Some clients put `/v1` before every path and some never do, and none follows a redirect; so the same table is mounted
//! twice. A resource is one line here.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, OriginalUri},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{from_fn, from_fn_with_state, map_request},
    response::{IntoResponse, Redirect, Response},
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Api, Error, activity, admin, agents, analytics, audit, auth, billing, changes, context, control, copies, cors,
    costs, diffs, drain, environments, events, feedback, files, git, idempotency, keys, limits::Limits, logs, messages,
    models, openapi::document, permissions, previews, projects, queue, rates::Rates, research, runs, schedules, scopes,
    search, skills, snapshots, steps, system, threads, timeline, titles, trace, triggers, users, webhooks,
};

/// The routes that need no key.
fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().merge(system::routes()).merge(triggers::open_routes()).merge(environments::open_routes())
}

/// The routes that need a key.
fn keyed_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(models::routes())
        .merge(agents::routes())
        .merge(skills::routes())
        .merge(environments::routes())
        .merge(files::routes())
        .merge(analytics::routes())
        .merge(snapshots::routes())
        .merge(changes::routes())
        .merge(git::routes())
        .merge(previews::routes())
        .merge(search::routes())
        .merge(threads::routes())
        .merge(copies::routes())
        .merge(titles::routes())
        .merge(feedback::routes())
        .merge(messages::routes())
        .merge(events::routes())
        .merge(timeline::routes())
        .merge(logs::routes())
        .merge(diffs::routes())
        .merge(steps::routes())
        .merge(activity::routes())
        .merge(runs::routes())
        .merge(research::routes())
        .merge(control::routes())
        .merge(queue::routes())
        .merge(permissions::routes())
        .merge(context::routes())
        .merge(schedules::routes())
        .merge(triggers::routes())
        .merge(webhooks::routes())
        .merge(keys::routes())
        .merge(projects::routes())
        .merge(costs::routes())
        .merge(billing::routes())
        .merge(admin::routes())
        .merge(users::routes())
        .merge(audit::routes())
}

/// Makes the service. It wants `ConnectInfo<SocketAddr>`, to tell clients with wrong keys apart.
pub fn router(api: Api) -> Router {
    let limits = Arc::new(Limits::new(&api.settings));
    let rates = Arc::new(Rates::new(&api.settings));
    let authenticate = from_fn_with_state((api.clone(), limits.clone(), rates), auth::authenticate);
    let open: Router<Api> = Router::from(open_routes()).layer(Extension(limits));
    // A route layer runs only where a route matches: what is not served is 404 or 405 with and without a key.
    let keyed: Router<Api> = Router::from(keyed_routes())
        .route_layer(from_fn_with_state(api.clone(), idempotency::layer))
        .route_layer(from_fn(scopes::layer))
        // Outside of the scopes: who tried what they may not do is in the log.
        .route_layer(from_fn_with_state(api.clone(), audit::layer))
        .route_layer(authenticate);
    let routes = open.merge(keyed).method_not_allowed_fallback(method_not_allowed);
    Router::new()
        .nest("/v1", routes.clone())
        .merge(routes)
        .fallback(no_such_route)
        // Bodies are limited where they are read.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(cors::layer())
        .layer(from_fn(trace::observe))
        .layer(map_request(async |request| drain::drain_body(request)))
        .with_state(api)
}

/// Gives the OpenAPI document of all routes.
pub fn openapi() -> OpenApi {
    document(open_routes().into_openapi(), keyed_routes().into_openapi())
}

async fn no_such_route(method: Method, OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if uri.path() == "/" && method == Method::GET && accept.contains("text/html") {
        // Somebody who opens the server's address in a browser.
        return Redirect::to("/docs").into_response();
    }
    let message = format!("Nothing is served at {method} {}", uri.path());
    Error::new(StatusCode::NOT_FOUND, message).into_response()
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Error {
    let message = format!("{method} is not possible at {}", uri.path());
    Error::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
