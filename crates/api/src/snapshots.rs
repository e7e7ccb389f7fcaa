//! `/environments/{id}/snapshots`: what the files of an environment were, and environments made of that.

pub(crate) mod view;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{EnvironmentId, SnapshotId, change::Snapshot};
use futures::TryStreamExt;
use serde::Deserialize;
use store::{Paged, changes::ChangeFilter, environments::NewEnvironment};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    changes::paths_of,
    environments,
    list::List,
    path::Path,
    query::{self, Query},
};

use view::{FileView, FilesView, ForkView, InitializedView, SnapshotDiffView, SnapshotView};

/// The largest file that is given as JSON.
const MAX_JSON_BYTES: u64 = 10 * 1024 * 1024;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(initialize))
        .routes(routes!(list_snapshots))
        .routes(routes!(list_snapshot_files))
        .routes(routes!(show_snapshot_diff))
        .routes(routes!(read_snapshot_file))
        .routes(routes!(fork_snapshot))
}

async fn find(api: &Api, caller: &Caller, environment: &EnvironmentId, id: &str) -> Result<Snapshot> {
    environments::find(api, caller, environment).await?;
    let found = match id.parse::<SnapshotId>() {
        Ok(id) => api.store.find_snapshot(&caller.project, environment, &id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::not_found("Snapshot", id))
}

/// Gives a snapshot together with what led to it.
pub(crate) async fn view(api: &Api, caller: &Caller, snapshot: Snapshot) -> Result<SnapshotView> {
    let page = store::Page { limit: 1, offset: 0 };
    let environment = snapshot.environment_id.clone();
    let snapshots = Paged { items: vec![snapshot], total: 1 };
    let views = views(api, caller, &environment, snapshots, page).await?;
    views.data.into_iter().next().ok_or_else(|| Error::not_found("Snapshot", ""))
}

async fn views(
    api: &Api,
    caller: &Caller,
    environment: &EnvironmentId,
    snapshots: Paged<Snapshot>,
    page: store::Page,
) -> Result<List<SnapshotView>> {
    let filter = ChangeFilter {
        snapshots: snapshots.items.iter().map(|snapshot| snapshot.id.clone()).collect(),
        ..ChangeFilter::default()
    };
    let changes = match filter.snapshots.is_empty() {
        true => Vec::new(),
        false => api.store.list_changes(&caller.project, environment, &filter, store::Page::ALL).await?.items,
    };
    let mut paths = paths_of(api, &changes).await?;
    Ok(List::new(snapshots, page, |snapshot| {
        let change = changes.iter().find(|named| named.change.snapshot_id == snapshot.id).map(|named| &named.change);
        let paths = change.and_then(|change| paths.remove(&change.id)).unwrap_or_default();
        SnapshotView::new(snapshot, change, paths)
    }))
}

/// Begin an environment's history
///
/// Puts what is in its workspace into a snapshot, so that what changes from now on can be told. That happens by itself before
/// the first change by a run or by the API. Calling it again takes a snapshot if something has changed.
#[utoipa::path(post, path = "/environments/{id}/snapshots/initialize", tag = "history",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 201, description = "The newest snapshot", body = InitializedView)))]
async fn initialize(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<(StatusCode, Json<InitializedView>)> {
    environments::find(&api, &caller, &id).await?;
    api.ledger.capture(&id).await?;
    let snapshot = api.ledger.initialize(&id).await?;
    let snapshot = view(&api, &caller, snapshot).await?;
    Ok((StatusCode::CREATED, Json(InitializedView { environment_id: id.into(), snapshot })))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// How many at most, up to 500; 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List snapshots
///
/// The newest first.
#[utoipa::path(get, path = "/environments/{id}/snapshots", tag = "history",
    params(("id" = String, Path, description = "The environment's id"), PageQuery),
    responses((status = 200, description = "The snapshots", body = List<SnapshotView>)))]
async fn list_snapshots(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<SnapshotView>>> {
    let page = query::page(query.limit, query.offset, 100, 500)?;
    environments::find(&api, &caller, &id).await?;
    let snapshots = api.store.list_snapshots(&caller.project, &id, page).await?;
    Ok(Json(views(&api, &caller, &id, snapshots, page).await?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PrefixQuery {
    /// Only this directory, with all that is in it, or this file.
    pub prefix: Option<String>,
}

/// List the files of a snapshot
///
/// At most 100,000, sorted by path.
#[utoipa::path(get, path = "/environments/{id}/snapshots/{snapshotId}/files", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("snapshotId" = String, Path, description = "The snapshot's id"),
        PrefixQuery,
    ),
    responses((status = 200, description = "The files", body = FilesView)))]
async fn list_snapshot_files(
    State(api): State<Api>,
    caller: Caller,
    Path((id, snapshot)): Path<(EnvironmentId, String)>,
    Query(query): Query<PrefixQuery>,
) -> Result<Json<FilesView>> {
    let snapshot = find(&api, &caller, &id, &snapshot).await?;
    Ok(Json(files(&api, &snapshot, query).await?))
}

/// Lists the files of a snapshot.
pub(crate) async fn files(api: &Api, snapshot: &Snapshot, query: PrefixQuery) -> Result<FilesView> {
    let prefix = domain_path("prefix", query.prefix.as_deref().unwrap_or_default())?;
    let listing = api.ledger.list(snapshot, &prefix).await?;
    Ok(FilesView::new(snapshot, query.prefix, listing))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// Only this file or directory.
    pub path: Option<String>,
}

/// Show what led to a snapshot
///
/// The difference to the snapshot before it, as `git diff` writes it. Of more than 2,000 files only the first are compared.
#[utoipa::path(get, path = "/environments/{id}/snapshots/{snapshotId}/diff", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("snapshotId" = String, Path, description = "The snapshot's id"),
        DiffQuery,
    ),
    responses((status = 200, description = "The difference", body = SnapshotDiffView)))]
