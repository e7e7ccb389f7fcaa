//! `/environments/{id}/build`: the image of an environment. The answers are the union of what clients of all versions read.

use std::time::{Duration, Instant};

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    EnvironmentId,
    build::{Build, BuildStatus},
    environment::Environment,
};
use sandbox::Plan;
use serde::{Deserialize, Serialize};
use store::builds::{NewBuild, Reuse};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::find;
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    path::Path,
    query::{self, Query},
    timestamp::Timestamp,
};

/// How often a build that somebody waits for is looked at.
const POLL: Duration = Duration::from_millis(300);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(build))
        .routes(routes!(build_status))
        .routes(routes!(build_logs))
        .routes(routes!(test_build))
}

/// Gives the word for how far an environment's image is: `pending`, `building`, `ready` or `failed`.
pub(super) fn word(latest: Option<&Build>) -> &'static str {
    match latest.map(|build| build.status) {
        Some(BuildStatus::Queued | BuildStatus::Running) => "building",
        Some(BuildStatus::Ready) => "ready",
        Some(BuildStatus::Failed) => "failed",
        None | Some(BuildStatus::Cancelled | BuildStatus::Removed) => "pending",
    }
}

/// Gives an environment that can be started: with the image its settings ask for, or else the one before.
///
/// # Errors
/// 409 while the first image is being built, or if it failed.
pub(super) async fn startable(api: &Api, caller: &Caller, environment: Environment) -> Result<Environment> {
    let Some(plan) = api.sandboxes.plan(&environment).await? else { return Ok(environment) };
    let reuse = if environment.build.image.is_some() { Reuse::Any } else { Reuse::Good };
    let build = request(api, caller, &environment.id, &plan, reuse).await?;
    let environment = find(api, caller, &environment.id).await?;
    if environment.build.image.is_none() {
        let message = match build.status {
            BuildStatus::Failed => "The environment's image could not be built; build/status says why",
            _ => "The environment's image is being built; build/status says when it is there",
        };
        return Err(Error::new(StatusCode::CONFLICT, message).with_code("building"));
    }
    Ok(environment)
}

/// Begins to build the image of an environment, if it needs one that is not there. Gives its build.
pub(super) async fn begin(api: &Api, caller: &Caller, environment: &Environment) -> Result<Option<Build>> {
    match api.sandboxes.plan(environment).await? {
        Some(plan) => request(api, caller, &environment.id, &plan, Reuse::Good).await.map(Some),
        None => Ok(None),
    }
}

async fn request(api: &Api, caller: &Caller, id: &EnvironmentId, plan: &Plan, reuse: Reuse) -> Result<Build> {
    if !api.sandboxes.has_image(&plan.image).await? {
        api.store.forget_image(&plan.hash).await?;
    }
    let new = NewBuild {
        hash: plan.hash.clone(),
        image: plan.image.clone(),
        base: plan.base.clone(),
        dockerfile: plan.dockerfile.clone(),
    };
    Ok(api.store.request_build(&caller.project, id, &new, reuse).await?)
}

/// How to build.
#[derive(Deserialize, ToSchema)]
struct BuildInput {
    /// Builds anew even if nothing has changed.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct BuildQuery {
    /// Builds anew even if nothing has changed.
    #[serde(default, deserialize_with = "query::boolean")]
    force: Option<bool>,
}

/// A build that was asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BuildAsked {
    success: bool,
    /// Null where nothing has to be built.
    build_id: Option<String>,
    /// `building` or `ready`.
    #[schema(example = "building")]
    status: &'static str,
    /// The same.
    #[schema(example = "building")]
    build_status: &'static str,
    environment_id: String,
    environment_name: String,
    /// The name the image has once it is there.
    image_tag: String,
    build_hash: Option<String>,
    message: &'static str,
}

/// Build the image
///
/// Answers at once. Equal environments share an image, and one that is there already is not built again unless `force` is
/// true. A build that fails leaves the image before it in use.
#[utoipa::path(post, path = "/environments/{id}/build", tag = "environments",
    params(("id" = String, Path, description = "The environment's id"), BuildQuery),
    request_body(content = Option<BuildInput>, description = "May be absent"),
    responses(
        (status = 200, description = "The image is there", body = BuildAsked),
        (status = 202, description = "It is being built", body = BuildAsked),
        (status = 409, description = "It cannot be built; the message says why", body = crate::error::ErrorBody),
    ))]
async fn build(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Query(query): Query<BuildQuery>,
    Body(input): Body<BuildInput>,
) -> Result<(StatusCode, Json<BuildAsked>)> {
    let environment = find(&api, &caller, &id).await?;
    let reuse = if input.force || query.force.unwrap_or(false) { Reuse::Nothing } else { Reuse::Good };
    let asked = |build: Option<&Build>, status, image_tag, message| BuildAsked {
        success: true,
        build_id: build.map(|build| build.id.to_string()),
        status,
        build_status: status,
        environment_id: id.to_string(),
        environment_name: environment.name.clone(),
        image_tag,
        build_hash: build.map(|build| build.hash.clone()),
        message,
    };
    let Some(plan) = api.sandboxes.plan(&environment).await? else {
        let base = api.sandboxes.recipe_of(&environment).base;
        return Ok((StatusCode::OK, Json(asked(None, "ready", base, "The base image is all that is needed"))));
    };
    let build = request(&api, &caller, &id, &plan, reuse).await?;
    let (status, message) = match build.status {
        BuildStatus::Ready => (StatusCode::OK, "The image is there already"),
        _ => (StatusCode::ACCEPTED, "The image is being built"),
    };
    Ok((status, Json(asked(Some(&build), word(Some(&build)), build.image.clone(), message))))
}

