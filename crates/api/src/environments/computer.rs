//! `/environments/{id}/start`, `stop` and `status`: the container of an environment.
//!
//! Nobody needs to start one: a run does when it needs it. The answers are the union of what clients of all versions read.

use axum::{Json, extract::State};
use chrono::Utc;
use domain::EnvironmentId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::find;
use crate::{Api, Result, auth::Caller, body::Body, path::Path, timestamp::Timestamp};

/// Where the files of an environment are inside its container.
const WORKSPACE: &str = "/workspace";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(stop)).routes(routes!(status))
}

/// Clients send limits and skills here. Limits follow from the environment's `computeProfile`, skills from the agent.
#[derive(Deserialize, ToSchema)]
struct LifecycleInput {}

/// A container that runs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Started {
    success: bool,
    /// Always `running`.
    #[schema(example = "running")]
    status: &'static str,
    environment_id: String,
    container_id: String,
    container_name: String,
    image_tag: Option<String>,
    /// Where its files are inside the container.
    #[schema(example = "/workspace")]
    workspace_path: &'static str,
    message: &'static str,
}

/// Start the container
///
/// Answers when it runs. One that runs already is left alone.
#[utoipa::path(post, path = "/environments/{id}/start", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    request_body(content = Option<LifecycleInput>, description = "May be absent; nothing in it is needed"),
    responses((status = 200, description = "It runs", body = Started)))]
async fn start(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(LifecycleInput {}): Body<LifecycleInput>,
) -> Result<Json<Started>> {
    let environment = find(&api, &caller, &id).await?;
    let sandbox = api.sandboxes.open(&api.sandboxes.spec_of(&environment)).await?;
    Ok(Json(Started {
        success: true,
        status: "running",
        environment_id: id.to_string(),
        container_id: sandbox.container().to_owned(),
        container_name: id.into(),
        image_tag: environment.settings.base_image,
        workspace_path: WORKSPACE,
        message: "The container runs",
    }))
}

/// What was stopped.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    success: bool,
    /// Always `stopped`.
    #[schema(example = "stopped")]
    status: &'static str,
    environment_id: String,
    /// How many containers were stopped: 0 or 1.
    stopped: usize,
    /// Their ids.
    containers: Vec<String>,
    message: &'static str,
}

/// Stop the container
///
/// Everything that runs in it ends; the files stay. One that does not run is no error.
#[utoipa::path(post, path = "/environments/{id}/stop", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    request_body(content = Option<LifecycleInput>, description = "May be absent; nothing in it is needed"),
    responses((status = 200, description = "It does not run", body = Stopped)))]
async fn stop(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(LifecycleInput {}): Body<LifecycleInput>,
) -> Result<Json<Stopped>> {
    find(&api, &caller, &id).await?;
    let before = api.sandboxes.status(&id).await?;
    let ran = api.sandboxes.stop(&id).await?;
    let containers: Vec<String> = before.container.into_iter().filter(|_| ran).collect();
    Ok(Json(Stopped {
        success: true,
        status: "stopped",
        environment_id: id.into(),
        stopped: usize::from(ran),
        containers,
        message: if ran { "The container was stopped" } else { "The container did not run" },
    }))
}

/// How a container is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    environment_id: String,
    /// `running` or `stopped`.
    #[schema(example = "running")]
    status: &'static str,
    container_id: Option<String>,
    started_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    /// Seconds since the start.
    uptime: Option<i64>,
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    /// Processes and threads in it.
    processes: Option<u64>,
    message: &'static str,
}

/// Bytes of memory.
#[derive(Serialize, ToSchema)]
struct Memory {
    used: u64,
    limit: Option<u64>,
}

/// Use of processors.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    /// Percent of one core, on average since the start.
    usage: f64,
    /// Seconds of processor time since the start.
    seconds: f64,
}

/// Get the container's status
#[utoipa::path(get, path = "/environments/{id}/status", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "How it is", body = ContainerStatus)))]
async fn status(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<ContainerStatus>> {
    find(&api, &caller, &id).await?;
    let status = api.sandboxes.status(&id).await?;
    let up = status.started_at.map(|started| (Utc::now() - started).as_seconds_f64().max(0.001));
    let cpu = status.cpu_time.zip(up).map(|(time, up)| Cpu {
        usage: (time.as_secs_f64() / up * 1000.0).round() / 10.0,
        seconds: time.as_secs_f64(),
    });
    Ok(Json(ContainerStatus {
        environment_id: id.into(),
        status: if status.is_running { "running" } else { "stopped" },
        container_id: status.container,
        started_at: status.started_at.map(Into::into),
        last_used_at: status.last_used_at.map(Into::into),
        uptime: up.map(|up| up as i64),
        memory: status.memory_bytes.map(|used| Memory { used, limit: status.memory_limit_bytes }),
        cpu,
        processes: status.processes,
        message: if status.is_running { "The container runs" } else { "The container does not run" },
    }))
}
