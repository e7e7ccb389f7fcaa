//! `/git/{id}`: what older clients call, on the repository at the top of the workspace.

use axum::{Json, extract::State};
use domain::EnvironmentId;
use sandbox::git::{self, Diff, FileDiff, What};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    noted,
    remotes::{PushInput, do_push},
    repository,
    staging::{AuthorInput, title},
    undisturbed,
};
use crate::{Api, Error, Result, auth::Caller, body::Body, path::Path, timestamp::Timestamp};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get_diff))
        .routes(routes!(get_commit_diff))
        .routes(routes!(commit_files))
        .routes(routes!(push_commits))
}

/// What differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitDiff)]
#[serde(rename_all = "camelCase")]
struct DiffView {
    diffs: Vec<FileDiffView>,
    stats: Stats,
    /// There is more than is shown.
    is_truncated: bool,
}

/// A file that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitFileDiff)]
struct FileDiffView {
    path: String,
    /// Lines; 0 for what is not text.
    additions: u64,
    deletions: u64,
    /// A unified diff.
    changes: String,
}

/// Sums.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitDiffStats)]
#[serde(rename_all = "camelCase")]
struct Stats {
    files_changed: usize,
    insertions: u64,
    deletions: u64,
}

impl From<Diff> for DiffView {
    fn from(diff: Diff) -> Self {
        let stats = Stats {
            files_changed: diff.files.len(),
            insertions: diff.files.iter().map(|file| file.additions).sum(),
            deletions: diff.files.iter().map(|file| file.deletions).sum(),
        };
        let view = |FileDiff { path, additions, deletions, patch }| FileDiffView {
            path,
            additions,
            deletions,
            changes: patch,
        };
        Self { diffs: diff.files.into_iter().map(view).collect(), stats, is_truncated: diff.is_truncated }
    }
}

/// Show what is not committed
///
/// What a commit of everything would change, new files too.
#[utoipa::path(get, path = "/git/{id}/diff", tag = "git",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "The differences", body = DiffView)))]
async fn get_diff(State(api): State<Api>, caller: Caller, Path(id): Path<EnvironmentId>) -> Result<Json<DiffView>> {
    Ok(Json(repository(&api, &caller, &id, None).await?.diff().await?.into()))
}

/// Show what a commit changed
#[utoipa::path(get, path = "/git/{id}/commits/{sha}/diff", tag = "git",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("sha" = String, Path, description = "The commit's hash, or its beginning"),
    ),
    responses((status = 200, description = "The differences", body = DiffView)))]
async fn get_commit_diff(
    State(api): State<Api>,
    caller: Caller,
    Path((id, sha)): Path<(EnvironmentId, String)>,
) -> Result<Json<DiffView>> {
    Ok(Json(repository(&api, &caller, &id, None).await?.commit_diff(&sha).await?.into()))
}

/// A commit to be made.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitCommitFiles, example = json!({"message": "Add the API"}))]
struct CommitInput {
    message: String,
    /// Who it is by; else who the repository's settings name, or the server's.
    author: Option<AuthorInput>,
    /// Relative to the repository's root. Absent or empty: everything that differs.
    files: Option<Vec<String>>,
}

/// A commit that was made.
#[derive(Debug, Serialize, ToSchema)]
struct Committed {
    success: bool,
    commit: CommittedView,
}

/// What a commit is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommittedView {
    sha: String,
    message: String,
    author: AuthorView,
    timestamp: Timestamp,
    files_changed: usize,
}

/// Whom a commit is by.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitAuthor)]
struct AuthorView {
    name: String,
    email: String,
}

/// Stage and commit
#[utoipa::path(post, path = "/git/{id}/commit", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = CommitInput,
    responses(
        (status = 200, description = "It is committed", body = Committed),
        (status = 409, description = "Nothing differs, or it is no repository", body = crate::error::ErrorBody),
    ))]
async fn commit_files(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<CommitInput>,
) -> Result<Json<Committed>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, None).await?;
        let files = body.files.filter(|files| !files.is_empty());
        let author: Option<git::Author> = body.author.map(Into::into);
        let commit = async {
            repository.stage(&files.map_or(What::All, What::Files)).await?;
            repository.commit(&body.message, author.as_ref()).await
        };
        let sha = noted(&api, &caller, &id, title(&body.message), commit).await?;
        let commit = repository.commits(1).await?.pop();
        // Another one may have been made meanwhile.
        let commit = commit.filter(|commit| commit.hash == sha);
        let commit = commit.ok_or_else(|| Error::internal("the commit is not the newest any more"))?;
        let files_changed = repository.commit_diff(&sha).await?.files.len();
        Ok(Json(Committed {
            success: true,
            commit: CommittedView {
                sha,
                message: commit.message,
                author: AuthorView { name: commit.author.name, email: commit.author.email },
                timestamp: commit.date.into(),
                files_changed,
            },
        }))
    })
    .await
}

/// What was pushed.
#[derive(Debug, Serialize, ToSchema)]
struct PushedCommits {
    success: bool,
    push: PushView,
}

/// Where to, and how much.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitPush)]
struct PushView {
    remote: String,
    branch: String,
    commits: u64,
    url: Option<String>,
}

/// Push the workspace's repository
#[utoipa::path(post, path = "/git/{id}/push", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = PushInput,
    responses(
        (status = 200, description = "It is pushed", body = PushedCommits),
        (status = 409, description = "The remote does not take it", body = crate::error::ErrorBody),
    ))]
async fn push_commits(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<PushInput>,
) -> Result<Json<PushedCommits>> {
    undisturbed(async move {
        let pushed = do_push(&api, &caller, &id, body).await?;
        let push = PushView { remote: pushed.remote, branch: pushed.branch, commits: pushed.commits, url: pushed.url };
        Ok(Json(PushedCommits { success: true, push }))
    })
    .await
}
