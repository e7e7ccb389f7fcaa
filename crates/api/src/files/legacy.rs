//! `/files` and `/directories`: the files of a project in the words of older clients.
//!
//! A project has no files but those of its environments, so these are the files of one: the one that `environmentId` names,
//! or the default one. Contents travel as JSON.

use axum::{Json, extract::State};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::{EnvironmentId, WorkspacePath, change::Source};
use futures::TryStreamExt;
use sandbox::Workspace;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{view::FileEntry, workspace, workspace_path, writable};
use crate::{
    Api, Error, Result, auth::Caller, body::Body, changes, deleted::Deleted, error::ErrorBody, path::Path, query::Query,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_project_files))
        .routes(routes!(move_project_file))
        .routes(routes!(read_project_file, write_project_file, delete_project_file))
        .routes(routes!(make_project_directory))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct EnvironmentQuery {
    /// The project's default environment if absent.
    environment_id: Option<String>,
}

/// Gives the environment that is named, which the routes then look for in the project, or the default one.
async fn environment(api: &Api, caller: &Caller, named: Option<&str>) -> Result<EnvironmentId> {
    match named.filter(|id| !id.is_empty()) {
        Some(id) => id.parse().map_err(|_| Error::not_found("Environment", id)),
        None => Ok(api.store.default_environment(&caller.project).await?.id),
    }
}

/// Finds how a path is listed.
async fn entry(workspace: &Workspace, path: &WorkspacePath) -> Result<FileEntry> {
    let (parent, _) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    let listed = workspace.list(&workspace_path("path", parent)?, Some(1)).await?;
    let found = listed.entries.into_iter().find(|entry| entry.path == path.as_str());
    found.map(FileEntry::from).ok_or_else(|| Error::not_found("File", path.as_str()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The directory; the whole workspace if absent.
    path: Option<String>,
    /// All levels, or only the directory's children (if absent).
    #[serde(default, deserialize_with = "crate::query::boolean")]
    recursive: Option<bool>,
}

/// `{files}`.
#[derive(Serialize, ToSchema)]
struct ProjectFiles {
    files: Vec<FileEntry>,
}

/// List the project's files
///
/// For older clients, as the next five.
#[utoipa::path(get, path = "/files", tag = "files", params(ListQuery, EnvironmentQuery),
    responses((status = 200, description = "The files", body = ProjectFiles)))]
async fn list_project_files(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(at): Query<EnvironmentQuery>,
) -> Result<Json<ProjectFiles>> {
    let id = environment(&api, &caller, at.environment_id.as_deref()).await?;
    let path = workspace_path("path", query.path.as_deref().unwrap_or_default())?;
    let depth = if query.recursive == Some(true) { None } else { Some(1) };
    let listing = workspace(&api, &caller, &id).await?.list(&path, depth).await?;
    Ok(Json(ProjectFiles { files: listing.entries.into_iter().map(FileEntry::from).collect() }))
}

/// Read a file of the project
///
/// Its text as a JSON string; bytes that are no UTF-8 as base64.
#[utoipa::path(get, path = "/files/{*path}", tag = "files",
    params(("path" = String, Path, description = "Relative to the workspace, `/` as `%2F`"), EnvironmentQuery),
    responses(
        (status = 200, description = "The text", body = String, content_type = "application/json"),
        (status = 413, description = "It is larger than a body may be", body = ErrorBody),
    ))]
async fn read_project_file(
    State(api): State<Api>,
    caller: Caller,
    Path(path): Path<String>,
    Query(at): Query<EnvironmentQuery>,
) -> Result<Json<String>> {
    let id = environment(&api, &caller, at.environment_id.as_deref()).await?;
    let path = workspace_path("path", &path)?;
    let file = workspace(&api, &caller, &id).await?.open_file(&path).await?;
    let most = api.settings.max_body_bytes as u64;
    if file.size > most {
        return Err(sandbox::Error::TooLarge(path.as_str().to_owned()).into());
    }
    let size = file.size;
    let bytes = file.into_stream(0, size).await?.try_fold(Vec::new(), |mut whole: Vec<u8>, chunk| async move {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    Ok(Json(String::from_utf8(bytes.await?).unwrap_or_else(|not_text| STANDARD.encode(not_text.as_bytes()))))
}

/// A file's content.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WriteFile {
    /// Text; base64 where `contentType` is not of text.
    content: String,
    #[schema(example = "text/plain")]
    content_type: Option<String>,
    environment_id: Option<String>,
}

impl WriteFile {
    /// Clients send bytes as base64 without saying so; only a type of its own tells them from text.
    fn bytes(self) -> Bytes {
        let is_text = self.content_type.as_deref().is_none_or(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.is_empty() || ["text/", "json", "xml", "javascript", "yaml"].iter().any(|part| kind.contains(part))
        });
        match STANDARD.decode(&self.content) {
            Ok(decoded) if !is_text => decoded.into(),
            Ok(_) | Err(_) => self.content.into(),
        }
    }
}

