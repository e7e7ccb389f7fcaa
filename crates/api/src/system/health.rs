//! `/health` and `/ready`.
//!
//! Healthy means that a run could be done: the database and the container engine answer. What was found is good for a
//! second, so that any number of probes costs one look.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};
use utoipa::ToSchema;

use crate::{Api, timestamp::Timestamp};

const GOOD_FOR: Duration = Duration::from_secs(1);
/// One segment of Postgres's log: with less it cannot commit.
const FULL_BELOW_BYTES: u64 = 16 * 1024 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What the last look found.
pub(crate) type Checked = Arc<Mutex<Option<(Instant, Checks)>>>;

/// Whether the server is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `healthy` if the database and the container engine answer and the disk is not full, else `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    timestamp: Timestamp,
    /// Whole seconds since the start.
    uptime: u64,
    checks: Checks,
}

/// What was looked at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Checks {
    database: Answer,
    docker: Answer,
    /// The file system of the data directory.
    disk: Usage,
    /// The memory of the machine.
    memory: Usage,
}

/// Whether something answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// `healthy` or `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    /// How long the answer took.
    latency_ms: f64,
}

/// How much of something is used, in bytes.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Usage {
    /// `healthy`; `low` when less than a twentieth is left; `full` when a disk takes no more; `unknown`.
    #[schema(example = "healthy")]
    status: &'static str,
    used: u64,
    available: u64,
    total: u64,
    /// Of the total, 0 to 100.
    percentage: f64,
}

/// Check the health
///
/// Answers 503 with the same body when unhealthy.
#[utoipa::path(get, path = "/health", tag = "system",
    responses(
        (status = 200, description = "Runs can be done", body = Health),
        (status = 503, description = "The database or the container engine does not answer, or the disk is full", body = Health),
    ))]
pub(super) async fn health(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let checks = checks(&api).await;
    let answers = [&checks.database, &checks.docker].iter().all(|answer| answer.status == "healthy");
    let is_healthy = answers && checks.disk.status != "full";
    let (code, status) = match is_healthy {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let uptime = api.started.elapsed().as_secs();
    (code, Json(Health { status, timestamp: Timestamp::now(), uptime, checks }))
}

/// Whether requests should be sent here.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// `ready`, `stopping` or `waiting`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// Check the readiness
///
/// Ready while the database answers and the server is not being stopped.
#[utoipa::path(get, path = "/ready", tag = "system",
    responses(
        (status = 200, description = "Send requests", body = Readiness),
        (status = 503, description = "Send none", body = Readiness),
    ))]
pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let status = if api.stopping.is_cancelled() {
        "stopping"
    } else if checks(&api).await.database.status == "healthy" {
        "ready"
    } else {
        "waiting"
    };
    let ready = status == "ready";
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { ready, status }))
}

async fn checks(api: &Api) -> Checks {
    // Held while looking: those who come meanwhile take what is found.
    let mut checked = api.checked.lock().await;
    if let Some((at, checks)) = &*checked
        && at.elapsed() < GOOD_FOR
    {
        return checks.clone();
    }
    let (database, docker) = tokio::join!(answer(api.store.ping()), answer(api.sandboxes.ping()));
    let checks = Checks { database, docker, disk: disk(&api.settings.data_dir), memory: memory() };
    *checked = Some((Instant::now(), checks.clone()));
    checks
}

async fn answer<E>(asked: impl Future<Output = Result<(), E>>) -> Answer {
    let started = Instant::now();
    let status = if matches!(timeout(ANSWER_WITHIN, asked).await, Ok(Ok(()))) { "healthy" } else { "unhealthy" };
    Answer { status, latency_ms: (started.elapsed().as_secs_f64() * 1e5).round() / 100.0 }
}

fn disk(directory: &Path) -> Usage {
    match rustix::fs::statvfs(directory) {
        Ok(stat) => {
            let disk = usage(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
            let is_full = disk.total > 0 && disk.available < FULL_BELOW_BYTES;
            Usage { status: if is_full { "full" } else { disk.status }, ..disk }
        }
        Err(_) => usage(0, 0),
    }
}

fn memory() -> Usage {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    usage(bytes("MemTotal").unwrap_or(0), bytes("MemAvailable").unwrap_or(0))
}

fn usage(total: u64, available: u64) -> Usage {
    let used = total.saturating_sub(available);
    let status = match total {
        0 => "unknown",
        _ if available < total / 20 => "low",
        _ => "healthy",
    };
    let percentage = if total == 0 { 0.0 } else { (used as f64 * 1000.0 / total as f64).round() / 10.0 };
    Usage { status, used, available, total, percentage }
}
