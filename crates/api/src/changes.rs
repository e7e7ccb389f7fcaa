//! `/environments/{id}/changes`: what changed in the files of an environment, and who did it.

mod record;
mod view;

use std::collections::HashMap;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use domain::{
    AgentId, ChangeId, EnvironmentId,
    change::{ChangedPath, Operation, Snapshot},
};
use serde::Deserialize;
use store::{
    Page, Paged,
    changes::{ChangeFilter, NamedChange},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    environments,
    path::Path,
    query::{self, Query},
    snapshots::{
        self, DiffQuery, FileQuery, Fork,
        view::{FileView, ForkView, SnapshotDiffView},
    },
};

pub(crate) use record::{prepare, record, watch};
use view::{ChangeList, ChangeView};

/// Paths of one change that are shown.
const MAX_PATHS: i32 = 1_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_changes))
        .routes(routes!(show_change_diff))
        .routes(routes!(read_change_file))
        .routes(routes!(fork_change))
}

/// Gives the first paths of changes.
pub(crate) async fn paths_of(api: &Api, changes: &[NamedChange]) -> Result<HashMap<ChangeId, Vec<ChangedPath>>> {
    let ids: Vec<ChangeId> = changes.iter().map(|named| named.change.id.clone()).collect();
    let mut paths: HashMap<ChangeId, Vec<ChangedPath>> = HashMap::new();
    for (id, path) in api.store.list_changed_paths(&ids, MAX_PATHS).await? {
        paths.entry(id).or_default().push(path);
    }
    Ok(paths)
}

/// Finds the snapshot that a change led to.
async fn find(api: &Api, caller: &Caller, environment: &EnvironmentId, id: &str) -> Result<Snapshot> {
    environments::find(api, caller, environment).await?;
    let found = match id.parse::<ChangeId>() {
        Ok(id) => api.store.find_change(&caller.project, environment, &id).await?,
        Err(_) => None,
    };
    let change = found.ok_or_else(|| Error::not_found("Change", id))?.change;
    let snapshot = api.store.find_snapshot(&caller.project, environment, &change.snapshot_id).await?;
    snapshot.ok_or_else(|| Error::not_found("Snapshot", &change.snapshot_id))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ChangesQuery {
    /// How many at most, up to 500; 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    /// Only those of a project. A key sees one project, so any other gives none.
    project_id: Option<String>,
    /// Only those by runs of this agent.
    agent_id: Option<String>,
    /// Only those with a path that was `created`, `uploaded`, `modified` or `deleted`; several with commas between.
    operation: Option<String>,
}

/// List changes
///
/// The newest first. Each is what one run, one caller of the API, or somebody outside of both did between two snapshots. Of
/// very many paths only the first 1,000 are shown.
#[utoipa::path(get, path = "/environments/{id}/changes", tag = "history",
    params(("id" = String, Path, description = "The environment's id"), ChangesQuery),
    responses((status = 200, description = "The changes", body = ChangeList)))]
async fn list_changes(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<ChangesQuery>,
) -> Result<Json<ChangeList>> {
    let page = query::page(query.limit, query.offset, 100, 500)?;
    environments::find(&api, &caller, &id).await?;
    let words =
        query.operation.iter().flat_map(|words| words.split(',')).map(str::trim).filter(|word| !word.is_empty());
    let operations = words.map(|word| {
        let allowed = || Error::invalid_field("operation", "must be created, uploaded, modified or deleted");
        word.parse::<Operation>().map_err(|_| allowed())
    });
    let operations = operations.collect::<Result<Vec<_>>>()?;
    let agent = query.agent_id.filter(|agent| !agent.is_empty()).map(|agent| agent.parse::<AgentId>());
    let is_elsewhere =
        query.project_id.is_some_and(|project| !project.is_empty() && project != caller.project.as_str());
    let changes = match agent.transpose() {
        Ok(agent) if !is_elsewhere => {
            let filter = ChangeFilter { agent, operations, snapshots: Vec::new() };
            api.store.list_changes(&caller.project, &id, &filter, page).await?
        }
        // Nothing has such an id.
        Ok(_) | Err(_) => Paged { items: Vec::new(), total: 0 },
    };
    Ok(Json(list(&api, &caller, page, changes).await?))
}

async fn list(api: &Api, caller: &Caller, page: Page, changes: Paged<NamedChange>) -> Result<ChangeList> {
    let mut paths = paths_of(api, &changes.items).await?;
    let views = changes.items.into_iter().map(|named| {
        let paths = paths.remove(&named.change.id).unwrap_or_default();
        ChangeView::new(&caller.project, named, paths)
    });
    Ok(ChangeList::new(views.collect(), page, changes.total))
}

/// Show a change
///
/// As `git diff` writes it.
#[utoipa::path(get, path = "/environments/{id}/changes/{changeId}/diff", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("changeId" = String, Path, description = "The change's id"),
        DiffQuery,
    ),
    responses((status = 200, description = "The difference", body = SnapshotDiffView)))]
async fn show_change_diff(
    State(api): State<Api>,
    caller: Caller,
    Path((id, change)): Path<(EnvironmentId, String)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<SnapshotDiffView>> {
    let snapshot = find(&api, &caller, &id, &change).await?;
    Ok(Json(snapshots::diff(&api, &caller, snapshot, query.path).await?))
}

/// Read a file as it was after a change
///
/// As JSON, for text of up to 10 MiB; with `format=raw` the bytes of any file.
#[utoipa::path(get, path = "/environments/{id}/changes/{changeId}/file", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("changeId" = String, Path, description = "The change's id"),
        FileQuery,
    ),
    responses((status = 200, description = "The file", body = FileView)))]
async fn read_change_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, change)): Path<(EnvironmentId, String)>,
    Query(query): Query<FileQuery>,
) -> Result<Response> {
    let snapshot = find(&api, &caller, &id, &change).await?;
    snapshots::file(&api, &snapshot, query).await
}

/// Make an environment of what was there after a change
///
/// With the settings and secrets of this one.
#[utoipa::path(post, path = "/environments/{id}/changes/{changeId}/fork", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("changeId" = String, Path, description = "The change's id"),
    ),
    request_body = Fork,
    responses((status = 201, description = "The new environment", body = ForkView)))]
async fn fork_change(
    State(api): State<Api>,
    caller: Caller,
    Path((id, change)): Path<(EnvironmentId, String)>,
    Body(body): Body<Fork>,
) -> Result<(StatusCode, Json<ForkView>)> {
    let snapshot = find(&api, &caller, &id, &change).await?;
    snapshots::fork_at(&api, &caller, snapshot, body).await
}
