//! Triggers: work that starts when somebody else tells of an event, by a signed webhook.
//!
//! What comes is data of strangers: it chooses whether the work starts, and is put into the message as a quotation.

mod filter;
mod prompt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AgentId, EnvironmentId, ExecutionId, ProjectId, RunId, ThreadId, TriggerId, run::RunStatus, word::words};

words! {
    /// Whose events they are: where it is looked for the event's name, and for the signature.
    Source {
        Github = "github",
        Gitlab = "gitlab",
        Slack = "slack",
        Email = "email",
        Webhook = "webhook",
        Cron = "cron",
        Custom = "custom",
    }
}

/// What a trigger does: it sends a message. Clients of different age name the text differently.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Action {
    pub prompt: Option<String>,
    pub message: Option<String>,
    pub template: Option<String>,
}

impl Action {
    /// Gives the text that the message is made from.
    pub fn text(&self) -> Option<&str> {
        let texts = [&self.prompt, &self.message, &self.template];
        texts.into_iter().flatten().map(String::as_str).find(|text| !text.trim().is_empty())
    }
}

/// A stored trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    pub id: TriggerId,
    pub project_id: ProjectId,
    pub name: String,
    pub environment_id: EnvironmentId,
    pub agent_id: Option<AgentId>,
    pub source: Source,
    /// `*` is any.
    pub event: String,
    pub filters: Map<String, Value>,
    pub action: Action,
    pub enabled: bool,
    pub last_triggered_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// An event that somebody told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What its sender calls this telling: the same again is a repetition.
    pub id: Option<String>,
    /// The event's name by a header; without one it may be in the payload.
    pub event: Option<String>,
    pub payload: Map<String, Value>,
}

impl Trigger {
    /// Says why a delivery starts nothing; `None` if it does.
    pub fn refusal(&self, delivery: &Delivery) -> Option<String> {
        if !self.enabled {
            return Some("The trigger is switched off".into());
        }
        let names = delivery.names();
        // A sender that cannot name its events has only one.
        if self.event != "*" && !names.is_empty() && !names.iter().any(|name| name.eq_ignore_ascii_case(&self.event)) {
            return Some(format!("The event is {}, not {}", names.join(" or "), self.event));
        }
        let failed = self.filters.iter().find(|(name, wanted)| !filter::matches(name, wanted, &delivery.payload));
        failed.map(|(name, _)| format!("The filter {name} does not match"))
    }

    /// Gives the message for a delivery.
    pub fn message(&self, delivery: &Delivery) -> String {
        prompt::render(self, delivery)
    }
}

impl Delivery {
    /// Gives what the event may be called, the sender's own name for it first: `push`; `pull_request`,
    /// `pull_request.opened`; of `Merge Request Hook` also `merge_request`.
    pub fn names(&self) -> Vec<String> {
        let text = |name: &str| self.payload.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut names: Vec<String> = self.event.iter().filter(|name| !name.is_empty()).cloned().collect();
        if let Some(plain) = self.event.as_deref().and_then(|name| name.strip_suffix(" Hook")) {
            names.push(plain.to_lowercase().replace(' ', "_"));
        }
        names.extend(text("object_kind").or_else(|| names.is_empty().then(|| text("event").or(text("type")))?));
        if let Some(action) = filter::find("action", &self.payload).and_then(Value::as_str) {
            let with_action: Vec<_> = names.iter().map(|name| format!("{name}.{action}")).collect();
            names.extend(with_action);
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

words! {
    /// What was done with a delivery.
    ExecutionState {
        /// Its run was made; how that goes is told by the run.
        Started = "started",
        /// It could not start.
        Failed = "failed",
    }
}

/// A delivery that was taken.
#[derive(Debug, Clone)]
pub struct Execution {
    pub id: ExecutionId,
    pub trigger_id: TriggerId,
    pub project_id: ProjectId,
    /// Somebody tried the trigger; no event came.
    pub is_test: bool,
    pub delivery: Delivery,
    pub state: ExecutionState,
    pub thread_id: Option<ThreadId>,
    pub run_id: Option<RunId>,
    pub run_status: Option<RunStatus>,
    /// Why it did not start, or how its run failed.
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(event: Option<&str>, payload: Value) -> Vec<String> {
        let payload = payload.as_object().expect("an object").clone();
        Delivery { id: None, event: event.map(str::to_owned), payload }.names()
    }

    #[test]
    fn an_event_is_called_what_its_sender_and_its_readers_call_it() {
        assert_eq!(names(Some("push"), json!({})), ["push"]);
        assert_eq!(names(Some("pull_request"), json!({"action": "opened"})), ["pull_request", "pull_request.opened"]);
        let merge = json!({"object_kind": "merge_request", "object_attributes": {"action": "open"}});
        assert_eq!(
            names(Some("Merge Request Hook"), merge),
            ["Merge Request Hook", "merge_request", "Merge Request Hook.open", "merge_request.open"]
        );
        assert_eq!(names(None, json!({"type": "data.received", "a": 1})), ["data.received"]);
        assert_eq!(names(None, json!({"a": 1})), Vec::<String>::new());
    }
}
