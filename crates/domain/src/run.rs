//! A run: one execution caused by one message. This module has its states and what it spends.
//!
//! ```text
//! held ──its turn──▶ queued ──claim──▶ running ──finish──▶ completed | failed | cancelled
//!   │                 ▲ │  ▲             │                              ▲
//!   │           resume│ │  └───release───┤                              │
//!   │                 └─┴──▶ paused ◀────┘                              │
//!   └─────────────────────────── cancel ────────────────────────────────┘
//! ```
//!
//! From `running` it may also come to `waiting` (for a decision about a call), and from there back to `queued`.
//!
//! Of a thread's runs, one at most is neither held nor over.
//!
//! A running run is held by a lease. When the lease ends without a renewal anyone may claim the run again; that is not
//! a change of state, since starting a run and resuming it are the same.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Add, AddAssign},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AgentId, AgentVersionId, ApiKeyId, EnvironmentId, MessageId, MicroUsd, ProjectId, RunId, ThreadId,
    agent::ReasoningEffort,
    attachment::Attachment,
    limits::Limits,
    repository::GithubRepository,
    research::Part,
    subagent::{Place, Subagent, Task},
};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It waits behind another run of its thread.
    Held,
    Queued,
    Running,
    /// It waits for somebody to decide about calls; no worker holds it.
    Waiting,
    /// Somebody stopped it for a while; no worker holds it.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
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

/// How a run ended. `code` of a failure is a stable word (`model_error`, or a limit: `budget`, `max_turns`, `max_tokens`,
/// `timeout`), `message` a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Completed {
        content: String,
    },
    Failed {
        code: String,
        message: String,
    },
    /// Somebody stopped it.
    Cancelled,
    /// Somebody stopped it to have another message worked on.
    Interrupted,
}

impl Outcome {
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Completed { .. } => RunStatus::Completed,
            Self::Failed { .. } => RunStatus::Failed,
            Self::Cancelled | Self::Interrupted => RunStatus::Cancelled,
        }
    }

    /// Gives why the run ended, as a stable word: `completed`, `cancelled`, `interrupted`, or a failure's code.
    pub fn reason(&self) -> &str {
        match self {
            Self::Completed { .. } => "completed",
            Self::Failed { code, .. } => code,
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
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

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// It answers a message.
    #[default]
    Message,
    /// It summarises the conversation so far; nobody said anything.
    Compact,
    /// It has the model forget the conversation so far.
    Clear,
    /// It goes on where the run before it ended too soon; nobody said anything.
    Resume,
}

impl RunKind {
    pub const ALL: [Self; 4] = [Self::Message, Self::Compact, Self::Clear, Self::Resume];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Compact => "compact",
            Self::Clear => "clear",
            Self::Resume => "resume",
        }
    }
}

/// What a message asks of its run beyond the agent and the environment; one JSON document in the database.
///
/// Fields may be added (with a default), never renamed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    pub kind: RunKind,
    /// What the model reads instead of the displayed message.
    pub execution_content: Option<String>,
    pub model: Option<String>,
    pub instructions: Option<String>,
    pub reasoning_effort: Option<ReasoningEffort>,
    pub internet_access: Option<bool>,
    pub environment_variables: BTreeMap<String, String>,
    pub enabled_skills: Option<Vec<String>>,
    pub attachments: Vec<Attachment>,
    /// To be in the workspace before the model is asked.
    pub github_repository: Option<GithubRepository>,
    /// Commands to be run before the model is asked.
    pub setup_scripts: Vec<String>,
    /// The JSON Schema that the answer must satisfy.
    pub response_schema: Option<Value>,
    /// What the run may use; the agent's limits hold beside them.
    pub limits: Limits,
    /// The key that asked for the run, whose budget holds for it; `None` for what starts by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<ApiKeyId>,
    /// What the run was called for by another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagent: Option<Task>,
    /// The message is to be answered by deep research.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub research_mode: bool,
    /// The model that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deep_research_model: Option<String>,
    /// Accepted and kept for features that read them later, by their name on the wire.
    pub stored: Map<String, Value>,
}

impl RunOptions {
    /// Gives the part in a session of deep research that the run has, if it has one.
    pub fn research(&self) -> Option<&Part> {
        self.subagent.as_ref()?.research.as_ref()
    }

    /// Gives the options for a run that works as this one and is caused by something else: without what belonged to the
    /// one message.
    #[must_use]
    pub fn without_message(self) -> Self {
        Self {
            execution_content: None,
            attachments: Vec::new(),
            github_repository: None,
            setup_scripts: Vec::new(),
            ..self
        }
    }
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub thread_id: ThreadId,
    pub project_id: ProjectId,
    pub environment_id: EnvironmentId,
    pub agent_id: Option<AgentId>,
    /// What the agent is for this run, since it was first claimed.
    pub agent_version_id: Option<AgentVersionId>,
    pub message_id: Option<MessageId>,
    pub status: RunStatus,
    pub options: RunOptions,
    /// How often it was claimed; above 1 after a crash or a take-over.
    pub attempt: i32,
    /// How often it was claimed since the model last answered.
    pub fruitless_attempts: i32,
    /// The number of its first event.
    pub first_sequence: i64,
    /// The model that it goes on with, after its own could not answer.
    pub fallback_model: Option<String>,
    pub outcome: Option<Outcome>,
    pub spent: Spent,
    pub turns: i32,
    pub calls: i32,
    pub is_cancel_requested: bool,
    /// The request to cancel comes with another message that is to be worked on instead.
    pub is_interrupt: bool,
    pub is_pause_requested: bool,
    /// Notes that the model has not been given yet.
    pub steers: i32,
    /// Time that was worked, up to the last checkpoint.
    pub worked: Duration,
    /// Where it stands among runs that have called each other; `None` for one that a message caused.
    pub place: Option<Place>,
    pub queued_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub parked_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

impl Run {
    /// Gives the run at the top: itself, unless another one has called it.
    pub fn root(&self) -> &RunId {
        self.place.as_ref().map_or(&self.id, |place| &place.root)
    }

    /// Gives how many runs are above it.
    pub fn depth(&self) -> u32 {
        self.place.as_ref().map_or(0, |place| place.depth)
    }

    /// Says who it is in the log of its thread, if another run has called it.
    pub fn subagent(&self) -> Option<Subagent> {
        let place = self.place.as_ref()?;
        let task = self.options.subagent.as_ref();
        Some(Subagent {
            run_id: self.id.clone(),
            parent_run_id: place.parent.clone(),
            call_id: place.call_id.clone(),
            name: task.map(|task| task.name.clone()).unwrap_or_default(),
            description: task.map(|task| task.description.clone()).unwrap_or_default(),
        })
    }
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
            Outcome::Interrupted,
        ] {
            let json = serde_json::to_string(&outcome).expect("serialises");
            assert_eq!(serde_json::from_str::<Outcome>(&json).expect("reads back"), outcome);
        }
    }
}
