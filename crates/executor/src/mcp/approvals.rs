//! Tools that are not what they were when they were allowed.
//!
//! A server says itself what its tools do, and may say something else tomorrow: an innocent tool gets a rule that allows it,
//! and then tells the model to send it what is in the workspace. So a rule of a permission set allows a tool as it was when
//! a run first had both, the rule and the tool. One that has changed since is asked about, like what `ask` rules name, and
//! from then on allowed as it was when somebody said yes. Where no permission set binds a run there is nothing to compare
//! with: nobody has judged anything.

use std::collections::BTreeMap;

use claude::ToolUse;
use domain::{
    event::LogLevel,
    permission::{self, Access, Request, Verdict},
};
use serde_json::Value;
use store::mcp::OfferedTool;

use crate::{computer::Computer, drive::Driver, error::End};

/// The most of a new description that is told, in characters.
const MAX_SHOWN_CHARS: usize = 500;

/// The tools of a run that have changed since they were allowed.
#[derive(Debug, Default)]
pub(crate) struct ChangedTools {
    /// By the name that the model calls.
    tools: BTreeMap<String, OfferedTool>,
    /// What the offer was when they were looked for; `None` as long as that has not happened.
    offer: Option<Option<String>>,
}

impl ChangedTools {
    /// Makes an allowed call of a changed tool one that is asked about.
    pub(crate) fn narrow(&self, tool: &str, verdict: Verdict) -> Verdict {
        match self.tools.get(tool) {
            Some(changed) if verdict.access == Access::Allow => {
                Verdict { access: Access::Ask, rule: Some(rule(tool, changed)) }
            }
            Some(_) | None => verdict,
        }
    }
}

impl Driver<'_> {
    /// Finds what has changed, once for each offer.
    pub(crate) async fn compare_tools(&mut self, computer: &Computer) -> Result<(), End> {
        let offer = computer.servers().digest();
        if self.permissions.is_empty() || self.changed_tools.offer.as_ref() == Some(&offer) {
            return Ok(());
        }
        let mut offered = computer.servers().offered_tools();
        // A server's tool is allowed or not whatever it is called with.
        offered.retain(|(name, _, _)| permission::judge(&self.permissions, name, &Value::Null).access == Access::Allow);
        let tools: Vec<_> = offered.iter().map(|(_, tool, _)| tool.clone()).collect();
        let are_same = self.parts.store.compare_mcp_tools(&self.run.environment_id, &tools).await?;
        let before = std::mem::take(&mut self.changed_tools.tools);
        for ((name, tool, description), is_same) in offered.into_iter().zip(are_same) {
            if is_same {
                continue;
            }
            if self.run.fruitless_attempts <= 1 && before.get(&name) != Some(&tool) {
                let description: String = description.chars().take(MAX_SHOWN_CHARS).collect();
                let message = format!(
                    "The tool {name} is not what it was when it was allowed, so its calls are asked about. It says of \
                     itself now: {description}"
                );
                self.log(LogLevel::Warning, "mcp_log", message).await?;
            }
            self.changed_tools.tools.insert(name, tool);
        }
        self.changed_tools.offer = Some(offer);
        Ok(())
    }

    /// Takes the permission that was given for a call of a changed tool as one for the tool as it is now.
    ///
    /// Gives what the model reads instead of a result where it has changed once more since it was asked about.
    pub(crate) async fn approve_changed(&mut self, call: &ToolUse, request: &Request) -> Result<Option<String>, End> {
        let Some(changed) = self.changed_tools.tools.get(&call.name) else { return Ok(None) };
        // Of its calls some may have been asked about by a rule that is gone; that says nothing of what was shown.
        if request.rule != rule(&call.name, changed) {
            let text = format!(
                "The tool {} has changed since this call was allowed, and the call was not made. Call it again if what \
                 it says of itself now is what you want.",
                call.name
            );
            return Ok(Some(text));
        }
        self.parts.store.approve_mcp_tool(&self.run.environment_id, changed).await?;
        self.changed_tools.tools.remove(&call.name);
        Ok(None)
    }
}

/// What a request names as its reason. Of two definitions it is not the same.
fn rule(name: &str, tool: &OfferedTool) -> String {
    format!("{name} has changed since it was allowed ({})", tool.digits())
}
