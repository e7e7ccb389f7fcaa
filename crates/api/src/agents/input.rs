//! What clients send to make and change an agent, and what of it is acceptable.

use domain::{
    AgentId,
    agent::{Agent, AgentSettings},
    permission::PermissionSet,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::agents::NewAgent;
use utoipa::ToSchema;

use crate::{
    Error, Result,
    body::{Patch, patch_named},
    caps::{CapFields, CapPatches},
    check::{self, Fields},
};

/// A new agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"name": "Reviewer", "model": "claude-sonnet-5-5", "instructions": "You review Rust code."}))]
pub(super) struct CreateAgent {
    /// An id of your choice, unique in the project: 1 to 128 characters out of A-Z, a-z, 0-9, `_` and `-`.
    id: Option<String>,
    /// 1 to 255 characters.
    name: String,
    /// Any model name; it is passed on to the Messages API.
    model: String,
    description: Option<String>,
    instructions: Option<String>,
    #[schema(value_type = Option<ReasoningEffort>)]
    reasoning_effort: Option<domain::agent::ReasoningEffort>,
    enabled_skills: Option<Vec<String>>,
    deep_research_model: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Takes the place of the project's default agent before it.
    is_default: Option<bool>,
    is_system: Option<bool>,
    /// For each run of the agent.
    #[serde(flatten)]
    caps: CapFields,
    /// All keys without a field of their own; those of [`STORED`] are kept.
    #[serde(flatten)]
    #[schema(value_type = StoredFields)]
    rest: Map<String, Value>,
}

/// A change of an agent. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateAgent {
    /// 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    model: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    instructions: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<ReasoningEffort>)]
    reasoning_effort: Patch<domain::agent::ReasoningEffort>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    enabled_skills: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    deep_research_model: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
    #[serde(flatten)]
    caps: CapPatches,
    #[serde(flatten)]
    #[schema(value_type = StoredFields)]
    rest: Map<String, Value>,
}

/// How hard the model thinks.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the words of domain::agent::ReasoningEffort")]
pub(super) enum ReasoningEffort {
    Minimal,
    Low,
    Medium,
    High,
}

/// What other clients keep on an agent; it is stored and given back, and has no effect here but for `permissionSet`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes the keys of STORED")]
pub(super) struct StoredFields {
    /// A string or `{path, args}`.
    binary: Option<Value>,
    execution_engine: Option<String>,
    /// Which tool calls are made, asked about or refused: levels of access, and beside them
    /// `rules: {deny, ask, allow}` such as `Bash(npm run *)`, `Edit(src/**)`, `WebFetch(domain:example.com)`, `mcp__x`.
    #[schema(value_type = Option<Object>)]
    permission_set: Option<Value>,
    voice_mode: Option<String>,
    voice_provider: Option<String>,
    voice_model: Option<String>,
    voice_id: Option<String>,
    voice_instructions: Option<String>,
    voice_language_hint: Option<String>,
    #[schema(value_type = Option<Object>)]
    voice_turn_detection: Option<Value>,
    #[schema(value_type = Option<Object>)]
    voice_pronunciation_replacements: Option<Value>,
}

#[derive(Clone, Copy)]
enum Shape {
    Any,
    Text,
    Object,
    /// A permission set, the one of these values that has an effect.
    Permissions,
}

const STORED: [(&str, Shape); 11] = [
    ("binary", Shape::Any),
    ("executionEngine", Shape::Text),
    ("permissionSet", Shape::Permissions),
    ("voiceMode", Shape::Text),
    ("voiceProvider", Shape::Text),
    ("voiceModel", Shape::Text),
    ("voiceId", Shape::Text),
    ("voiceInstructions", Shape::Text),
    ("voiceLanguageHint", Shape::Text),
    ("voiceTurnDetection", Shape::Object),
    ("voicePronunciationReplacements", Shape::Object),
];

/// Gives the stored fields of an agent that was made without any.
pub(super) fn stored_defaults() -> Map<String, Value> {
    let default = |name: &str| if name == "voiceMode" { json!("off") } else { Value::Null };
    STORED.iter().map(|(name, _)| ((*name).to_owned(), default(name))).collect()
}

fn check_stored(fields: &mut Fields, rest: &Map<String, Value>) {
    for (name, shape) in STORED {
        let Some(value) = rest.get(name).filter(|value| !value.is_null()) else { continue };
        match shape {
            Shape::Text if !value.is_string() => fields.refuse(name, "must be a string"),
            Shape::Object if !value.is_object() => fields.refuse(name, "must be an object"),
            Shape::Permissions => {
                if let Err(err) = PermissionSet::parse(value) {
                    fields.refuse(name, err.to_string());
                }
            }
            Shape::Any | Shape::Text | Shape::Object => {}
        }
    }
}

fn store(stored: &mut Map<String, Value>, rest: Map<String, Value>) {
    patch_named(stored, rest, STORED.map(|(name, _)| name));
}

impl CreateAgent {
    pub(super) fn into_new(self) -> Result<NewAgent> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        fields.check("model", check::name(&self.model));
        let id = self.id.map(|id| id.parse::<AgentId>()).transpose();
        if let Err(err) = &id {
            fields.refuse("id", err.to_string());
        }
        check_stored(&mut fields, &self.rest);
        let limits = self.caps.check(&mut fields);
        fields.finish()?;
        let mut stored = Map::new();
        store(&mut stored, self.rest);
        Ok(NewAgent {
            id: id.map_err(|err| Error::invalid_field("id", err.to_string()))?,
            name: self.name,
            model: self.model,
            settings: AgentSettings {
                description: self.description,
                instructions: self.instructions,
                reasoning_effort: self.reasoning_effort,
                enabled_skills: self.enabled_skills.unwrap_or_default(),
                deep_research_model: self.deep_research_model,
                metadata: self.metadata,
                limits,
                stored,
            },
            is_default: self.is_default.unwrap_or(false),
            is_system: self.is_system.unwrap_or(false),
        })
    }
}

impl UpdateAgent {
    pub(super) fn check(&self) -> Result<()> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        fields.check_patch("model", &self.model, |model| check::name(model));
        check_stored(&mut fields, &self.rest);
        self.caps.check(&mut fields);
        fields.finish()
    }

    pub(super) fn enabled_skills(&self) -> &[String] {
        match &self.enabled_skills {
            Patch::Value(skills) => skills,
            Patch::Absent | Patch::Null => &[],
        }
    }

    pub(super) fn apply(self, agent: &mut Agent) {
        self.name.apply_or_default(&mut agent.name);
        self.model.apply_or_default(&mut agent.model);
        let settings = &mut agent.settings;
        self.description.apply(&mut settings.description);
        self.instructions.apply(&mut settings.instructions);
        self.reasoning_effort.apply(&mut settings.reasoning_effort);
        self.enabled_skills.apply_or_default(&mut settings.enabled_skills);
        self.deep_research_model.apply(&mut settings.deep_research_model);
        self.metadata.apply(&mut settings.metadata);
        self.caps.apply(&mut settings.limits);
        store(&mut settings.stored, self.rest);
    }
}