/// How far the image is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StatusOfBuild {
    environment_id: String,
    build_id: Option<String>,
    /// `pending` (nobody has asked for it since the settings changed), `building`, `ready` or `failed`.
    #[schema(example = "ready")]
    build_status: &'static str,
    /// The image in use.
    image_tag: Option<String>,
    build_hash: Option<String>,
    /// When the last build ended.
    last_build_at: Option<Timestamp>,
    /// What failed, with the last lines that were said.
    build_error: Option<String>,
}

/// Get the status of the build
#[utoipa::path(get, path = "/environments/{id}/build/status", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "How far it is", body = StatusOfBuild)))]
async fn build_status(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<StatusOfBuild>> {
    let environment = find(&api, &caller, &id).await?;
    let recipe = api.sandboxes.recipe_of(&environment);
    let image_tag = if recipe.is_trivial() { Some(recipe.base.clone()) } else { environment.build.image };
    let latest = environment.build.latest.filter(|_| !recipe.is_trivial());
    Ok(Json(StatusOfBuild {
        environment_id: id.into(),
        build_id: latest.as_ref().map(|build| build.id.to_string()),
        build_status: if recipe.is_trivial() { "ready" } else { word(latest.as_ref()) },
        image_tag,
        build_hash: latest.as_ref().map(|build| build.hash.clone()),
        last_build_at: latest.as_ref().and_then(|build| build.completed_at).map(Into::into),
        build_error: latest.and_then(|build| build.error),
    }))
}

/// What a build has said.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BuildLogs {
    environment_id: String,
    build_logs: String,
    /// The same.
    logs: String,
    #[schema(example = "building")]
    build_status: &'static str,
}

/// Get the logs of the build
///
/// Of the last one, while it runs too: up to 2 MiB.
#[utoipa::path(get, path = "/environments/{id}/build/logs", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "What it has said so far", body = BuildLogs)))]
async fn build_logs(State(api): State<Api>, caller: Caller, Path(id): Path<EnvironmentId>) -> Result<Json<BuildLogs>> {
    let environment = find(&api, &caller, &id).await?;
    let is_trivial = api.sandboxes.recipe_of(&environment).is_trivial();
    let latest = environment.build.latest.filter(|_| !is_trivial);
    let logs = match &latest {
        Some(build) => read_log(&api, build).await?,
        None => String::new(),
    };
    Ok(Json(BuildLogs {
        environment_id: id.into(),
        build_logs: logs.clone(),
        logs,
        build_status: if is_trivial { "ready" } else { word(latest.as_ref()) },
    }))
}

async fn read_log(api: &Api, build: &Build) -> Result<String> {
    let pieces = api.store.list_build_log(&build.id, 0).await?;
    Ok(pieces.into_iter().map(|piece| piece.text).collect())
}

/// What came of a test.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestOfBuild {
    /// Everything that the environment asks for is there.
    success: bool,
    environment_id: String,
    image_tag: Option<String>,
    message: &'static str,
    error: Option<String>,
    /// What the test printed: what is there, with versions. If the build failed, what that said.
    logs: String,
    /// Milliseconds that it all took.
    duration: u64,
}

/// Test the image
///
/// Builds it if need be, which is waited for; then starts a container from it, without the environment's files and
/// without a network, and looks whether the languages and packages are there. The container is gone afterwards.
#[utoipa::path(post, path = "/environments/{id}/build/test", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "What came of it", body = TestOfBuild)))]
async fn test_build(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<TestOfBuild>> {
    let began_at = Instant::now();
    let mut environment = find(&api, &caller, &id).await?;
    let mut image_tag = api.sandboxes.recipe_of(&environment).base;
    let plan = api.sandboxes.plan(&environment).await?;
    let answer = |success, image_tag, message, error, logs| {
        let duration = u64::try_from(began_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Json(TestOfBuild { success, environment_id: id.to_string(), image_tag, message, error, logs, duration })
    };
    if let Some(plan) = plan {
        let build = request(&api, &caller, &id, &plan, Reuse::Good).await?;
        let build = wait_for(&api, build).await?;
        if build.status != BuildStatus::Ready {
            let logs = read_log(&api, &build).await?;
            return Ok(answer(false, None, "The image could not be built", build.error, logs));
        }
        image_tag.clone_from(&build.image);
        environment.build.image = Some(build.image);
    }
    let trial = api.sandboxes.try_image(&environment).await?;
    let (message, error) = match trial.is_well {
        true => ("The image has what the environment asks for", None),
        false => ("The image lacks something", trial.output.lines().last().map(str::to_owned)),
    };
    Ok(answer(trial.is_well, Some(image_tag), message, error, trial.output))
}

/// Waits for the end of a build. Its own time limit ends it some time, and so does this server's end.
async fn wait_for(api: &Api, mut build: Build) -> Result<Build> {
    while build.status.is_under_way() {
        if api.stopping.run_until_cancelled(tokio::time::sleep(POLL)).await.is_none() {
            let message = "The server is stopping; the build goes on afterwards";
            return Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        build = api.store.find_build(&build.id).await?.ok_or_else(|| Error::not_found("Build", &build.id))?;
    }
    Ok(build)
}
