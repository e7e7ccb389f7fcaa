//! Staging, unstaging, committing.

use axum::{Json, extract::State};
use domain::EnvironmentId;
use sandbox::git::{self, Repository, What};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{GitMutation, noted, repository, undisturbed};
use crate::{Api, Result, auth::Caller, body::Body, path::Path};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(stage)).routes(routes!(unstage)).routes(routes!(commit))
}

/// Which files.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"files": ["src/app.py"]}))]
struct StageInput {
    /// Files or directories, relative to the repository's root. Absent or empty: all.
    files: Option<Vec<String>>,
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    path: Option<String>,
    /// True: all, whatever `files` says.
    all: Option<bool>,
}

impl StageInput {
    fn what(&mut self) -> What {
        match self.files.take().filter(|files| !files.is_empty() && self.all != Some(true)) {
            Some(files) => What::Files(files),
            None => What::All,
        }
    }
}

/// Stage files
///
/// As they are now: new, changed or gone.
#[utoipa::path(post, path = "/environments/{id}/git/stage", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = StageInput,
    responses((status = 200, description = "They are staged", body = GitMutation)))]
async fn stage(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(mut body): Body<StageInput>,
) -> Result<Json<GitMutation>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, body.path.as_deref()).await?;
        let files = noted(&api, &caller, &id, "Staged files", repository.stage(&body.what())).await?;
        let message = format!("Staged {} file(s)", files.len());
        Ok(Json(GitMutation { staged_files: Some(files), ..GitMutation::of(&repository, message).await? }))
    })
    .await
}

/// Unstage files
///
/// They stay as they are, but are not in the next commit.
#[utoipa::path(post, path = "/environments/{id}/git/unstage", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = StageInput,
    responses((status = 200, description = "They are not staged", body = GitMutation)))]
async fn unstage(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(mut body): Body<StageInput>,
) -> Result<Json<GitMutation>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, body.path.as_deref()).await?;
        let files = noted(&api, &caller, &id, "Unstaged files", repository.unstage(&body.what())).await?;
        let message = format!("Unstaged {} file(s)", files.len());
        Ok(Json(GitMutation { unstaged_files: Some(files), ..GitMutation::of(&repository, message).await? }))
    })
    .await
}

/// A commit to be made.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"message": "Add the API"}))]
struct CommitInput {
    message: String,
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    path: Option<String>,
    /// Who it is by; else who the repository's settings name, or the server's.
    author: Option<AuthorInput>,
}

/// Whom a commit is by.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(example = json!({"name": "Ada", "email": "ada@example.com"}))]
pub(super) struct AuthorInput {
    name: String,
    email: String,
}

impl From<AuthorInput> for git::Author {
    fn from(author: AuthorInput) -> Self {
        Self { name: author.name, email: author.email }
    }
}

/// Commit what is staged
///
/// 409 where nothing is. The repository's hooks are run, inside the container.
#[utoipa::path(post, path = "/environments/{id}/git/commit", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = CommitInput,
    responses(
        (status = 200, description = "It is committed", body = GitMutation),
        (status = 409, description = "Nothing is staged, or it is no repository", body = crate::error::ErrorBody),
    ))]
async fn commit(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<CommitInput>,
) -> Result<Json<GitMutation>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, body.path.as_deref()).await?;
        let author = body.author.map(Into::into);
        let commit = repository.commit(&body.message, author.as_ref());
        let sha = noted(&api, &caller, &id, title(&body.message), commit).await?;
        let message = summary(&repository, &sha, &body.message).await?;
        Ok(Json(GitMutation::of(&repository, message).await?))
    })
    .await
}

/// What a commit is called in the history.
pub(super) fn title(message: &str) -> String {
    format!("Committed: {}", message.trim().lines().next().unwrap_or_default())
}

/// Says it as git does: `[main abc1234] Title`.
async fn summary(repository: &Repository, sha: &str, message: &str) -> Result<String> {
    let branch = repository.current_branch().await?.unwrap_or_else(|| "detached HEAD".to_owned());
    let title = message.trim().lines().next().unwrap_or_default();
    Ok(format!("[{branch} {}] {title}", &sha[..sha.len().min(7)]))
}
