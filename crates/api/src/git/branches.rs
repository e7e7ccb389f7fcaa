//! Branches and commits.

use axum::{Json, extract::State};
use domain::EnvironmentId;
use sandbox::git::{Branches, Commit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{GitMutation, noted, repository, status::RepositoryQuery, undisturbed};
use crate::{
    Api, Result,
    auth::Caller,
    body::Body,
    path::Path,
    query::{self, Query},
    timestamp::Timestamp,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create_branch, switch_branch))
        .routes(routes!(list_branches))
        .routes(routes!(list_commits))
}

/// A branch.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"name": "feature/api"}))]
struct BranchInput {
    name: String,
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    path: Option<String>,
}

/// Make a branch
///
/// At the current commit. The current branch stays the current one: switch with `PUT`.
#[utoipa::path(post, path = "/environments/{id}/git/branch", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = BranchInput,
    responses(
        (status = 200, description = "It is there; `branch` is its name", body = GitMutation),
        (status = 409, description = "There is one of that name, or no commit yet", body = crate::error::ErrorBody),
    ))]
async fn create_branch(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<BranchInput>,
) -> Result<Json<GitMutation>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, body.path.as_deref()).await?;
        let title = format!("Created the branch {}", body.name);
        noted(&api, &caller, &id, title, repository.create_branch(&body.name)).await?;
        let message = format!("Created branch '{}'", body.name);
        Ok(Json(GitMutation { branch: Some(body.name), ..GitMutation::of(&repository, message).await? }))
    })
    .await
}

/// Switch to a branch
///
/// One that only a remote has is made, and follows it.
#[utoipa::path(put, path = "/environments/{id}/git/branch", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = BranchInput,
    responses(
        (status = 200, description = "It is the current one", body = GitMutation),
        (status = 409, description = "Changes that are not committed would be lost", body = crate::error::ErrorBody),
    ))]
async fn switch_branch(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<BranchInput>,
) -> Result<Json<GitMutation>> {
    undisturbed(async move {
        let repository = repository(&api, &caller, &id, body.path.as_deref()).await?;
        let title = format!("Switched to the branch {}", body.name);
        noted(&api, &caller, &id, title, repository.switch(&body.name)).await?;
        let message = format!("Switched to branch '{}'", body.name);
        Ok(Json(GitMutation::of(&repository, message).await?))
    })
    .await
}

/// The branches of a repository.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BranchList {
    /// May have no commit yet, and is then in no list.
    current_branch: Option<String>,
    /// All: the local ones, then those of remotes.
    branches: Vec<String>,
    local_branches: Vec<String>,
    /// With the remote's name.
    #[schema(example = json!(["origin/main"]))]
    remote_branches: Vec<String>,
}

impl From<Branches> for BranchList {
    fn from(branches: Branches) -> Self {
        let Branches { current, local, remote } = branches;
        let branches = local.iter().chain(&remote).cloned().collect();
        Self { current_branch: current, branches, local_branches: local, remote_branches: remote }
    }
}

/// List branches
#[utoipa::path(get, path = "/environments/{id}/git/branches", tag = "git",
    params(("id" = String, Path, description = "The environment's id"), RepositoryQuery),
    responses((status = 200, description = "The branches", body = BranchList)))]
async fn list_branches(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<RepositoryQuery>,
) -> Result<Json<BranchList>> {
    let repository = repository(&api, &caller, &id, query.path.as_deref()).await?;
    Ok(Json(repository.branches().await?.into()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CommitsQuery {
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    path: Option<String>,
    /// 10 if absent, 50 at most.
    limit: Option<i64>,
}

/// Commits, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct CommitList {
    commits: Vec<CommitView>,
}

/// A commit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GitCommit)]
struct CommitView {
    hash: String,
    short_hash: String,
    author: String,
    author_email: String,
    date: Timestamp,
    /// All of it, the title in the first line.
    message: String,
}

impl From<Commit> for CommitView {
    fn from(commit: Commit) -> Self {
        Self {
            hash: commit.hash,
            short_hash: commit.short_hash,
            author: commit.author.name,
            author_email: commit.author.email,
            date: commit.date.into(),
            message: commit.message,
        }
    }
}

/// List commits
///
/// Those the current one goes back to.
#[utoipa::path(get, path = "/environments/{id}/git/commits", tag = "git",
    params(("id" = String, Path, description = "The environment's id"), CommitsQuery),
    responses((status = 200, description = "The commits", body = CommitList)))]
async fn list_commits(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<CommitsQuery>,
) -> Result<Json<CommitList>> {
    let limit = query::page(query.limit, None, 10, 50)?.limit;
    let repository = repository(&api, &caller, &id, query.path.as_deref()).await?;
    let commits = repository.commits(u32::try_from(limit).unwrap_or(0)).await?;
    Ok(Json(CommitList { commits: commits.into_iter().map(Into::into).collect() }))
}
