//! An agent as clients see it: the union of what all of them read.

use domain::agent::Agent;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{caps::CapsView, timestamp::Timestamp};

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Agent)]
pub(crate) struct AgentView {
    #[schema(example = "agent_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    project_id: String,
    #[schema(example = "Reviewer")]
    name: String,
    description: Option<String>,
    #[schema(example = "claude-sonnet-5-5")]
    model: String,
    #[schema(example = "You review Rust code.")]
    instructions: Option<String>,
    #[schema(value_type = Option<super::input::ReasoningEffort>)]
    reasoning_effort: Option<domain::agent::ReasoningEffort>,
    /// Ids of the skills it may use.
    enabled_skills: Vec<String>,
    deep_research_model: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// For each of its runs.
    #[serde(flatten)]
    caps: CapsView,
    #[serde(flatten)]
    #[schema(value_type = super::input::StoredFields)]
    stored: Map<String, Value>,
    is_active: bool,
    is_default: bool,
    is_system: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_run_at: Option<Timestamp>,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        let settings = agent.settings;
        let mut stored = super::input::stored_defaults();
        stored.extend(settings.stored);
        Self {
            id: agent.id.into(),
            user_id: agent.project_id.to_string(),
            organization_id: None,
            created_by_user_id: None,
            project_id: agent.project_id.into(),
            name: agent.name,
            description: settings.description,
            model: agent.model,
            instructions: settings.instructions,
            reasoning_effort: settings.reasoning_effort,
            enabled_skills: settings.enabled_skills,
            deep_research_model: settings.deep_research_model,
            metadata: settings.metadata,
            caps: settings.limits.into(),
            stored,
            is_active: agent.is_active,
            is_default: agent.is_default,
            is_system: agent.is_system,
            created_at: agent.created_at.into(),
            updated_at: agent.updated_at.into(),
            last_run_at: agent.last_run_at.map(Into::into),
        }
    }
}

/// `{agent}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentEnvelope {
    agent: AgentView,
}

impl From<Agent> for AgentEnvelope {
    fn from(agent: Agent) -> Self {
        Self { agent: agent.into() }
    }
}
