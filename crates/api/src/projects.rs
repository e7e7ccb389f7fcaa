//! `/projects` and `/project`: the owners of everything.
//!
//! A key opens one project, and that is the one it sees. An administrator's key sees all of its organization; which of them a
//! request is meant for it says with the header `X-Computer-Agents-Project`.

use axum::{Json, extract::State, http::StatusCode};
use domain::{ProjectId, project::Project};
use futures::future::join_all;
use serde::Deserialize;
use store::{Page, threads::ThreadFilter};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    environments,
    error::ErrorBody,
    list::List,
    path::Path,
    query::{self, Query},
};

mod input;
mod view;

use input::{CreateProject, UpdateProject};
use view::{ProjectDetail, ProjectEnvelope, ProjectList, ProjectView, Synced};

/// How many of the newest threads are shown with a project.
const RECENT_THREADS: i64 = 10;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_projects, create_project))
        .routes(routes!(get_project, update_project, delete_project))
        .routes(routes!(get_own_project, update_own_project))
        .routes(routes!(sync_project))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// A part of the name.
    q: Option<String>,
    /// `cloud`, `local` or `synced`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// How many at most: 0 to 100; all if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List projects
///
/// The key's own; with an administrator's key all of its organization, oldest first.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ListQuery),
    responses((status = 200, description = "The projects", body = ProjectList)))]
async fn list_projects(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<ProjectList>> {
    let page = match query.limit {
        Some(_) => query::page(query.limit, query.offset, 50, 100)?,
        None => Page { offset: query::page(None, query.offset, 0, 0)?.offset, ..Page::ALL },
    };
    let only = (!caller.is_admin()).then_some(&caller.project);
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (search, kind) = (given(query.q), given(query.kind));
    let projects =
        api.store.list_projects(&caller.organization, only, search.as_deref(), kind.as_deref(), page).await?;
    Ok(Json(List::new(projects, page, ProjectView::from).into()))
}

/// Create a project
///
/// For administrators. It has no key yet: make one with `POST /admin/keys`, or name it in the header
/// `X-Computer-Agents-Project` of an administrator's requests.
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = CreateProject,
    responses(
        (status = 201, description = "The project", body = ProjectEnvelope),
        (status = 409, description = "The id is taken", body = ErrorBody),
    ))]
async fn create_project(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateProject>,
) -> Result<(StatusCode, Json<ProjectEnvelope>)> {
    let new = body.into_new(&api.settings.tiers)?;
    let project = api.store.create_project_in(&caller.organization, new).await?;
    Ok((StatusCode::CREATED, Json(ProjectEnvelope { project: project.into() })))
}

/// Get a project
///
/// With what there is in it.
#[utoipa::path(get, path = "/projects/{id}", tag = "projects",
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, description = "The project", body = ProjectDetail)))]
async fn get_project(State(api): State<Api>, caller: Caller, Path(id): Path<ProjectId>) -> Result<Json<ProjectDetail>> {
    let project = find(&api, &caller, &id).await?;
    Ok(Json(detail(&api, project).await?))
}

/// Change a project
///
/// Its `tier` is changed by administrators only.
#[utoipa::path(patch, path = "/projects/{id}", tag = "projects",
    params(("id" = String, Path, description = "The project's id")), request_body = UpdateProject,
    responses(
        (status = 200, description = "The project after the change", body = ProjectEnvelope),
        (status = 403, description = "The tier is not the caller's to change", body = ErrorBody),
    ))]
async fn update_project(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ProjectId>,
    Body(body): Body<UpdateProject>,
) -> Result<Json<ProjectEnvelope>> {
    check_visible(&caller, &id)?;
    let change = |project: &mut Project| body.apply(project, &caller, &api.settings.tiers);
    let project = api.store.update_project(&caller.organization, &id, change).await?;
    Ok(Json(ProjectEnvelope { project: project.into() }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Not supported: what is in a project stays on the server.
    #[serde(default, deserialize_with = "query::boolean")]
    hard: Option<bool>,
}

/// Delete a project
///
/// For administrators, and not the one that the request is made in. Its keys open nothing any more, its schedules fire no
/// more. Its rows and files stay on the server.
#[utoipa::path(delete, path = "/projects/{id}", tag = "projects",
    params(("id" = String, Path, description = "The project's id"), DeleteQuery),
    responses(
        (status = 200, description = "It is deleted", body = Deleted),
        (status = 409, description = "It is the request's own, or runs are under way", body = ErrorBody),
        (status = 501, description = "`hard`", body = ErrorBody),
    ))]
