//! An agent: stored instructions, a model and skills.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentId, AgentVersionId, ProjectId, limits::Limits};

/// How hard the model should think, in the words of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    Minimal,
    Low,
    Medium,
    High,
}

/// An agent as stored. `id` is unique within its project, since callers may choose it.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub id: AgentId,
    pub project_id: ProjectId,
    pub name: String,
    pub model: String,
    pub settings: AgentSettings,
    pub is_default: bool,
    pub is_system: bool,
    pub is_active: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub last_run_at: Option<DateTime<Utc>>,
}

/// An agent as it was after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentVersion {
    pub id: AgentVersionId,
    pub agent_id: AgentId,
    /// Counts from 0.
    pub number: i32,
    /// What people call it.
    pub name: Option<String>,
    pub description: Option<String>,
    pub agent_name: String,
    pub model: String,
    pub settings: AgentSettings,
    /// It is what the agent is now.
    pub is_current: bool,
    /// Runs of the agent use it, whatever is changed.
    pub is_published: bool,
    pub published_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Everything about an agent that no query asks for; one JSON document in the database.
///
/// Fields may be added (with a default), never renamed: old documents must stay readable.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentSettings {
    pub description: Option<String>,
    pub instructions: Option<String>,
    pub reasoning_effort: Option<ReasoningEffort>,
    pub enabled_skills: Vec<String>,
    pub deep_research_model: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    /// What each run of the agent may use.
    pub limits: Limits,
    /// What other clients keep on an agent and this server only stores and gives back (`binary`, `executionEngine`,
    /// `permissionSet`, the `voice…` family), by its name on the wire.
    pub stored: Map<String, Value>,
}
