//! A thread: a conversation of one project with an agent in an environment.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{AgentId, EnvironmentId, ProjectId, ThreadId, limits::Limits, run::Spent};

/// What a thread is doing, in the words of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadStatus {
    /// Fresh and idle.
    Active,
    Running,
    /// A run waits for a person to decide.
    PermissionAsked,
    Completed,
    Failed,
    Cancelled,
    Archived,
}

impl ThreadStatus {
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Running,
        Self::PermissionAsked,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Archived,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Running => "running",
            Self::PermissionAsked => "permission_asked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Archived => "archived",
        }
    }

    /// Tells whether a run of the thread is under way.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Running | Self::PermissionAsked)
    }
}

impl fmt::Display for ThreadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown status {0:?}")]
pub struct UnknownStatus(pub String);

impl FromStr for ThreadStatus {
    type Err = UnknownStatus;

    fn from_str(status: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|known| known.as_str() == status).ok_or_else(|| UnknownStatus(status.to_owned()))
    }
}

/// A thread as stored, with the names of what it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    pub id: ThreadId,
    pub project_id: ProjectId,
    pub environment_id: EnvironmentId,
    pub environment_name: Option<String>,
    pub agent_id: Option<AgentId>,
    pub agent_name: Option<String>,
    pub app_id: Option<String>,
    pub title: Option<String>,
    pub task: Option<String>,
    pub status: ThreadStatus,
    pub metadata: Option<Map<String, Value>>,
    pub message_count: i64,
    pub last_message_at: Option<DateTime<Utc>>,
    pub last_message_preview: Option<String>,
    /// The number of the newest event; 0 before the first.
    pub last_sequence: i64,
    pub spent: Spent,
    /// What all runs of the thread together may use.
    pub limits: Limits,
    /// Why the last run ended, as [`Outcome::reason`](crate::run::Outcome::reason) says it.
    pub stop_reason: Option<String>,
    /// Messages that wait behind the run under way.
    pub held: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Start of the first run and end of the last one.
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_back_from_its_word() {
        for status in ThreadStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("deleted".parse::<ThreadStatus>().is_err());
    }
}
