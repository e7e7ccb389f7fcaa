//! A run: one execution caused by one message. This module has its states and what it spends.
//!
//! ```text
//! queued ──claim──▶ running ──finish──▶ completed | failed | cancelled
//!    └───────cancel────────────────────────────────────────▲
//! ```
//!
//! A running run is held by a lease. When the lease ends without a renewal anyone may claim the run again; that is not
//! a change of state, since starting a run and resuming it are the same.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Add, AddAssign},
    str::FromStr,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentId, EnvironmentId, MessageId, MicroUsd, ProjectId, RunId, ThreadId, agent::ReasoningEffort};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Tells whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no run status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown run status {0:?}")]
pub struct UnknownRunStatus(pub String);

impl FromStr for RunStatus {
    type Err = UnknownRunStatus;

    fn from_str(status: &str) -> Result<Self, UnknownRunStatus> {
        Self::ALL.into_iter().find(|known| known.as_str() == status).ok_or_else(|| UnknownRunStatus(status.to_owned()))
    }
}

/// How a run ended. `code` of a failure is a stable word (`model_error`, `max_turns`, …), `message` a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Completed { content: String },
    Failed { code: String, message: String },
    Cancelled,
}

impl Outcome {
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Completed { .. } => RunStatus::Completed,
            Self::Failed { .. } => RunStatus::Failed,
            Self::Cancelled => RunStatus::Cancelled,
        }
    }
}

/// Tokens, turns and money: of one turn, a run or a thread. Adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Tokens of the prompt that no cache served.
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub cost: MicroUsd,
}

impl Spent {
    /// Gives all tokens of the prompt, cached or not.
    pub fn prompt_tokens(&self) -> i64 {
        self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
    }

    pub fn total_tokens(&self) -> i64 {
        self.prompt_tokens() + self.output_tokens
    }
}

impl Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            cache_read_tokens: self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens: self.cache_write_tokens + other.cache_write_tokens,
            cost: self.cost + other.cost,
        }
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What a message asks of its run beyond the agent and the environment; one JSON document in the database.
///
/// Fields may be added (with a default), never renamed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// What the model reads instead of the displayed message.
    pub execution_content: Option<String>,
    pub model: Option<String>,
    pub instructions: Option<String>,
    pub reasoning_effort: Option<ReasoningEffort>,
    pub internet_access: Option<bool>,
    pub environment_variables: BTreeMap<String, String>,
    pub enabled_skills: Option<Vec<String>>,
    /// Accepted and kept for features that read them later, by their name on the wire.
    pub stored: Map<String, Value>,
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub thread_id: ThreadId,
    pub project_id: ProjectId,
    pub environment_id: EnvironmentId,
    pub agent_id: Option<AgentId>,
    pub message_id: Option<MessageId>,
    pub status: RunStatus,
    pub options: RunOptions,
    /// How often it was claimed; above 1 after a crash or a take-over.
    pub attempt: i32,
    /// How often it was claimed since the model last answered.
    pub fruitless_attempts: i32,
    /// The number of its first event.
    pub first_sequence: i64,
    pub outcome: Option<Outcome>,
    pub spent: Spent,
    pub turns: i32,
    pub calls: i32,
    pub is_cancel_requested: bool,
    pub queued_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_back_from_its_word() {
        for status in RunStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }

    #[test]
    fn an_outcome_survives_its_json() {
        for outcome in [
            Outcome::Completed { content: "done\u{2028}".into() },
            Outcome::Failed { code: "model_error".into(), message: "no".into() },
            Outcome::Cancelled,
        ] {
            let json = serde_json::to_string(&outcome).expect("serialises");
            assert_eq!(serde_json::from_str::<Outcome>(&json).expect("reads back"), outcome);
        }
    }
}
