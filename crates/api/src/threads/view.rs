//! A thread as clients see it: the union of what all of them read.

use chrono::{DateTime, Utc};
use domain::thread::Thread;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    caps::CapsView,
    messages::MessageView,
    timestamp::Timestamp,
    wire_event::{Tokens, Usage},
};

/// A thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Thread)]
pub(crate) struct ThreadView {
    #[schema(example = "thread_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    project_id: String,
    environment_id: String,
    environment_name: Option<String>,
    agent_id: Option<String>,
    agent_name: Option<String>,
    agent_photo_url: Option<String>,
    agent_avatar_url: Option<String>,
    app_id: Option<String>,
    context_id: Option<String>,
    context_name: Option<String>,
    task: Option<String>,
    title: String,
    /// `active` (fresh and idle), `running`, `permission_asked`, `completed`, `failed`, `cancelled` or `archived`.
    #[schema(example = "completed")]
    status: &'static str,
    /// All of them, where one thread was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<MessageView>>,
    message_count: i64,
    last_message_at: Option<Timestamp>,
    /// At most 200 characters.
    last_message_preview: Option<String>,
    total_tokens: i64,
    /// All tokens of the prompts, cached or not.
    input_tokens: i64,
    output_tokens: i64,
    /// Those of the input that a cache served.
    cache_tokens: i64,
    tokens: Tokens,
    token_usage: Usage,
    /// US dollars, as all costs here.
    total_cost: f64,
    total_cost_usd: f64,
    agent_cost: f64,
    agent_cost_usd: f64,
    environment_cost: f64,
    environment_cost_usd: f64,
    #[serde(rename = "totalCT")]
    total_ct: Option<i64>,
    #[serde(rename = "agentCT")]
    agent_ct: Option<i64>,
    #[serde(rename = "environmentCT")]
    environment_ct: Option<i64>,
    environment_minutes: Option<f64>,
    #[serde(rename = "environmentStorageGB")]
    environment_storage_gb: Option<f64>,
    #[schema(value_type = Option<Vec<Object>>)]
    attachments: Option<Vec<Value>>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// For all runs of the thread together.
    #[serde(flatten)]
    caps: CapsView,
    /// Why the last run ended: `completed`, `cancelled`, `interrupted`, a limit (`budget`, `max_turns`, `max_tokens`,
    /// `timeout`) or the code of a failure. Null while a run is under way.
    stop_reason: Option<String>,
    /// Messages that wait behind the run under way.
    queued_messages: i32,
    /// The number of its newest event.
    last_sequence: i64,
    /// When the first run was accepted.
    started_at: Option<Timestamp>,
    /// When the last run ended; null while one is under way.
    completed_at: Option<Timestamp>,
    /// From `startedAt` to `completedAt`.
    #[schema(example = "1m 23s")]
    duration: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Thread> for ThreadView {
    fn from(thread: Thread) -> Self {
        let cost = thread.spent.cost.as_usd();
        Self {
            id: thread.id.into(),
            user_id: thread.project_id.to_string(),
            organization_id: None,
            created_by_user_id: None,
            project_id: thread.project_id.into(),
            environment_id: thread.environment_id.into(),
            environment_name: thread.environment_name,
            agent_id: thread.agent_id.map(Into::into),
            agent_name: thread.agent_name,
            agent_photo_url: None,
            agent_avatar_url: None,
            app_id: thread.app_id,
            context_id: None,
            context_name: None,
            task: thread.task,
            title: thread.title.unwrap_or_default(),
            status: thread.status.as_str(),
            messages: None,
            message_count: thread.message_count,
            last_message_at: thread.last_message_at.map(Into::into),
            last_message_preview: thread.last_message_preview,
            total_tokens: thread.spent.total_tokens(),
            input_tokens: thread.spent.prompt_tokens(),
            output_tokens: thread.spent.output_tokens,
            cache_tokens: thread.spent.cache_read_tokens,
            tokens: thread.spent.into(),
            token_usage: thread.spent.into(),
            total_cost: cost,
            total_cost_usd: cost,
            agent_cost: cost,
            agent_cost_usd: cost,
            environment_cost: 0.0,
            environment_cost_usd: 0.0,
            total_ct: None,
            agent_ct: None,
            environment_ct: None,
            environment_minutes: None,
            environment_storage_gb: None,
            attachments: None,
            metadata: thread.metadata,
            caps: thread.limits.into(),
            stop_reason: thread.stop_reason,
            queued_messages: thread.held,
            last_sequence: thread.last_sequence,
            started_at: thread.started_at.map(Into::into),
            completed_at: thread.completed_at.map(Into::into),
            duration: duration(thread.started_at, thread.completed_at),
            created_at: thread.created_at.into(),
            updated_at: thread.updated_at.into(),
        }
    }
}

impl ThreadView {
    pub(super) fn with_messages(self, messages: Vec<MessageView>) -> Self {
        Self { messages: Some(messages), ..self }
    }

    /// How long it took, as people read it.
    pub(crate) fn duration(&self) -> Option<&str> {
        self.duration.as_deref()
    }
}

/// How a thread stands, for those who poll.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThreadStatus {
    id: String,
    thread_id: String,
    #[schema(example = "running")]
    status: &'static str,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    #[schema(example = "1m 23s")]
    duration: Option<String>,
    /// Why the last run ended; null while one is under way.
    stop_reason: Option<String>,
    /// Messages that wait behind the run under way.
    queued_messages: i32,
    /// The number of its newest event.
    last_sequence: i64,
    updated_at: Timestamp,
}

impl From<Thread> for ThreadStatus {
    fn from(thread: Thread) -> Self {
        Self {
            id: thread.id.to_string(),
            thread_id: thread.id.into(),
            status: thread.status.as_str(),
            stop_reason: thread.stop_reason,
            queued_messages: thread.held,
            duration: duration(thread.started_at, thread.completed_at),
            started_at: thread.started_at.map(Into::into),
            completed_at: thread.completed_at.map(Into::into),
            last_sequence: thread.last_sequence,
            updated_at: thread.updated_at.into(),
        }
    }
}

/// Gives a span of time as people read it.
fn duration(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Option<String> {
    let elapsed = end? - start?;
    let seconds = elapsed.num_seconds();
    Some(match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}.{}s", elapsed.subsec_millis() / 100),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_span_of_time_is_told_in_its_two_largest_units() {
        let start = DateTime::UNIX_EPOCH;
        for (millis, text) in [(0, "0.0s"), (4_260, "4.2s"), (83_900, "1m 23s"), (7_380_000, "2h 3m")] {
            let end = start + TimeDelta::milliseconds(millis);
            assert_eq!(duration(Some(start), Some(end)).as_deref(), Some(text));
        }
        assert_eq!(duration(Some(start), None), None);
    }
}
