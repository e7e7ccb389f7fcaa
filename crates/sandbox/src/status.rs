//! How the container of an environment is.

use std::time::Duration;

use bollard::models::ContainerStatsResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A container's state and use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    pub is_running: bool,
    /// The engine's id, also of a container that is stopped.
    pub container: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    /// As far as this process knows.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Memory in use, without the file cache that could be given back.
    pub memory_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    /// Processor time spent since the start.
    pub cpu_time: Option<Duration>,
    pub processes: Option<u64>,
}

/// Adds what the engine measures.
pub(crate) fn with_stats(status: Status, stats: &ContainerStatsResponse) -> Status {
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let details = memory.stats.unwrap_or_default();
    // The names of the kernel's two versions of control groups.
    let cache = details.get("total_inactive_file").or(details.get("inactive_file")).copied().unwrap_or(0);
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    Status {
        memory_bytes: memory.usage.map(|usage| usage.saturating_sub(cache)),
        memory_limit_bytes: memory.limit,
        cpu_time: cpu.map(Duration::from_nanos),
        processes: stats.pids_stats.as_ref().and_then(|pids| pids.current),
        ..status
    }
}