async fn show_snapshot_diff(
    State(api): State<Api>,
    caller: Caller,
    Path((id, snapshot)): Path<(EnvironmentId, String)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<SnapshotDiffView>> {
    let snapshot = find(&api, &caller, &id, &snapshot).await?;
    Ok(Json(diff(&api, &caller, snapshot, query.path).await?))
}

/// Gives the difference between a snapshot and the one before it.
pub(crate) async fn diff(
    api: &Api,
    caller: &Caller,
    snapshot: Snapshot,
    path: Option<String>,
) -> Result<SnapshotDiffView> {
    let parent = match &snapshot.parent_id {
        Some(id) => api.store.find_snapshot(&caller.project, &snapshot.environment_id, id).await?,
        None => None,
    };
    let only = path.as_deref().map(|path| domain_path("path", path)).transpose()?;
    let diffs = api.ledger.diff(parent.as_ref(), &snapshot, only.as_deref()).await?;
    Ok(SnapshotDiffView::new(&snapshot, parent.as_ref(), path, diffs))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileQuery {
    /// The file, relative to the workspace.
    pub path: Option<String>,
    /// `raw`: the bytes, not JSON.
    pub format: Option<String>,
}

/// Read a file of a snapshot
///
/// As JSON, for text of up to 10 MiB; with `format=raw` the bytes of any file.
#[utoipa::path(get, path = "/environments/{id}/snapshots/{snapshotId}/file", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("snapshotId" = String, Path, description = "The snapshot's id"),
        FileQuery,
    ),
    responses(
        (status = 200, description = "The file", body = FileView),
        (status = 404, description = "The snapshot has no such file", body = crate::error::ErrorBody),
        (status = 409, description = "It is a directory or a link, or was not kept", body = crate::error::ErrorBody),
        (status = 413, description = "It is too large for JSON", body = crate::error::ErrorBody),
    ))]
async fn read_snapshot_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, snapshot)): Path<(EnvironmentId, String)>,
    Query(query): Query<FileQuery>,
) -> Result<Response> {
    let snapshot = find(&api, &caller, &id, &snapshot).await?;
    file(&api, &snapshot, query).await
}