/// `{file}`.
#[derive(Serialize, ToSchema)]
struct FileEnvelope {
    file: FileEntry,
}

/// Write a file of the project
///
/// The directories above it are made. A file there is replaced.
#[utoipa::path(put, path = "/files/{*path}", tag = "files",
    params(("path" = String, Path, description = "Relative to the workspace, `/` as `%2F`")), request_body = WriteFile,
    responses((status = 200, description = "The file", body = FileEnvelope)))]
async fn write_project_file(
    State(api): State<Api>,
    caller: Caller,
    Path(path): Path<String>,
    Body(body): Body<WriteFile>,
) -> Result<Json<FileEnvelope>> {
    let id = environment(&api, &caller, body.environment_id.as_deref()).await?;
    let path = workspace_path("path", &path)?;
    let workspace = writable(&api, &caller, &id).await?;
    let mut upload = workspace.receive().await?;
    upload.write(body.bytes()).await?;
    changes::prepare(&api, &id).await;
    upload.commit_to(&path).await?;
    changes::record(&api, &caller, &id, Source::Upload, &[&path]).await;
    Ok(Json(FileEnvelope { file: entry(&workspace, &path).await? }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// A directory with everything in it; one that is not empty is refused otherwise.
    #[serde(default, deserialize_with = "crate::query::boolean")]
    recursive: Option<bool>,
}

/// Delete a file of the project
#[utoipa::path(delete, path = "/files/{*path}", tag = "files",
    params(
        ("path" = String, Path, description = "Relative to the workspace, `/` as `%2F`"),
        DeleteQuery, EnvironmentQuery,
    ),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 409, description = "It is a directory that is not empty", body = ErrorBody),
    ))]
async fn delete_project_file(
    State(api): State<Api>,
    caller: Caller,
    Path(path): Path<String>,
    Query(query): Query<DeleteQuery>,
    Query(at): Query<EnvironmentQuery>,
) -> Result<Json<Deleted>> {
    let id = environment(&api, &caller, at.environment_id.as_deref()).await?;
    let path = workspace_path("path", &path)?;
    let workspace = workspace(&api, &caller, &id).await?;
    if query.recursive != Some(true) {
        match workspace.list(&path, Some(1)).await {
            Ok(listing) if !listing.entries.is_empty() => {
                let message = format!("'{path}' is a directory that is not empty: say recursive=true to delete it");
                return Err(Error::new(axum::http::StatusCode::CONFLICT, message).with_code("conflict"));
            }
            // An empty directory, or a file; what is not there is told below.
            Ok(_) | Err(_) => {}
        }
    }
    changes::prepare(&api, &id).await;
    workspace.remove(&path).await?;
    changes::record(&api, &caller, &id, Source::Delete, &[&path]).await;
    Ok(Json(Deleted::new("path", &path)))
}

/// What is moved where.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MoveFile {
    source: String,
    /// What it is to be, name and all.
    destination: String,
    environment_id: Option<String>,
}

/// Move a file of the project
#[utoipa::path(post, path = "/files/move", tag = "files", request_body = MoveFile,
    responses((status = 200, description = "The file where it is now", body = FileEnvelope)))]
async fn move_project_file(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<MoveFile>,
) -> Result<Json<FileEnvelope>> {
    let id = environment(&api, &caller, body.environment_id.as_deref()).await?;
    let source = workspace_path("source", &body.source)?;
    let destination = workspace_path("destination", &body.destination)?;
    let workspace = workspace(&api, &caller, &id).await?;
    changes::prepare(&api, &id).await;
    workspace.rename(&source, &destination).await?;
    changes::record(&api, &caller, &id, Source::Move, &[&source, &destination]).await;
    Ok(Json(FileEnvelope { file: entry(&workspace, &destination).await? }))
}

/// A new directory.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewDirectory {
    #[schema(example = "src/app")]
    path: String,
    environment_id: Option<String>,
}

/// `{directory}`.
#[derive(Serialize, ToSchema)]
struct DirectoryEnvelope {
    directory: FileEntry,
}

/// Make a directory in the project
///
/// And those above it. It may exist.
#[utoipa::path(post, path = "/directories", tag = "files", request_body = NewDirectory,
    responses((status = 200, description = "The directory", body = DirectoryEnvelope)))]
async fn make_project_directory(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<NewDirectory>,
) -> Result<Json<DirectoryEnvelope>> {
    let id = environment(&api, &caller, body.environment_id.as_deref()).await?;
    let path = workspace_path("path", &body.path)?;
    let workspace = writable(&api, &caller, &id).await?;
    changes::prepare(&api, &id).await;
    workspace.make_dir_all(&path).await?;
    changes::record(&api, &caller, &id, Source::MakeDirectory, &[&path]).await;
    Ok(Json(DirectoryEnvelope { directory: entry(&workspace, &path).await? }))
}
