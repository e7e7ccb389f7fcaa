//! What an agent is made of: the call's words, a stored agent or its caller's ways, and what it reads first.

use domain::{
    MessageId,
    agent::Agent,
    message::{Message, Role},
    run::{Run, RunOptions},
    subagent::Task,
};

use super::Agents;
use crate::tools::{ToolError, agent::AgentInput};

/// Stored agents that are listed to a model.
const MAX_LISTED: usize = 40;

/// The longest description of one there, in characters.
const MAX_DESCRIPTION_CHARS: usize = 300;

/// What every agent that was called is told of itself.
const INSTRUCTIONS: &str = "# You were called by another agent\n\nYou do one task for another agent, on the computer that \
                            both of you use. Nobody reads along and nobody answers questions. When you are done, your last \
                            message is all that is handed back: say in it what was asked for, complete and true to what \
                            you saw, with the paths of files that matter. What you could not do, say too.";

impl Agents {
    /// Says which stored agents the run may call; `None` if there are none, or it may call nobody.
    pub(crate) fn listing(&self) -> Option<String> {
        if !self.are_offered() {
            return None;
        }
        let lines: Vec<_> = self
            .setup
            .stored
            .iter()
            .filter(|agent| !agent.is_default && Some(&agent.id) != self.run.agent_id.as_ref())
            .take(MAX_LISTED)
            .map(|agent| {
                let description = agent.settings.description.as_deref().unwrap_or_default();
                let description: String = description.chars().take(MAX_DESCRIPTION_CHARS).collect();
                format!("- {} ({}): {}", agent.name, agent.id, description.replace('\n', " "))
            })
            .collect();
        (!lines.is_empty())
            .then(|| format!("# Agents you can call\n\nBy name or id, with the tool Agent:\n{}", lines.join("\n")))
    }

    /// Makes the options of the run that answers a call.
    pub(super) fn options(&self, input: &AgentInput) -> Result<RunOptions, ToolError> {
        if !self.are_offered() {
            let text = "No agent was called: agents called this deep may not call others. Do the work yourself.";
            return Err(ToolError::ForModel(text.into()));
        }
        let stored = input.subagent_type.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let stored = stored.filter(|name| *name != GENERAL).map(|name| self.find(name)).transpose()?;
        let catalogue = &self.parts.catalogue;
        let model = match input.model.as_deref().map(str::trim).filter(|model| !model.is_empty()) {
            Some(model) if catalogue.find(catalogue.resolve_alias(model)).is_none() => {
                return Err(ToolError::ForModel(format!("No agent was called: there is no model {model:?} here.")));
            }
            Some(model) => Some(model.to_owned()),
            None => None,
        };
        let basis = &self.setup.basis;
        let task = Task {
            name: stored.map_or_else(|| GENERAL.to_owned(), |agent| agent.name.clone()),
            description: input.description.chars().take(MAX_DESCRIPTION_CHARS).collect(),
            prompt: input.prompt.clone(),
            agent_id: stored.map(|agent| agent.id.clone()),
            research: None,
            permissions: self.setup.permissions.clone(),
        };
        let options = match stored {
            // It brings its own model, instructions and skills.
            Some(_) => RunOptions {
                model: None,
                instructions: None,
                reasoning_effort: None,
                enabled_skills: None,
                ..basis.clone()
            },
            None => basis.clone(),
        };
        Ok(RunOptions { model: model.or(options.model), subagent: Some(task), ..options })
    }

    fn find(&self, name: &str) -> Result<&Agent, ToolError> {
        let stored = &self.setup.stored;
        let found = stored.iter().find(|agent| agent.id.as_str() == name);
        let found = found.or_else(|| stored.iter().find(|agent| agent.name.eq_ignore_ascii_case(name)));
        found.ok_or_else(|| {
            let names: Vec<_> = stored.iter().take(MAX_LISTED).map(|agent| agent.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let name: String = name.chars().take(100).collect();
            ToolError::ForModel(format!(
                "No agent was called: there is none named {name:?}. There are: {names}. Without subagent_type it is one like you."
            ))
        })
    }
}

/// What an agent is called that is none of the stored ones.
const GENERAL: &str = "general-purpose";

/// Gives what an agent is told of itself, if the run is that of one.
pub(crate) fn instructions(options: &RunOptions) -> Option<String> {
    options.subagent.as_ref().map(|_| INSTRUCTIONS.to_owned())
}

/// Gives the message that an agent begins with. It is none of the thread's.
pub(crate) fn message(run: &Run, task: &Task) -> Message {
    Message {
        id: MessageId::generate(),
        thread_id: run.thread_id.clone(),
        position: 0,
        role: Role::User,
        content: task.prompt.clone(),
        run_id: Some(run.id.clone()),
        metadata: None,
        input_tokens: None,
        output_tokens: None,
        duration_ms: None,
        actions_count: None,
        created_at: run.queued_at,
        attachments: Vec::new(),
        superseded_at: None,
    }
}
