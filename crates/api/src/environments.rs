//! `/environments`: stored descriptions of computers.

mod builds;
mod computer;
mod contents;
mod input;
mod normal;
mod offered;
mod secrets;
mod servers;
mod sign_in;
mod view;

use axum::{Json, extract::State, http::StatusCode};
use domain::{EnvironmentId, environment::Environment};
use serde::Deserialize;
use store::{Page, Paged, environments::NewEnvironment};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
};

use input::{CreateEnvironment, EnvironmentInput};
pub(crate) use servers::mask as mask_server;
pub(crate) use sign_in::open_routes;
pub use sign_in::{BeginSignIn, FinishSignIn, SignIns};
use view::{DefaultEnvironment, EnvironmentEnvelope};
pub(crate) use view::{EnvironmentView, McpServer};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_environments, create_environment))
        .routes(routes!(default_environment))
        .routes(routes!(get_environment, update_environment, replace_environment, delete_environment))
        .routes(routes!(set_default))
        .merge(computer::routes())
        .merge(secrets::routes())
        .merge(offered::routes())
        .merge(sign_in::routes())
        .merge(contents::routes())
        .merge(builds::routes())
}

/// Finds an environment of the caller's project.
pub(crate) async fn find(api: &Api, caller: &Caller, id: &EnvironmentId) -> Result<Environment> {
    let found = api.store.find_environment(&caller.project, id).await?;
    found.ok_or_else(|| Error::not_found("Environment", id))
}

pub(crate) async fn view(api: &Api, environment: Environment) -> EnvironmentView {
    let is_running = api.sandboxes.find(&environment.id).await.is_some();
    let limits = api.sandboxes.limits_of(environment.settings.compute_profile);
    let recipe = api.sandboxes.recipe_of(&environment);
    EnvironmentView::new(environment, &recipe, is_running, limits)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// Only environments that are, or are not, deleted. Deleted ones are not shown.
    #[serde(default, deserialize_with = "query::boolean")]
    is_active: Option<bool>,
    /// Only the default environment, or all but that.
    #[serde(default, deserialize_with = "query::boolean")]
    is_default: Option<bool>,
    /// Only those of a project. A key sees one project, so any other gives none.
    project_id: Option<String>,
    /// How many at most, up to 1000. All if absent: clients look through the list themselves.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Removes the files too.
    #[serde(default, deserialize_with = "query::boolean")]
    hard: Option<bool>,
}

/// List environments
///
/// The default first, then the newest.
#[utoipa::path(get, path = "/environments", tag = "environments", params(ListQuery),
    responses((status = 200, description = "The list, or a part of it", body = List<EnvironmentView>)))]
async fn list_environments(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<EnvironmentView>>> {
    let page = match query.limit {
        Some(_) => query::page(query.limit, query.offset, 0, 1000)?,
        None => query::page(None, query.offset, Page::ALL.limit, Page::ALL.limit)?,
    };
    let is_elsewhere = query.project_id.is_some_and(|id| id != "none" && id != caller.project.as_str());
    let environments = if is_elsewhere || query.is_active == Some(false) {
        Paged { items: Vec::new(), total: 0 }
    } else {
        api.store.list_environments(&caller.project, query.is_default, page).await?
    };
    let mut views = Vec::with_capacity(environments.items.len());
    for environment in environments.items {
        views.push(view(&api, environment).await);
    }
    Ok(Json(List::new(Paged { items: views, total: environments.total }, page, |view| view)))
}

/// Create an environment
///
/// `runtimes` and `packages` may be arrays or objects; they are given back as objects. Its container is made when it is
/// first needed.
#[utoipa::path(post, path = "/environments", tag = "environments", request_body = CreateEnvironment,
    responses((status = 201, description = "The environment", body = EnvironmentEnvelope)))]
async fn create_environment(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<EnvironmentInput>,
) -> Result<(StatusCode, Json<EnvironmentEnvelope>)> {
    let mut change = body.check()?;
    let (name, mut settings, is_default) = change.take_new()?;
    let secrets = secrets::unmask(change.secrets.unwrap_or_default());
    secrets::check_kept(Some(&secrets), &[])?;
    servers::unmask(&mut settings.mcp_servers, &[])?;
    let secrets = secrets.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let new = NewEnvironment { name, settings, secrets, is_default: is_default.unwrap_or(false) };
    let environment = api.store.create_environment(&caller.project, new).await?;
    Ok((StatusCode::CREATED, Json(EnvironmentEnvelope { environment: view(&api, environment).await })))
}

/// Get the default environment
///
/// It is made if there is none. The environment stands at the top level and again under `environment`, since clients differ
/// in where they look.
#[utoipa::path(get, path = "/environments/default", tag = "environments",
    responses((status = 200, description = "The environment, twice", body = DefaultEnvironment)))]
