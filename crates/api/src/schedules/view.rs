//! Schedules and their executions as clients see them: the union of what all of them read.

use chrono::Utc;
use domain::{
    run::RunStatus,
    schedule::{Execution, ExecutionState, Schedule, Tally, Timing},
    thread::Thread,
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::{StoredFields, stored_names};
use crate::{threads::ThreadView, timestamp::Timestamp};

/// How many coming moments are shown.
const UPCOMING: usize = 5;

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Schedule)]
pub(super) struct ScheduleView {
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    project_id: String,
    name: String,
    description: Option<String>,
    agent_id: Option<String>,
    agent_name: Option<String>,
    task: String,
    environment_id: Option<String>,
    environment_name: Option<String>,
    /// `recurring` or `one-time`.
    #[schema(example = "recurring")]
    schedule_type: &'static str,
    cron_expression: Option<String>,
    scheduled_time: Option<Timestamp>,
    timezone: &'static str,
    enabled: bool,
    /// Why it was switched off by itself.
    paused_reason: Option<String>,
    /// `skip` or `run_once`.
    missed_policy: &'static str,
    /// `skip`, `queue` or `parallel`.
    overlap_policy: &'static str,
    last_run_at: Option<Timestamp>,
    next_run_at: Option<Timestamp>,
    /// The next five moments; none while it is switched off.
    next_runs: Vec<Timestamp>,
    run_count: i64,
    success_count: i64,
    failure_count: i64,
    #[serde(flatten)]
    #[schema(value_type = StoredFields)]
    stored: Map<String, Value>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl ScheduleView {
    pub(super) fn new(schedule: Schedule, tally: Tally) -> Self {
        let mut stored: Map<String, Value> = stored_names().map(|name| (name.to_owned(), Value::Null)).collect();
        stored.extend(schedule.stored);
        let next_runs = match schedule.next_run_at {
            // One whose moment has come shows it until it has fired.
            Some(next) => {
                let after = schedule.timing.upcoming(schedule.timezone, next.max(Utc::now()), UPCOMING - 1);
                std::iter::once(next).chain(after).map(Timestamp::from).collect()
            }
            None => Vec::new(),
        };
        let (schedule_type, cron_expression, scheduled_time) = match &schedule.timing {
            Timing::Recurring(cron) => ("recurring", Some(cron.to_string()), None),
            Timing::Once(at) => ("one-time", None, Some(Timestamp::from(*at))),
        };
        Self {
            id: schedule.id.into(),
            user_id: schedule.project_id.to_string(),
            organization_id: None,
            created_by_user_id: None,
            project_id: schedule.project_id.into(),
            name: schedule.name,
            description: schedule.description,
            agent_id: schedule.agent_id.map(Into::into),
            agent_name: schedule.agent_name,
            task: schedule.task,
            environment_id: schedule.environment_id.map(Into::into),
            environment_name: schedule.environment_name,
            schedule_type,
            cron_expression,
            scheduled_time,
            timezone: schedule.timezone.name(),
            enabled: schedule.enabled,
            paused_reason: schedule.paused_reason,
            missed_policy: schedule.missed.as_str(),
            overlap_policy: schedule.overlap.as_str(),
            last_run_at: tally.last_run_at.map(Into::into),
            next_run_at: schedule.next_run_at.map(Into::into),
            next_runs,
            run_count: tally.runs,
            success_count: tally.successes,
            failure_count: tally.failures,
            stored,
            created_at: schedule.created_at.into(),
            updated_at: schedule.updated_at.into(),
        }
    }
}

/// `{schedule: …}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduleEnvelope {
    schedule: ScheduleView,
}

impl ScheduleEnvelope {
    pub(super) fn new(schedule: Schedule, tally: Tally) -> Self {
        Self { schedule: ScheduleView::new(schedule, tally) }
    }
}

/// What became of a moment of a schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ScheduleExecution)]
pub(super) struct ExecutionView {
    id: String,
    schedule_id: String,
    schedule_name: String,
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    /// `automatic` or `manual`.
    trigger_type: &'static str,
    scheduled_for: Timestamp,
    /// `claimed` (it waits for the run before it), `running`, `completed`, `failed` or `skipped`.
    status: &'static str,
    thread_id: Option<String>,
    run_id: Option<String>,
    /// The server that fired it.
    claimed_by: String,
    lease_expires_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    /// Why it was skipped or failed.
    error: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    created_at: Timestamp,
    updated_at: Timestamp,
    thread_title: Option<String>,
    thread_status: Option<String>,
    thread_created_at: Option<Timestamp>,
    thread_completed_at: Option<Timestamp>,
    thread_last_message_preview: Option<String>,
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        let status = match (execution.state, execution.run_status) {
            (ExecutionState::Waiting, _) => "claimed",
            (ExecutionState::Skipped, _) => "skipped",
            (ExecutionState::Failed, _) | (_, Some(RunStatus::Failed | RunStatus::Cancelled)) => "failed",
            // Without its run the thread was deleted for good, which ends a run first.
            (ExecutionState::Started, Some(RunStatus::Completed) | None) => "completed",
            (ExecutionState::Started, Some(_)) => "running",
        };
        let thread = execution.thread;
        let thread = thread.as_ref();
        Self {
            id: execution.id.into(),
            schedule_id: execution.schedule_id.into(),
            schedule_name: execution.schedule_name,
            user_id: execution.project_id.into(),
            organization_id: None,
            created_by_user_id: None,
            trigger_type: if execution.is_manual { "manual" } else { "automatic" },
            scheduled_for: execution.scheduled_for.into(),
            status,
            thread_id: execution.thread_id.map(Into::into),
            run_id: execution.run_id.map(Into::into),
            claimed_by: execution.claimed_by,
            lease_expires_at: None,
            started_at: execution.started_at.map(Into::into),
            completed_at: execution.completed_at.map(Into::into),
            error: execution.error,
            metadata: None,
            created_at: execution.created_at.into(),
            updated_at: execution.completed_at.or(execution.started_at).unwrap_or(execution.created_at).into(),
            thread_title: thread.and_then(|thread| thread.title.clone()),
            thread_status: thread.map(|thread| thread.status.clone()),
            thread_created_at: thread.map(|thread| thread.created_at.into()),
            thread_completed_at: thread.and_then(|thread| thread.completed_at).map(Into::into),
            thread_last_message_preview: thread.and_then(|thread| thread.last_message_preview.clone()),
        }
    }
}

/// What firing a schedule by hand has started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggeredView {
    thread: ThreadView,
    execution: ExecutionView,
    message: &'static str,
    run_id: Option<String>,
    /// Always true.
    triggered: bool,
}

impl TriggeredView {
    pub(super) fn new(thread: Thread, execution: Execution) -> Self {
        Self {
            run_id: execution.run_id.as_ref().map(ToString::to_string),
            thread: thread.into(),
            execution: execution.into(),
            message: "The schedule was fired",
            triggered: true,
        }
    }
}
