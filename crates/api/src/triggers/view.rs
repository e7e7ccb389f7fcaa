//! Triggers and their executions as clients see them: the union of what all of them read.

use domain::{
    run::RunStatus,
    trigger::{Execution, ExecutionState, Trigger},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{Api, timestamp::Timestamp};

/// A trigger.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Trigger)]
pub(super) struct TriggerView {
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    project_id: String,
    name: String,
    environment_id: String,
    agent_id: Option<String>,
    source: &'static str,
    event: String,
    #[schema(value_type = Object)]
    filters: Map<String, Value>,
    action: ActionView,
    enabled: bool,
    /// What events are signed with. Shown where it is made and never again.
    webhook_secret: Option<String>,
    /// Where events are sent to.
    #[schema(example = "https://atelier.example.com/webhooks/triggers/trig_1")]
    webhook_url: String,
    last_triggered_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What a trigger does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TriggerAction)]
struct ActionView {
    /// Always `send_message`.
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

impl TriggerView {
    pub(super) fn new(api: &Api, trigger: Trigger) -> Self {
        let base = api.settings.public_url.trim_end_matches('/');
        let action = trigger.action;
        Self {
            webhook_url: format!("{base}/webhooks/triggers/{}", trigger.id),
            id: trigger.id.into(),
            user_id: trigger.project_id.to_string(),
            organization_id: None,
            created_by_user_id: None,
            project_id: trigger.project_id.into(),
            name: trigger.name,
            environment_id: trigger.environment_id.into(),
            agent_id: trigger.agent_id.map(Into::into),
            source: trigger.source.as_str(),
            event: trigger.event,
            filters: trigger.filters,
            action: ActionView {
                r#type: "send_message",
                prompt: action.prompt,
                message: action.message,
                template: action.template,
            },
            enabled: trigger.enabled,
            webhook_secret: None,
            last_triggered_at: trigger.last_triggered_at.map(Into::into),
            created_at: trigger.created_at.into(),
            updated_at: trigger.updated_at.into(),
        }
    }
}

/// `{trigger: …}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TriggerEnvelope {
    trigger: TriggerView,
}

impl TriggerEnvelope {
    pub(super) fn new(api: &Api, trigger: Trigger) -> Self {
        Self { trigger: TriggerView::new(api, trigger) }
    }

    /// The only time that the secret is shown.
    pub(super) fn with_secret(api: &Api, trigger: Trigger, secret: &SecretString) -> Self {
        let mut envelope = Self::new(api, trigger);
        envelope.trigger.webhook_secret = Some(secret.expose_secret().to_owned());
        envelope
    }
}

/// An event that was taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TriggerExecution)]
pub(super) struct ExecutionView {
    id: String,
    trigger_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    thread_id: Option<String>,
    run_id: Option<String>,
    /// `pending`, `running`, `completed` or `failed`.
    status: &'static str,
    #[schema(value_type = Object)]
    event_payload: Map<String, Value>,
    /// The same as `eventPayload`.
    #[schema(value_type = Object)]
    event: Map<String, Value>,
    /// What the sender calls the event.
    event_name: Option<String>,
    /// What the sender calls this telling of it.
    delivery_id: Option<String>,
    /// Somebody tried the trigger; no event came.
    is_test: bool,
    /// Why it did not start, or how its run failed.
    error: Option<String>,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        let status = match (execution.state, execution.run_status) {
            (ExecutionState::Failed, _) | (_, Some(RunStatus::Failed | RunStatus::Cancelled)) => "failed",
            (ExecutionState::Started, Some(RunStatus::Held | RunStatus::Queued)) => "pending",
            // Without its run the thread was deleted for good, which ends a run first.
            (ExecutionState::Started, Some(RunStatus::Completed) | None) => "completed",
            (ExecutionState::Started, Some(RunStatus::Running | RunStatus::Waiting | RunStatus::Paused)) => "running",
        };
        Self {
            id: execution.id.into(),
            trigger_id: execution.trigger_id.into(),
            organization_id: None,
            created_by_user_id: None,
            thread_id: execution.thread_id.map(Into::into),
            run_id: execution.run_id.map(Into::into),
            status,
            event_payload: execution.delivery.payload.clone(),
            event: execution.delivery.payload,
            event_name: execution.delivery.event,
            delivery_id: execution.delivery.id,
            is_test: execution.is_test,
            error: execution.error,
            created_at: execution.created_at.into(),
            completed_at: execution.completed_at.map(Into::into),
        }
    }
}

/// `{execution: …}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TriggerExecutionEnvelope)]
pub(super) struct ExecutionEnvelope {
    pub execution: ExecutionView,
}