async fn default_environment(State(api): State<Api>, caller: Caller) -> Result<Json<DefaultEnvironment>> {
    let environment = api.store.default_environment(&caller.project).await?;
    Ok(Json(DefaultEnvironment::from(view(&api, environment).await)))
}

/// Get an environment
#[utoipa::path(get, path = "/environments/{id}", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "The environment", body = EnvironmentEnvelope)))]
async fn get_environment(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<EnvironmentEnvelope>> {
    let environment = find(&api, &caller, &id).await?;
    Ok(Json(EnvironmentEnvelope { environment: view(&api, environment).await }))
}

/// Change an environment
///
/// An absent field is left alone, `null` clears it. A running container is replaced at its next use if the change concerns
/// it; the files stay.
#[utoipa::path(patch, path = "/environments/{id}", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = EnvironmentInput,
    responses((status = 200, description = "The environment after the change", body = EnvironmentEnvelope)))]
async fn update_environment(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<EnvironmentInput>,
) -> Result<Json<EnvironmentEnvelope>> {
    let mut change = body.check()?;
    let secrets = change.secrets.take().map(secrets::unmask);
    let sent = secrets.clone();
    let apply = |environment: &mut Environment| {
        secrets::check_kept(sent.as_deref(), &environment.secret_keys)?;
        let known = environment.settings.mcp_servers.clone();
        change.apply(environment);
        servers::unmask(&mut environment.settings.mcp_servers, &known)
    };
    let environment = api.store.update_environment(&caller.project, &id, secrets, apply).await?;
    Ok(Json(EnvironmentEnvelope { environment: view(&api, environment).await }))
}

/// Replace an environment
///
/// What is absent gets its default, as in a new environment; only whether it is the project's default environment is kept.
#[utoipa::path(put, path = "/environments/{id}", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = CreateEnvironment,
    responses((status = 200, description = "The environment as it is now", body = EnvironmentEnvelope)))]
async fn replace_environment(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<EnvironmentInput>,
) -> Result<Json<EnvironmentEnvelope>> {
    let mut change = body.check()?;
    let (name, mut settings, is_default) = change.take_new()?;
    let secrets = secrets::unmask(change.secrets.unwrap_or_default());
    let sent = secrets.clone();
    let apply = |environment: &mut Environment| {
        secrets::check_kept(Some(&sent), &environment.secret_keys)?;
        servers::unmask(&mut settings.mcp_servers, &environment.settings.mcp_servers)?;
        environment.name = name;
        environment.settings = settings;
        environment.is_default = is_default.unwrap_or(environment.is_default);
        Ok::<_, Error>(())
    };
    let environment = api.store.update_environment(&caller.project, &id, Some(secrets), apply).await?;
    Ok(Json(EnvironmentEnvelope { environment: view(&api, environment).await }))
}

/// Delete an environment
///
/// Runs in it are cancelled, its container and its secrets are removed. Its files are kept unless `hard` is true, which
/// removes them at once, or as soon as that is possible; its threads stay readable.
#[utoipa::path(delete, path = "/environments/{id}", tag = "environments",
    params(("id" = String, Path, description = "The environment's id"), DeleteQuery),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_environment(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<Deleted>> {
    let wipes_files = query.hard.unwrap_or(false);
    api.store.delete_environment(&caller.project, &id, wipes_files).await?;
    if wipes_files {
        // The wish is kept until it is fulfilled: the reconciler does what we cannot.
        match api.sandboxes.remove(&id).await {
            Ok(()) => api.store.finish_wipe(&id).await?,
            Err(err) => {
                let error = &err as &dyn std::error::Error;
                tracing::warn!(environment = %id, error, "cannot remove a deleted environment's files yet");
            }
        }
    } else if let Err(err) = api.sandboxes.stop(&id).await {
        // The row is gone, and with it the wish for a container: the reconciler removes what we could not.
        tracing::warn!(environment = %id, error = &err as &dyn std::error::Error, "cannot stop a deleted environment");
    }
    Ok(Json(Deleted::new("environmentId", &id)))
}

/// Make an environment the default
///
/// The one before is no longer it.
#[utoipa::path(post, path = "/environments/{id}/set-default", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "The environment", body = EnvironmentEnvelope)))]
async fn set_default(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<EnvironmentEnvelope>> {
    let apply = |environment: &mut Environment| {
        environment.is_default = true;
        Ok::<_, Error>(())
    };
    let environment = api.store.update_environment(&caller.project, &id, None, apply).await?;
    Ok(Json(EnvironmentEnvelope { environment: view(&api, environment).await }))
}
