//! How the container of an environment is.

use std::time::Duration;

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
