//! What reaches another machine: clone, push, and a repository of GitHub made ready.

use axum::{Json, extract::State};
use domain::{EnvironmentId, WorkspacePath};
use sandbox::git::{Push, Pushed, Remote};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{github_token, noted, open, repository, undisturbed, workspace_path};
use crate::{Api, Result, auth::Caller, body::Body, environments, path::Path};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(push)).routes(routes!(clone)).routes(routes!(prepare_github))
}

/// What to push.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"branch": "main"}))]
pub(super) struct PushInput {
    /// A directory in the repository, relative to the workspace; the workspace itself if absent.
    path: Option<String>,
    /// The name of a remote; `origin` if absent.
    remote: Option<String>,
    /// The current one if absent.
    branch: Option<String>,
    /// Overwrites what the remote has.
    force: Option<bool>,
    /// Lent to this one push, for an https remote. Absent: for GitHub, the environment's secret `GITHUB_TOKEN` or
    /// `GH_TOKEN`.
    #[serde(default, deserialize_with = "super::token")]
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretString>,
}

/// What was pushed.
#[derive(Debug, Serialize, ToSchema)]
struct PushResult {
    success: bool,
    branch: String,
    remote: String,
    /// How many commits the remote did not have, as far as the repository knew.
    commits: u64,
    message: &'static str,
}

pub(super) async fn do_push(api: &Api, caller: &Caller, id: &EnvironmentId, input: PushInput) -> Result<Pushed> {
    let repository = repository(api, caller, id, input.path.as_deref()).await?;
    let push = Push {
        remote: input.remote.filter(|remote| !remote.is_empty()),
        branch: input.branch.filter(|branch| !branch.is_empty()),
        force: input.force == Some(true),
        token: input.token,
        github_token: github_token(api, id).await?,
    };
    noted(api, caller, id, "Pushed", repository.push(push)).await
}

/// Push a branch
///
/// To the branch of the same name. A token is lent to this one command: it is in no argument and in no file, and the
/// repository's hooks are not run meanwhile.
#[utoipa::path(post, path = "/environments/{id}/git/push", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = PushInput,
    responses(
        (status = 200, description = "It is pushed", body = PushResult),
        (status = 403, description = "The remote refuses access", body = crate::error::ErrorBody),
        (status = 409, description = "The remote does not take it", body = crate::error::ErrorBody),
        (status = 502, description = "The remote cannot be reached", body = crate::error::ErrorBody),
    ))]
async fn push(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<PushInput>,
) -> Result<Json<PushResult>> {
    undisturbed(async move {
        let pushed = do_push(&api, &caller, &id, body).await?;
        Ok(Json(PushResult {
            success: true,
            branch: pushed.branch,
            remote: pushed.remote,
            commits: pushed.commits,
            message: if pushed.is_up_to_date { "Everything up-to-date" } else { "Push successful" },
        }))
    })
    .await
}

/// A repository to clone.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"repoUrl": "https://github.com/octocat/Hello-World.git"}))]
struct CloneInput {
    /// https, ssh, or a path inside the container. A login in it is used and not kept.
    repo_url: String,
    branch: Option<String>,
    /// Where to, relative to the workspace; the repository's name if absent, `.` for the workspace itself.
    target_path: Option<String>,
    /// Lent to this one command, for https.
    #[serde(default, deserialize_with = "super::token")]
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretString>,
}

/// A repository that was cloned.
#[derive(Debug, Serialize, ToSchema)]
struct CloneResult {
    success: bool,
    /// Relative to the workspace.
    path: String,
    branch: Option<String>,
    message: String,
}

/// Clone a repository
///
/// Into a directory that is not there or empty; a clone that fails leaves nothing. A token is in no argument and in no
/// file. What can be reached is what the environment's network lets through.
#[utoipa::path(post, path = "/environments/{id}/git/clone", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = CloneInput,
    responses(
        (status = 200, description = "It is there", body = CloneResult),
        (status = 403, description = "The remote refuses access", body = crate::error::ErrorBody),
        (status = 409, description = "The directory is not empty", body = crate::error::ErrorBody),
        (status = 502, description = "The remote cannot be reached", body = crate::error::ErrorBody),
    ))]
async fn clone(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<CloneInput>,
) -> Result<Json<CloneResult>> {
    environments::find(&api, &caller, &id).await?;
    let remote = Remote::parse(&body.repo_url, body.token, &api.settings.git)?;
    let target = match body.target_path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => workspace_path("targetPath", Some(path))?,
        None => workspace_path("repoUrl", Some(&remote.name))?,
    };
    undisturbed(async move {
        let git = open(&api, &caller, &id).await?;
        let branch = body.branch.as_deref().filter(|branch| !branch.is_empty());
        let title = format!("Cloned {}", remote.name);
        let cloned = noted(&api, &caller, &id, title, git.clone_to(&remote, &target, branch)).await?;
        let path = cloned.repository.path().to_owned();
        let message = format!("Cloned into '{}'", if path.is_empty() { "." } else { &path });
        Ok(Json(CloneResult { success: true, path, branch: cloned.branch, message }))
    })
    .await
}

/// A repository of GitHub.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"repoFullName": "octocat/Hello-World", "branch": "main"}))]
struct PrepareInput {
    /// `owner/name`.
    repo_full_name: String,
    /// The repository's default branch if absent.
    branch: Option<String>,
}

/// A repository that is ready to work in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PrepareResult {
    success: bool,
    repo_full_name: String,
    repo_name: String,
    branch: Option<String>,
    /// Relative to the workspace.
    path: String,
    message: &'static str,
}

/// Make a GitHub repository ready
///
/// Cloned into a directory of its name; one that is there already is fetched, and its branch taken forward where nothing
/// is lost by it. The environment's secret `GITHUB_TOKEN` or `GH_TOKEN` opens private ones.
#[utoipa::path(post, path = "/environments/{id}/github/prepare", tag = "git",
    params(("id" = String, Path, description = "The environment's id")), request_body = PrepareInput,
    responses(
        (status = 200, description = "It is ready", body = PrepareResult),
        (status = 403, description = "GitHub refuses access", body = crate::error::ErrorBody),
        (status = 409, description = "Something else is in its directory", body = crate::error::ErrorBody),
        (status = 502, description = "GitHub cannot be reached", body = crate::error::ErrorBody),
    ))]
async fn prepare_github(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(body): Body<PrepareInput>,
) -> Result<Json<PrepareResult>> {
    undisturbed(async move {
        let git = open(&api, &caller, &id).await?;
        let remote = Remote::github(&body.repo_full_name, github_token(&api, &id).await?, &api.settings.git)?;
        let target: WorkspacePath = workspace_path("repoFullName", Some(&remote.name))?;
        let branch = body.branch.as_deref().filter(|branch| !branch.is_empty());
        let title = format!("Made {} ready", body.repo_full_name);
        let prepared = noted(&api, &caller, &id, title, git.prepare(&remote, &target, branch)).await?;
        Ok(Json(PrepareResult {
            success: true,
            repo_full_name: body.repo_full_name,
            repo_name: remote.name,
            branch: prepared.branch,
            path: prepared.repository.path().to_owned(),
            message: match (prepared.is_new, prepared.has_diverged) {
                (true, _) => "Cloned",
                (false, false) => "Up to date",
                (false, true) => "Fetched; the branch has work of its own and was left as it is",
            },
        }))
    })
    .await
}
