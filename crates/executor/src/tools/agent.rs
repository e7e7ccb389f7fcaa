//! `Agent`: hands a piece of the work to an agent of its own. What it asks for; carrying it out is `crate::agents`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Definition, ToolError, input};

pub(crate) const NAME: &str = "Agent";

pub(super) const DEFINITION: Definition = (
    NAME,
    "Hands a task to another agent, which works by itself on the same computer and gives back its last message only. It \
     knows nothing of this conversation: the prompt must say everything it needs, and what it shall answer. Use it for \
     work that would fill your own context with what you do not need afterwards, and for independent pieces of work: \
     several calls in one reply run side by side. Agents work on the same files, so give those that run side by side \
     different ones.\n\
     With subagent_type it is one of the agents that your instructions list; without, one like you.\n\
     With run_in_background the call returns at once and you go on; you are told the result when it is there, at the \
     latest when you have nothing else to do. TaskStop with the agent's id ends it.",
    r#"{"type":"object","properties":{"description":{"type":"string","description":"What the agent does, in 3 to 5 words"},"prompt":{"type":"string","description":"The task, complete in itself"},"subagent_type":{"type":"string","description":"The name or id of an agent that is listed"},"model":{"type":"string","description":"The model it uses instead of its own"},"run_in_background":{"type":"boolean","description":"Whether to go on without waiting for it"}},"required":["description","prompt"],"additionalProperties":false}"#,
);

/// What a call of an agent says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AgentInput {
    pub description: String,
    pub prompt: String,
    pub subagent_type: Option<String>,
    pub model: Option<String>,
    #[serde(default)]
    pub run_in_background: bool,
}

/// Reads a call's input.
///
/// # Errors
/// `ForModel`: what is wrong with it.
pub(crate) fn parse(input: &RawValue) -> Result<AgentInput, ToolError> {
    let parsed: AgentInput = input::parse(NAME, input)?;
    if parsed.prompt.trim().is_empty() {
        return Err(ToolError::ForModel("The prompt is empty: the agent would have nothing to do.".into()));
    }
    Ok(parsed)
}
