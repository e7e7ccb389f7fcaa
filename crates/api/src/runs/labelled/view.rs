//! A run in the words of clients that know no threads.

use domain::run::RunStatus;
use serde::Serialize;
use serde_json::{Map, Value};
use store::run_labels::LabelledRun;
use utoipa::ToSchema;

use crate::{Error, Result, timestamp::Timestamp};

/// A run, and what it is called.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Run)]
pub(super) struct LabelledRunView {
    #[schema(example = "run_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    project_id: String,
    thread_id: String,
    environment_id: String,
    agent_id: Option<String>,
    /// As the caller calls it, else the name of the thread's agent.
    agent_name: Option<String>,
    /// As the caller calls it, else the thread's title.
    #[schema(example = "Nightly report")]
    name: String,
    title: Option<String>,
    /// The message that causes it.
    task: String,
    /// What the model reads instead of the task.
    prompt: Option<String>,
    /// `pending`, `running`, `success`, `failed` or `cancelled`.
    #[schema(example = "success")]
    status: &'static str,
    /// Why it failed.
    error: Option<String>,
    /// Seconds, once it is over.
    duration: Option<f64>,
    /// US dollars.
    cost: f64,
    token_usage: RunTokens,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    workspace_id: Option<Value>,
    workspace_name: Option<Value>,
    context_id: Option<Value>,
    created_at: Timestamp,
    updated_at: Timestamp,
    completed_at: Option<Timestamp>,
    /// Always null: a deleted run is not found.
    #[schema(value_type = Option<String>)]
    deleted_at: Option<Timestamp>,
}

/// What a run has used.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunTokens {
    /// Of prompts, cached or not.
    input_tokens: i64,
    output_tokens: i64,
    /// Of prompts, served by a cache.
    cached_tokens: i64,
}

impl From<LabelledRun> for LabelledRunView {
    fn from(labelled: LabelledRun) -> Self {
        let LabelledRun { run, mut label, thread_title, agent_name, task, updated_at } = labelled;
        let mut stored = |name: &str| label.stored.remove(name);
        let (workspace_id, workspace_name, context_id) =
            (stored("workspaceId"), stored("workspaceName"), stored("contextId"));
        let error = match run.outcome {
            Some(domain::run::Outcome::Failed { message, .. }) => Some(message),
            _ => None,
        };
        Self {
            project_id: run.project_id.into(),
            thread_id: run.thread_id.into(),
            environment_id: run.environment_id.into(),
            agent_id: run.agent_id.map(Into::into),
            agent_name: label.agent_name.or(agent_name),
            name: label.name.or(thread_title).unwrap_or_else(|| run.id.to_string()),
            title: label.title,
            task: task.unwrap_or_default(),
            prompt: run.options.execution_content,
            status: word(run.status),
            error,
            duration: run.started_at.zip(run.completed_at).map(|(start, end)| (end - start).as_seconds_f64()),
            cost: run.spent.cost.as_usd(),
            token_usage: RunTokens {
                input_tokens: run.spent.prompt_tokens(),
                output_tokens: run.spent.output_tokens,
                cached_tokens: run.spent.cache_read_tokens,
            },
            metadata: label.metadata,
            workspace_id,
            workspace_name,
            context_id,
            created_at: run.queued_at.into(),
            updated_at: updated_at.into(),
            completed_at: run.completed_at.map(Into::into),
            deleted_at: None,
            id: run.id.into(),
        }
    }
}

/// Gives the word for a status in these clients' language.
pub(super) fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Held | RunStatus::Queued => "pending",
        RunStatus::Running | RunStatus::Waiting | RunStatus::Paused => "running",
        RunStatus::Completed => "success",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

/// Gives the statuses that a word stands for.
pub(super) fn statuses_of(wanted: &str) -> Result<Vec<RunStatus>> {
    let statuses: Vec<_> = RunStatus::ALL.into_iter().filter(|status| word(*status) == wanted).collect();
    if statuses.is_empty() {
        return Err(Error::invalid_field("status", "must be pending, running, success, failed or cancelled"));
    }
    Ok(statuses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_word() {
        for status in RunStatus::ALL {
            let words = ["pending", "running", "success", "failed", "cancelled"];
            let of_words = words.map(|word| statuses_of(word).expect("is a word"));
            assert_eq!(of_words.iter().filter(|statuses| statuses.contains(&status)).count(), 1, "{status}");
        }
    }
}
