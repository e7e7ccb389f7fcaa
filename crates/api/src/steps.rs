//! `/threads/{id}/steps` and `/threads/{id}/files/history`: what a thread's runs did to files, step by step, and the way
//! back.
//!
//! A step is a change of the environment as the thread sees it, so what a step shows is what its snapshot shows; only who
//! may see it is asked of the thread. What a step did is the thread's to tell; all other files there were, and changing
//! them, want the scopes of the environment, too.

mod forking;
mod reverting;
mod view;

use axum::{Json, extract::State, response::Response};
use domain::{
    StepId, ThreadId,
    change::{Snapshot, Step},
    scope::Scope,
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    list::List,
    path::Path,
    query::{self, Query},
    snapshots::{self, DiffQuery, PrefixQuery},
    threads::find_thread,
};

use view::{FileStepView, StepDiffView, StepFileView, StepFilesView, StepView};

/// Paths of one step that are shown in a list.
const MAX_PATHS: i32 = 100;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_steps))
        .routes(routes!(list_step_files))
        .routes(routes!(show_step_diff))
        .routes(routes!(read_step_file))
        .routes(routes!(download_step_file))
        .routes(routes!(list_file_history))
        .routes(routes!(forking::fork_step))
        .routes(routes!(reverting::revert_step))
}

/// Finds a step of a thread of the caller's project.
async fn find(api: &Api, caller: &Caller, thread: &ThreadId, id: &str) -> Result<Step> {
    let found = match id.parse::<StepId>() {
        Ok(id) => api.store.find_step(&caller.project, thread, &id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::not_found("Step", id))
}

/// Finds what was there after a step.
async fn state_after(api: &Api, caller: &Caller, step: &Step) -> Result<Snapshot> {
    let change = &step.change;
    let found = api.store.find_snapshot(&caller.project, &change.environment_id, &change.snapshot_id).await?;
    found.ok_or_else(|| Error::not_found("Snapshot", &change.snapshot_id))
}

/// Finds a step and what was there after it, for whoever may see all files of an environment.
async fn look_at_files(api: &Api, caller: &Caller, thread: &ThreadId, id: &str) -> Result<(Step, Snapshot)> {
    let found = look(api, caller, thread, id).await?;
    caller.require(Scope::EnvironmentsRead)?;
    Ok(found)
}

/// Finds a step and what was there after it.
async fn look(api: &Api, caller: &Caller, thread: &ThreadId, id: &str) -> Result<(Step, Snapshot)> {
    find_thread(api, caller, thread).await?;
    let step = find(api, caller, thread, id).await?;
    let snapshot = state_after(api, caller, &step).await?;
    Ok((step, snapshot))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct StepsQuery {
    /// How many at most, up to 1000; 500 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    /// True: without the `metadata` of each.
    #[serde(default, deserialize_with = "query::boolean")]
    compact: Option<bool>,
}

/// List the steps of a thread
///
/// What its runs did to files, whether by tools that write files or by a shell, oldest first: a step for the calls of each
/// turn that changed any. Going back is a step, too. A copy of a thread has the steps of what was copied.
#[utoipa::path(get, path = "/threads/{id}/steps", tag = "history",
    params(("id" = String, Path, description = "The thread's id"), StepsQuery),
    responses((status = 200, description = "The steps", body = List<StepView>)))]
async fn list_steps(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<StepsQuery>,
) -> Result<Json<List<StepView>>> {
    let page = query::page(query.limit, query.offset, 500, 1000)?;
    find_thread(&api, &caller, &id).await?;
    let steps = api.store.list_steps(&caller.project, &id, page).await?;
    if query.compact == Some(true) {
        return Ok(Json(List::new(steps, page, StepView::from)));
    }
    let changes: Vec<_> = steps.items.iter().map(|step| step.change.id.clone()).collect();
    let paths = api.store.list_changed_paths(&changes, MAX_PATHS).await?;
    Ok(Json(List::new(steps, page, |step| {
        let own = paths.iter().filter(|(change, _)| *change == step.change.id);
        let paths = own.map(|(_, path)| path.path.clone()).collect();
        StepView::with_metadata(step, paths)
    })))
}

