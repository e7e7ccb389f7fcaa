//! How a repository stands.

use axum::{Json, extract::State};
use domain::EnvironmentId;
use sandbox::git::{self, Change, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{open, workspace_path};
use crate::{Api, Result, auth::Caller, path::Path, query::Query};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get_git_status))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RepositoryQuery {
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    pub(super) path: Option<String>,
}

/// How a repository stands. Paths of files are relative to the repository's root.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GitStatus {
    /// False: nothing else is known.
    is_git_repo: bool,
    /// Of the repository, relative to the workspace.
    path: String,
    message: Option<String>,
    branch: Option<String>,
    remote_url: Option<String>,
    /// Every file that differs from the last commit.
    changed_files: Vec<ChangedFile>,
    /// What the next commit would hold.
    staged_files: Vec<ChangedFile>,
    /// What it would not.
    unstaged_files: Vec<ChangedFile>,
    has_changes: bool,
    has_staged_changes: bool,
    has_unstaged_changes: bool,
    has_unpushed_commits: bool,
    /// There are more files than the lists hold.
    is_truncated: bool,
}

/// A file that differs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChangedFile {
    /// `added`, `modified`, `deleted`, `renamed`, `untracked` or `conflicted`.
    #[schema(example = "modified")]
    status: &'static str,
    #[schema(example = "src/app.py")]
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_path: Option<String>,
}

impl From<Change> for ChangedFile {
    fn from(change: Change) -> Self {
        Self { status: change.kind.as_str(), path: change.path, previous_path: change.previous_path }
    }
}

impl GitStatus {
    fn new(path: String, status: Status) -> Self {
        let view = |changes: Vec<Change>| changes.into_iter().map(ChangedFile::from).collect::<Vec<_>>();
        Self {
            is_git_repo: true,
            path,
            message: None,
            branch: status.branch,
            remote_url: status.remote_url,
            has_changes: !status.changed.is_empty(),
            has_staged_changes: !status.staged.is_empty(),
            has_unstaged_changes: !status.unstaged.is_empty(),
            has_unpushed_commits: status.has_unpushed_commits,
            is_truncated: status.is_truncated,
            changed_files: view(status.changed),
            staged_files: view(status.staged),
            unstaged_files: view(status.unstaged),
        }
    }

    fn of_none(path: String, message: String) -> Self {
        Self {
            is_git_repo: false,
            path,
            message: Some(message),
            branch: None,
            remote_url: None,
            changed_files: Vec::new(),
            staged_files: Vec::new(),
            unstaged_files: Vec::new(),
            has_changes: false,
            has_staged_changes: false,
            has_unstaged_changes: false,
            has_unpushed_commits: false,
            is_truncated: false,
        }
    }
}

/// Get a repository's status
///
/// A directory that is in no repository is no error: `isGitRepo` says so. The container is started for it, as for every
/// call of git.
#[utoipa::path(get, path = "/environments/{id}/git/status", tag = "git",
    params(("id" = String, Path, description = "The environment's id"), RepositoryQuery),
    responses((status = 200, description = "How it stands", body = GitStatus)))]
async fn get_git_status(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<RepositoryQuery>,
) -> Result<Json<GitStatus>> {
    let path = workspace_path("path", query.path.as_deref())?;
    let git = open(&api, &caller, &id).await?;
    let repository = match git.repository(&path).await {
        Err(err @ git::Error::NotARepository(_)) => {
            return Ok(Json(GitStatus::of_none(path.to_string(), crate::error::sentence(&err))));
        }
        repository => repository?,
    };
    let status = repository.status().await?;
    Ok(Json(GitStatus::new(repository.path().to_owned(), status)))
}
