//! `/environments/{id}/git`, `/environments/{id}/github` and the older `/git/{id}`: the repositories of an environment.
//!
//! Git runs in the environment's container, which is started for it ([`sandbox::git`] says why). What changes something
//! is done to its end even if the client goes away: a git that is killed leaves its locks behind. And it is told in the
//! history, as what the file routes do.

mod branches;
mod legacy;
mod remotes;
mod staging;
mod status;

use std::sync::Arc;

use axum::http::StatusCode;
use domain::{EnvironmentId, WorkspacePath, change::Source, environment::Environment, repository::TOKEN_VARIABLES};
use sandbox::git::{self, Git, Repository};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::{Api, Error, Result, auth::Caller, changes, environments, error::sentence, undisturbed::undisturbed};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(status::routes())
        .merge(staging::routes())
        .merge(branches::routes())
        .merge(remotes::routes())
        .merge(legacy::routes())
}

/// What changed in a repository. What does not apply is `null`.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GitMutation {
    success: bool,
    /// The current commit.
    sha: Option<String>,
    branch: Option<String>,
    /// Of the repository, relative to the workspace.
    path: Option<String>,
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged_files: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unstaged_files: Option<Vec<String>>,
}

impl GitMutation {
    async fn of(repository: &Repository, message: String) -> Result<Self> {
        Ok(Self {
            success: true,
            sha: repository.head().await?,
            branch: repository.current_branch().await?,
            path: Some(repository.path().to_owned()),
            message: Some(message),
            ..Self::default()
        })
    }
}

/// Starts the container of an environment of the caller's project, for git in it.
async fn open(api: &Api, caller: &Caller, id: &EnvironmentId) -> Result<Git> {
    let environment = environments::find(api, caller, id).await?;
    git_in(api, &environment).await
}

async fn git_in(api: &Api, environment: &Environment) -> Result<Git> {
    let sandbox = api.sandboxes.open(&api.sandboxes.spec_of(environment)).await?;
    Ok(Git::new(sandbox, Arc::clone(&api.settings.git), environment.settings.variables().collect()))
}

/// Opens the repository that a client means: the one in which `path` lies, or the workspace.
async fn repository(api: &Api, caller: &Caller, id: &EnvironmentId, path: Option<&str>) -> Result<Repository> {
    let path = workspace_path("path", path)?;
    Ok(open(api, caller, id).await?.repository(&path).await?)
}

/// Runs git that changes something, and has the history tell that the caller did it.
async fn noted<T>(
    api: &Api,
    caller: &Caller,
    id: &EnvironmentId,
    title: impl Into<String>,
    work: impl Future<Output = std::result::Result<T, git::Error>>,
) -> Result<T> {
    Ok(changes::watch(api, caller, id, Source::Git, title.into(), work).await?)
}

fn workspace_path(field: &str, path: Option<&str>) -> Result<WorkspacePath> {
    WorkspacePath::parse(path.unwrap_or_default()).map_err(|err| Error::invalid_field(field, err.to_string()))
}

/// Gives the environment's own token for GitHub.
async fn github_token(api: &Api, id: &EnvironmentId) -> Result<Option<SecretString>> {
    let secrets = api.store.open_secrets(id).await?;
    let find = |name: &str| secrets.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(TOKEN_VARIABLES.into_iter().find_map(find))
}

/// Reads a token that a client lends.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<SecretString>, D::Error> {
    let token = Option::<String>::deserialize(deserializer)?;
    Ok(token.filter(|token| !token.is_empty()).map(Into::into))
}

impl From<git::Error> for Error {
    fn from(err: git::Error) -> Self {
        use git::Error as E;
        let told = |status, code| Self::new(status, sentence(&err)).with_code(code);
        match err {
            E::NoGit => told(StatusCode::CONFLICT, "no_git"),
            E::NotARepository(_) => told(StatusCode::CONFLICT, "not_a_repository"),
            E::NoSuchDirectory(_) | E::NotFound(_) => Self::new(StatusCode::NOT_FOUND, sentence(&err)),
            E::Invalid { field, why } => Self::invalid_field(field, why),
            E::Conflict { code, .. } => told(StatusCode::CONFLICT, code),
            E::AccessDenied(_) => told(StatusCode::FORBIDDEN, "remote_access_denied"),
            E::Unreachable(_) => told(StatusCode::BAD_GATEWAY, "remote_unreachable"),
            E::TimedOut(_) => told(StatusCode::GATEWAY_TIMEOUT, "git_timeout"),
            E::Failed(_) => told(StatusCode::UNPROCESSABLE_ENTITY, "git_failed"),
            E::Sandbox(err) => err.into(),
        }
    }
}