/// List the files there were after a step
///
/// At most 100,000, sorted by path.
#[utoipa::path(get, path = "/threads/{id}/steps/{stepId}/files", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The step's id"),
        PrefixQuery,
    ),
    responses((status = 200, description = "The files", body = StepFilesView)))]
async fn list_step_files(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Query(query): Query<PrefixQuery>,
) -> Result<Json<StepFilesView>> {
    let (step, snapshot) = look_at_files(&api, &caller, &id, &step).await?;
    let files = snapshots::files(&api, &snapshot, query).await?;
    Ok(Json(StepFilesView { thread_id: id.into(), step_id: step.id.into(), files }))
}

/// Show what a step changed
///
/// As `git diff` writes it. Of more than 2,000 files only the first are compared.
#[utoipa::path(get, path = "/threads/{id}/steps/{stepId}/diff", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The step's id"),
        DiffQuery,
    ),
    responses((status = 200, description = "The difference", body = StepDiffView)))]
async fn show_step_diff(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<StepDiffView>> {
    let (step, snapshot) = look(&api, &caller, &id, &step).await?;
    let diff = snapshots::diff(&api, &caller, snapshot, query.path).await?;
    Ok(Json(StepDiffView::new(step, diff)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct FileQuery {
    /// The file, relative to the workspace.
    path: Option<String>,
}

/// Read a file as it was after a step
///
/// Text of up to 10 MiB; anything else by `file/download`.
#[utoipa::path(get, path = "/threads/{id}/steps/{stepId}/file", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The step's id"),
        FileQuery,
    ),
    responses(
        (status = 200, description = "The file", body = StepFileView),
        (status = 404, description = "There was no such file", body = crate::error::ErrorBody),
        (status = 409, description = "It was a directory or a link, or was not kept", body = crate::error::ErrorBody),
        (status = 413, description = "It is too large for JSON", body = crate::error::ErrorBody),
    ))]
async fn read_step_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Query(query): Query<FileQuery>,
) -> Result<Json<StepFileView>> {
    let (step, snapshot) = look_at_files(&api, &caller, &id, &step).await?;
    let file = snapshots::text_file(&api, &snapshot, query.path).await?;
    Ok(Json(StepFileView { step_id: step.id.into(), file }))
}

/// Download a file as it was after a step
#[utoipa::path(get, path = "/threads/{id}/steps/{stepId}/file/download", tag = "history",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("stepId" = String, Path, description = "The step's id"),
        FileQuery,
    ),
    responses(
        (status = 200, description = "The bytes", content_type = "*/*", body = Vec<u8>),
        (status = 404, description = "There was no such file", body = crate::error::ErrorBody),
        (status = 409, description = "It was a directory or a link, or was not kept", body = crate::error::ErrorBody),
    ))]
async fn download_step_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, step)): Path<(ThreadId, String)>,
    Query(query): Query<FileQuery>,
) -> Result<Response> {
    let (_, snapshot) = look_at_files(&api, &caller, &id, &step).await?;
    snapshots::raw_file(&api, &snapshot, query.path).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// The file, relative to the workspace.
    path: Option<String>,
    /// How many at most, up to 500; 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List the steps of a thread that changed a file
///
/// The newest first.
#[utoipa::path(get, path = "/threads/{id}/files/history", tag = "history",
    params(("id" = String, Path, description = "The thread's id"), HistoryQuery),
    responses((status = 200, description = "The steps", body = view::FileHistoryView)))]
async fn list_file_history(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<view::FileHistoryView>> {
    let page = query::page(query.limit, query.offset, 100, 500)?;
    find_thread(&api, &caller, &id).await?;
    let path = snapshots::file_path(query.path)?;
    let steps = api.store.list_file_steps(&caller.project, &id, &path, page).await?;
    let list = List::new(steps, page, |(step, changed)| FileStepView::new(&path, step, changed));
    Ok(Json(view::FileHistoryView { thread_id: id.into(), path, list }))
}