async fn delete_project(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ProjectId>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<Deleted>> {
    find(&api, &caller, &id).await?;
    if query.hard == Some(true) {
        let message = "Removing what is in a project for good (hard) is not supported yet";
        return Err(Error::not_implemented(message));
    }
    if id == caller.project {
        let message = "The project is the one that this request is made in: name another in X-Computer-Agents-Project";
        return Err(Error::new(StatusCode::CONFLICT, message).with_code("conflict"));
    }
    api.store.delete_project(&caller.organization, &id).await?;
    Ok(Json(Deleted::new("projectId", &id)))
}

/// Get the key's project
#[utoipa::path(get, path = "/project", tag = "projects",
    responses((status = 200, description = "The project", body = ProjectDetail)))]
async fn get_own_project(State(api): State<Api>, caller: Caller) -> Result<Json<ProjectDetail>> {
    let project = find(&api, &caller, &caller.project).await?;
    Ok(Json(detail(&api, project).await?))
}

/// Change the key's project
///
/// Its `tier` is changed by administrators only.
#[utoipa::path(patch, path = "/project", tag = "projects", request_body = UpdateProject,
    responses(
        (status = 200, description = "The project after the change", body = ProjectEnvelope),
        (status = 403, description = "The tier is not the caller's to change", body = ErrorBody),
    ))]
async fn update_own_project(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<UpdateProject>,
) -> Result<Json<ProjectEnvelope>> {
    let change = |project: &mut Project| body.apply(project, &caller, &api.settings.tiers);
    let project = api.store.update_project(&caller.organization, &caller.project, change).await?;
    Ok(Json(ProjectEnvelope { project: project.into() }))
}

/// Tell that the project is in sync
///
/// Its files are on the server and nowhere else, so there is nothing to be done: the answer counts them. What a client says
/// has changed on its side is not looked at; upload it.
#[utoipa::path(post, path = "/project/sync", tag = "projects",
    responses((status = 200, description = "How many files there are", body = Synced)))]
async fn sync_project(State(api): State<Api>, caller: Caller) -> Result<Json<Synced>> {
    let environments = api.store.list_environments(&caller.project, None, Page::ALL).await?;
    let held = measure(&api, environments.items.iter().map(|environment| environment.id.clone()).collect()).await?;
    Ok(Json(Synced { synced: true, file_count: held.files }))
}

/// Another project's id is not found, unless the caller is above both.
fn check_visible(caller: &Caller, id: &ProjectId) -> Result<()> {
    if *id == caller.project || caller.is_admin() { Ok(()) } else { Err(Error::not_found("Project", id)) }
}

async fn find(api: &Api, caller: &Caller, id: &ProjectId) -> Result<Project> {
    check_visible(caller, id)?;
    let project = api.store.find_project(&caller.organization, id).await?;
    project.ok_or_else(|| Error::not_found("Project", id))
}

async fn detail(api: &Api, project: Project) -> Result<ProjectDetail> {
    let id = &project.id;
    let recent = Page { limit: RECENT_THREADS, offset: 0 };
    let stats = api.store.project_stats(id).await?;
    let environments = api.store.list_environments(id, None, Page::ALL).await?.items;
    let threads = api.store.list_threads(id, &ThreadFilter::default(), recent).await?.items;
    let held = measure(api, environments.iter().map(|environment| environment.id.clone()).collect()).await?;
    let environments = join_all(environments.into_iter().map(|environment| environments::view(api, environment))).await;
    let threads = threads.into_iter().map(Into::into).collect();
    Ok(ProjectDetail::new(project.into(), stats, held.bytes, environments, threads))
}

#[derive(Default)]
struct Held {
    files: u64,
    bytes: u64,
}

/// Adds up the files of environments. One whose workspace was never opened holds nothing.
async fn measure(api: &Api, environments: Vec<domain::EnvironmentId>) -> Result<Held> {
    let mut held = Held::default();
    for id in environments {
        let sandboxes = api.sandboxes.clone();
        let opened = tokio::task::spawn_blocking(move || sandboxes.workspace(&id)).await.map_err(Error::internal)?;
        let stats = opened?.stats().await?;
        held.files += stats.files;
        held.bytes += stats.bytes;
    }
    Ok(held)
}