/// Gives a file of a snapshot in the form that was asked for.
pub(crate) async fn file(api: &Api, snapshot: &Snapshot, query: FileQuery) -> Result<Response> {
    if query.format.as_deref() == Some("raw") {
        return raw_file(api, snapshot, query.path).await;
    }
    Ok(Json(text_file(api, snapshot, query.path).await?).into_response())
}

/// Gives the bytes of a file of a snapshot.
pub(crate) async fn raw_file(api: &Api, snapshot: &Snapshot, path: Option<String>) -> Result<Response> {
    let path = file_path(path)?;
    let (size, content) = api.ledger.read(snapshot, &path).await?;
    let mut response = Response::new(axum::body::Body::from_stream(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, size.into());
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Gives a file of a snapshot as text.
pub(crate) async fn text_file(api: &Api, snapshot: &Snapshot, path: Option<String>) -> Result<FileView> {
    let path = file_path(path)?;
    let (size, content) = api.ledger.read(snapshot, &path).await?;
    if size > MAX_JSON_BYTES {
        let message = format!("The file has {size} bytes, too many for JSON; use format=raw");
        return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let bytes: Vec<u8> = content.map_ok(Vec::from).try_concat().await.map_err(ledger::Error::from)?;
    let content = String::from_utf8_lossy(&bytes).into_owned();
    Ok(FileView { path, snapshot_id: snapshot.id.to_string(), content })
}

/// Reads the file that a client must name.
pub(crate) fn file_path(path: Option<String>) -> Result<String> {
    let path = path.filter(|path| !path.is_empty()).ok_or_else(|| Error::missing_field("path"))?;
    domain_path("path", &path)
}

/// How the environment that is made is called.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Fork {
    /// The name of the other and "(fork)" if absent.
    name: Option<String>,
    description: Option<String>,
}

/// Make an environment of a snapshot
///
/// With the settings and secrets of this one and the files of the snapshot. Nothing is copied twice on the server's disk, and
/// either may be changed and deleted.
#[utoipa::path(post, path = "/environments/{id}/snapshots/{snapshotId}/fork", tag = "history",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("snapshotId" = String, Path, description = "The snapshot's id"),
    ),
    request_body = Fork,
    responses((status = 201, description = "The new environment", body = ForkView)))]
async fn fork_snapshot(
    State(api): State<Api>,
    caller: Caller,
    Path((id, snapshot)): Path<(EnvironmentId, String)>,
    Body(body): Body<Fork>,
) -> Result<(StatusCode, Json<ForkView>)> {
    let snapshot = find(&api, &caller, &id, &snapshot).await?;
    fork_at(&api, &caller, snapshot, body).await
}

/// Makes an environment of a snapshot.
pub(crate) async fn fork_at(
    api: &Api,
    caller: &Caller,
    snapshot: Snapshot,
    body: Fork,
) -> Result<(StatusCode, Json<ForkView>)> {
    let origin = environments::find(api, caller, &snapshot.environment_id).await?;
    let mut settings = origin.settings;
    if body.description.is_some() {
        settings.description = body.description;
    }
    let name = body.name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| format!("{} (fork)", origin.name));
    let secrets = api.store.open_secrets(&origin.id).await?;
    let new = NewEnvironment { name, settings, secrets, is_default: false };
    let environment = api.store.create_environment(&caller.project, new).await?;
    let begun = match api.ledger.fork(&origin.id, &snapshot, &environment.id).await {
        Ok((begun, _)) => begun,
        Err(err) => {
            // An environment with half of the files would be taken for the whole.
            api.store.delete_environment(&caller.project, &environment.id, true).await?;
            return Err(err.into());
        }
    };
    let begun = view(api, caller, begun).await?;
    let environment = environments::view(api, environment).await;
    let source_snapshot_id = snapshot.id.to_string();
    Ok((StatusCode::CREATED, Json(ForkView { environment, snapshot: Some(begun), source_snapshot_id })))
}

/// Reads a path that a client named.
pub(crate) fn domain_path(field: &str, path: &str) -> Result<String> {
    let path = domain::WorkspacePath::parse(path).map_err(|err| Error::invalid_field(field, err.to_string()))?;
    Ok(path.as_str().to_owned())
}
