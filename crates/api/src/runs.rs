//! `/threads/{id}/runs`: what was done in a thread, run by run.

use axum::{Json, extract::State};
use domain::{
    RunId, ThreadId,
    run::{Outcome, Run, RunKind, RunStatus},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Page, Paged, messages::Order, runs::RunFilter};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    messages::parse_order,
    path::Path,
    query::{self, Query},
    threads::find_thread,
    timestamp::Timestamp,
    wire_event::{Tokens, Usage},
};

mod labelled;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_runs)).merge(labelled::routes())
}

/// A run of a thread.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadRun)]
pub(crate) struct RunView {
    #[schema(example = "run_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    thread_id: String,
    environment_id: String,
    agent_id: Option<String>,
    /// The version of the agent that it uses, once it has begun.
    agent_version_id: Option<String>,
    /// The number of its first event.
    sequence: i64,
    /// `message`, `compact`, `clear` or `resume`.
    kind: &'static str,
    /// The same as `kind`.
    run_kind: &'static str,
    /// `queued`, `running`, `paused`, `completed`, `failed` or `cancelled`.
    #[schema(example = "completed")]
    status: &'static str,
    /// Why it ended: `completed`, `cancelled`, `interrupted`, a limit (`budget`, `max_turns`, `max_tokens`, `timeout`) or
    /// the code of a failure.
    stop_reason: Option<String>,
    /// The run that has called this one.
    parent_run_id: Option<String>,
    /// The message that caused it.
    source_message_id: Option<String>,
    title: Option<String>,
    /// The beginning of its answer, or why it failed.
    summary: Option<String>,
    current_summary: Option<String>,
    /// Always `api`.
    origin: &'static str,
    highest_permission_ring: Option<String>,
    action_group_ids: Vec<String>,
    #[schema(value_type = Option<Object>)]
    lease: Option<Value>,
    #[schema(value_type = Option<Object>)]
    projection: Option<Value>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Model calls.
    turns: i32,
    /// Tool calls.
    calls: i32,
    /// How often work on it began; above 1 after an interruption.
    attempt: i32,
    tokens: Tokens,
    token_usage: Usage,
    total_tokens: i64,
    cost_usd: f64,
    /// Seconds, once it is over.
    duration: Option<f64>,
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
    queued_at: Timestamp,
    started_at: Option<Timestamp>,
    parked_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let (summary, error) = match &run.outcome {
            Some(Outcome::Completed { content }) => (Some(content.chars().take(200).collect()), None),
            Some(Outcome::Failed { code, message }) => {
                (Some(message.clone()), Some(serde_json::json!({"code": code, "message": message})))
            }
            Some(Outcome::Cancelled | Outcome::Interrupted) | None => (None, None),
        };
        let duration = run.started_at.zip(run.completed_at).map(|(start, end)| (end - start).as_seconds_f64());
        Self {
            id: run.id.into(),
            thread_id: run.thread_id.into(),
            environment_id: run.environment_id.into(),
            agent_id: run.agent_id.map(Into::into),
            agent_version_id: run.agent_version_id.map(Into::into),
            sequence: run.first_sequence,
            kind: run.options.kind.as_str(),
            run_kind: run.options.kind.as_str(),
            status: status_word(run.status),
            stop_reason: run.outcome.as_ref().map(|outcome| outcome.reason().to_owned()),
            parent_run_id: run.place.as_ref().map(|place| place.parent.to_string()),
            source_message_id: run.message_id.map(Into::into),
            title: run.options.subagent.as_ref().map(|task| task.description.clone()),
            current_summary: summary.clone(),
            summary,
            origin: "api",
            highest_permission_ring: None,
            action_group_ids: Vec::new(),
            lease: None,
            projection: None,
            metadata: None,
            turns: run.turns,
            calls: run.calls,
            attempt: run.attempt,
            tokens: run.spent.into(),
            token_usage: run.spent.into(),
            total_tokens: run.spent.total_tokens(),
            cost_usd: run.spent.cost.as_usd(),
            duration,
            error,
            queued_at: run.queued_at.into(),
            started_at: run.started_at.map(Into::into),
            parked_at: run.parked_at.map(Into::into),
            completed_at: run.completed_at.map(Into::into),
            created_at: run.queued_at.into(),
            updated_at: run.completed_at.or(run.started_at).unwrap_or(run.queued_at).into(),
        }
    }
}

/// Gives the word for a run's status. Whether a run waits for a worker or for its thread makes no difference to clients.
pub(crate) fn status_word(status: RunStatus) -> &'static str {
    if status == RunStatus::Held { RunStatus::Queued.as_str() } else { status.as_str() }
}

/// A part of a thread's runs. `runs` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunList {
    /// Always `list`.
    object: &'static str,
    runs: Vec<RunView>,
    data: Vec<RunView>,
    has_more: bool,
    total_count: i64,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    status: Option<String>,
    /// `message`, `compact`, `clear` or `resume`.
    kind: Option<String>,
    /// Those that this run has called. Without it, those that nobody has called.
    #[serde(rename = "parentRunId")]
    parent_run_id: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    /// `desc` (newest first, if absent) or `asc`.
    order: Option<String>,
}

/// List a thread's runs
#[utoipa::path(get, path = "/threads/{id}/runs", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), ListQuery),
    responses((status = 200, description = "A part of the list", body = RunList)))]
async fn list_runs(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<RunList>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let order = parse_order(query.order.as_deref(), Order::NewestFirst)?;
    let status = query.status.as_deref().filter(|status| !status.is_empty()).map(str::parse::<RunStatus>);
    let status = status.transpose().map_err(|err| Error::invalid_field("status", err.to_string()))?;
    find_thread(&api, &caller, &id).await?;
    let kind = query.kind.as_deref().filter(|kind| !kind.is_empty()).map(parse_kind).transpose()?;
    let parent = query.parent_run_id.as_deref().filter(|run| !run.is_empty());
    let parent = parent.map(|run| run.parse::<RunId>().map_err(|_| Error::not_found("Run", run))).transpose()?;
    let only = RunFilter { status, kind, parent };
    let runs = api.store.list_runs_of(&caller.project, &id, &only, order, page).await?;
    Ok(Json(to_list(runs, page)))
}

fn parse_kind(word: &str) -> Result<RunKind> {
    let found = RunKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| Error::invalid_field("kind", "must be message, compact, clear or resume"))
}

fn to_list(runs: Paged<Run>, page: Page) -> RunList {
    let data: Vec<RunView> = runs.items.into_iter().map(Into::into).collect();
    let end = page.offset.saturating_add(data.len() as i64);
    RunList { object: "list", runs: data.clone(), data, has_more: end < runs.total, total_count: runs.total }
}
