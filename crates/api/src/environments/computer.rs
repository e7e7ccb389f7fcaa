//! `/environments/{id}/start`, `stop` and `status`: the container of an environment.
//!
//! Nobody needs to start one: a run does when it needs it. The answers are the union of what clients of all versions read.

use axum::{Json, extract::State};
use chrono::Utc;
use domain::EnvironmentId;
use sandbox::{DiskEnforcement, Egress, Report};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{builds, find};
use crate::{
    Api, Result,
    auth::Caller,
    body::Body,
    path::Path,
    previews::ports::{self, PortView},
    timestamp::Timestamp,
};

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
/// Answers when it runs. One that runs already is left alone. While its first image is being built it is 409; with an
/// image that is older than the settings it is started, and the new one is built meanwhile.
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
    let environment = builds::startable(&api, &caller, environment).await?;
    let sandbox = api.sandboxes.open(&api.sandboxes.spec_of(&environment)).await?;
    Ok(Json(Started {
        success: true,
        status: "running",
        environment_id: id.to_string(),
        container_id: sandbox.container().to_owned(),
        container_name: id.into(),
        image_tag: environment.build.image.or(environment.settings.base_image),
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
    /// Also of a container that does not run any more.
    last_used_at: Option<Timestamp>,
    /// How many runs there were in this environment.
    execution_count: i64,
    /// Seconds since the start.
    uptime: Option<i64>,
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    /// Processes and threads in it.
    processes: Option<u64>,
    /// Bytes on the disk that the environment took when it was last looked at; null where it was not lately.
    disk: Option<u64>,
    /// What it may use at most, whether it runs or not.
    limits: ContainerLimits,
    enforcement: Enforcement,
    /// The TCP ports that something in it listens on; null where that is not known.
    ports: Option<Vec<PortView>>,
    message: &'static str,
}

/// What a container may use at most; it follows from the environment's `computeProfile`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContainerLimits {
    /// Bytes, swap included.
    memory: u64,
    /// Processor cores.
    cpus: f64,
    /// Processes and threads.
    processes: u32,
    /// Bytes on the disk: files, home directory and what is written beside the image.
    disk: u64,
}

/// Which promises this server's host keeps.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Enforcement {
    memory: bool,
    cpu: bool,
    processes: bool,
    /// Who keeps an environment from filling the disk: `watchdog` looks from time to time, and ends what runs.
    #[schema(example = "watchdog")]
    disk: &'static str,
    /// Whether a container with internet is kept from this host and from private networks.
    network: bool,
    /// Whether dangerous system calls are filtered.
    system_calls: bool,
    /// What of it does not hold here, as sentences.
    not_enforced: Vec<&'static str>,
}

impl Enforcement {
    fn new(report: &Report) -> Self {
        let network = report.egress == Egress::Enforced;
        let promises = [
            (report.memory, "The memory limit does not hold on this host"),
            (report.cpus, "The processor limit does not hold on this host"),
            (report.pids, "The limit of processes does not hold on this host"),
            (network, "Containers with internet cannot be kept from private networks on this host"),
            (report.seccomp, "System calls are not filtered on this host"),
        ];
        Self {
            memory: report.memory,
            cpu: report.cpus,
            processes: report.pids,
            disk: match report.disk {
                DiskEnforcement::Watchdog => "watchdog",
            },
            network,
            system_calls: report.seccomp,
            not_enforced: promises.iter().filter(|(holds, _)| !holds).map(|(_, sentence)| *sentence).collect(),
        }
    }
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
    let environment = find(&api, &caller, &id).await?;
    let status = api.sandboxes.status(&id).await?;
    let (execution_count, last_run_at) = api.store.environment_runs(&caller.project, &id).await?;
    let limits = api.sandboxes.limits_of(environment.settings.compute_profile);
    let report = api.sandboxes.recent_report().await;
    // What is inside may not answer, and the rest is known all the same.
    let ports = if status.is_running { ports::list(&api, &id).await.ok() } else { Some(Vec::new()) };
    let up = status.started_at.map(|started| (Utc::now() - started).as_seconds_f64().max(0.001));
    let cpu = status.cpu_time.zip(up).map(|(time, up)| Cpu {
        usage: (time.as_secs_f64() / up * 1000.0).round() / 10.0,
        seconds: time.as_secs_f64(),
    });
    Ok(Json(ContainerStatus {
        environment_id: id.to_string(),
        status: if status.is_running { "running" } else { "stopped" },
        container_id: status.container,
        started_at: status.started_at.map(Into::into),
        // What this process has not seen, the runs tell.
        last_used_at: status.last_used_at.max(last_run_at).map(Into::into),
        execution_count,
        uptime: up.map(|up| up as i64),
        memory: status.memory_bytes.map(|used| Memory { used, limit: status.memory_limit_bytes }),
        cpu,
        processes: status.processes,
        disk: api.sandboxes.disk_bytes(&id),
        limits: ContainerLimits {
            memory: limits.memory_bytes,
            cpus: limits.cpus,
            processes: limits.pids,
            disk: limits.disk_bytes,
        },
        enforcement: Enforcement::new(&report),
        ports,
        message: if status.is_running { "The container runs" } else { "The container does not run" },
    }))
}
