//! `/environments/{id}/files`: the files of an environment, whether its container runs or not.
//!
//! Every request finds the environment in the caller's project before a path is looked at, and every path goes through
//! the workspace, which never leaves its directory.

mod condition;
mod download;
mod legacy;
mod sharing;
pub(crate) mod thumbnail;
mod upload;
mod view;

use axum::{Json, extract::State};
use domain::{EnvironmentId, WorkspacePath, change::Source};
use sandbox::Workspace;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, auth::Caller, body::Body, changes, environments, path::Path, query::Query};

use view::FileList;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_files))
        .routes(routes!(download::download_file))
        .routes(routes!(thumbnail::get_thumbnail))
        .routes(routes!(upload::upload_file))
        .routes(routes!(sharing::send_files))
        .routes(routes!(sharing::share_files))
        .routes(routes!(make_directory))
        .routes(routes!(move_file))
        .routes(routes!(download::get_file, delete_file))
        .merge(legacy::routes())
}

/// Opens the files of an environment of the caller's project.
async fn workspace(api: &Api, caller: &Caller, id: &EnvironmentId) -> Result<Workspace> {
    environments::find(api, caller, id).await?;
    let (sandboxes, id) = (api.sandboxes.clone(), id.clone());
    let opened = tokio::task::spawn_blocking(move || sandboxes.workspace(&id)).await;
    Ok(opened.map_err(Error::internal)??)
}

/// Opens the files of an environment of the caller's project to write as much to them as they may still take.
async fn writable(api: &Api, caller: &Caller, id: &EnvironmentId) -> Result<Workspace> {
    let environment = environments::find(api, caller, id).await?;
    let limits = api.sandboxes.limits_of(environment.settings.compute_profile);
    Ok(api.sandboxes.writable(id, limits.disk_bytes).await?)
}

/// Reads a path that a client named in the field `field`.
fn workspace_path(field: &str, path: &str) -> Result<WorkspacePath> {
    WorkspacePath::parse(path).map_err(|err| Error::invalid_field(field, err.to_string()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The directory; the whole workspace if absent.
    path: Option<String>,
    /// How many levels: 1 is the directory's children, -1 all. All if absent.
    depth: Option<i64>,
    /// False is `depth=1`.
    #[serde(default, deserialize_with = "crate::query::boolean")]
    recursive: Option<bool>,
}

/// List files
///
/// The whole tree below a directory, sorted by path, hidden files too. Paths are relative to the workspace. `files` and
/// `data` are the same list. At most 100,000 entries; `has_more` tells that there are more.
#[utoipa::path(get, path = "/environments/{id}/files", tag = "files",
    params(("id" = String, Path, description = "The environment's id"), ListQuery),
    responses((status = 200, description = "The files", body = FileList)))]
async fn list_files(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<FileList>> {
    let path = workspace_path("path", query.path.as_deref().unwrap_or_default())?;
    let depth = match (query.depth, query.recursive) {
        (Some(-1), _) | (None, None | Some(true)) => None,
        (None, Some(false)) => Some(1),
        (Some(depth), _) => match u32::try_from(depth) {
            Ok(depth) => Some(depth),
            Err(_) => return Err(Error::invalid_field("depth", "must be -1 for all levels, or 0 or more")),
        },
    };
    let listing = workspace(&api, &caller, &id).await?.list(&path, depth).await?;
    Ok(Json(FileList::new(id, &path, depth, listing)))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"path": "src/app"}))]
struct MakeDirectory {
    /// Relative to the workspace.
    path: String,
}

/// A directory that is there now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MadeDirectory {
    success: bool,
    path: String,
    environment_id: String,
}

/// Make a directory
///
/// And those above it. It may exist.
#[utoipa::path(post, path = "/environments/{id}/files/mkdir", tag = "files",
    params(("id" = String, Path, description = "The environment's id")), request_body = MakeDirectory,
    responses(
        (status = 200, description = "It is there", body = MadeDirectory),
        (status = 409, description = "A file is in the way", body = crate::error::ErrorBody),
        (status = 507, description = "The disk is full", body = crate::error::ErrorBody),
    ))]
async fn make_directory(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<MakeDirectory>,
) -> Result<Json<MadeDirectory>> {
    let path = workspace_path("path", &body.path)?;
    let workspace = workspace(&api, &caller, &id).await?;
    changes::prepare(&api, &id).await;
    workspace.make_dir_all(&path).await?;
    changes::record(&api, &caller, &id, Source::MakeDirectory, &[&path]).await;
    Ok(Json(MadeDirectory { success: true, path: path.as_str().to_owned(), environment_id: id.into() }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"sourcePath": "app.py", "destPath": "src/app.py"}))]
struct MoveFile {
    /// Relative to the workspace.
    source_path: String,
    /// What it is to be, name and all.
    dest_path: String,
}

/// A file or directory that was moved.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MovedFile {
    success: bool,
    environment_id: String,
    source_path: String,
    dest_path: String,
}

/// Move a file or directory
///
/// The directories above the destination are made. A file there is replaced.
#[utoipa::path(post, path = "/environments/{id}/files/move", tag = "files",
    params(("id" = String, Path, description = "The environment's id")), request_body = MoveFile,
    responses(
        (status = 200, description = "It is moved", body = MovedFile),
        (status = 409, description = "Something is in the way", body = crate::error::ErrorBody),
    ))]
async fn move_file(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<MoveFile>,
) -> Result<Json<MovedFile>> {
    let source = workspace_path("sourcePath", &body.source_path)?;
    let dest = workspace_path("destPath", &body.dest_path)?;
    let workspace = workspace(&api, &caller, &id).await?;
    changes::prepare(&api, &id).await;
    workspace.rename(&source, &dest).await?;
    changes::record(&api, &caller, &id, Source::Move, &[&source, &dest]).await;
    Ok(Json(MovedFile {
        success: true,
        environment_id: id.into(),
        source_path: source.as_str().to_owned(),
        dest_path: dest.as_str().to_owned(),
    }))
}

/// A file or directory that is gone.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeletedFile {
    success: bool,
    deleted: bool,
    environment_id: String,
    file_path: String,
}

/// Delete a file or directory
///
/// A directory goes with everything in it. Of a link, the link goes.
#[utoipa::path(delete, path = "/environments/{id}/files/{*path}", tag = "files",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("path" = String, Path, description = "Relative to the workspace; `/` as it is or as `%2F`"),
    ),
    responses((status = 200, description = "It is gone", body = DeletedFile)))]
async fn delete_file(
    State(api): State<Api>,
    caller: Caller,
    Path((id, path)): Path<(EnvironmentId, String)>,
) -> Result<Json<DeletedFile>> {
    let path = workspace_path("path", &path)?;
    let workspace = workspace(&api, &caller, &id).await?;
    changes::prepare(&api, &id).await;
    workspace.remove(&path).await?;
    changes::record(&api, &caller, &id, Source::Delete, &[&path]).await;
    let file_path = path.as_str().to_owned();
    Ok(Json(DeletedFile { success: true, deleted: true, environment_id: id.into(), file_path }))
}
