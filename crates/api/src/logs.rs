//! `/threads/{id}/logs`: a thread's log as lines for people, in the two spellings that clients read.
//!
//! A view of the event log, the messages that caused the runs, and the lines that callers added for work that happened
//! outside of runs; each line at its place.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::ControlFlow,
};

use axum::{Json, extract::State};
use domain::{
    RunId, ThreadId,
    event::Event,
    message::{Message, Role},
    run::Run,
    thread::Thread,
};
use serde::Serialize;
use serde_json::{Value, json};
use store::{Page, events::Gap, messages::Order, subagents::SubagentActivity};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    check::Fields,
    error::ErrorBody,
    history,
    path::Path,
    query::{self, Query},
    threads::{ThreadView, find_thread},
    timestamp::Timestamp,
    wire_event::GapView,
};

mod entry;
mod event;

use entry::NewLogs;
pub(crate) use entry::{LogEntry, NewLog};

/// So many lines at most; of a longer log the newest.
const MAX_LINES: usize = 10_000;

/// So many lines may be added at once.
pub(crate) const MAX_ADDED: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get_logs, add_logs))
}

#[derive(serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct LogsQuery {
    /// Leaves out the lines' metadata.
    #[serde(default, deserialize_with = "query::boolean")]
    compact: Option<bool>,
    /// False leaves out what was said: the user's messages and the answers.
    #[serde(default, deserialize_with = "query::boolean")]
    include_conversation: Option<bool>,
}

/// A thread's log. `logs` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Logs {
    /// Oldest first; of a log that is longer than 10,000 lines the newest.
    logs: Vec<LogEntry>,
    data: Vec<LogEntry>,
    /// The events that are kept no longer, for which one line stands. Null where none is missing.
    gap: Option<GapView>,
    thread_id: String,
    status: &'static str,
    #[schema(example = "1m 23s")]
    duration: Option<String>,
    /// US dollars.
    total_cost: f64,
    input_tokens: i64,
    output_tokens: i64,
    environment_id: String,
    environment_name: Option<String>,
    agent_id: Option<String>,
    agent_name: Option<String>,
    #[schema(value_type = Option<Object>)]
    team_execution: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    subagent_activity: Option<Value>,
}

/// Lines that were added.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddedLogs {
    /// Always true.
    success: bool,
    logs_added: usize,
}

/// Read a thread's log
#[utoipa::path(get, path = "/threads/{id}/logs", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), LogsQuery),
    responses((status = 200, description = "The log", body = Logs)))]
async fn get_logs(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<LogsQuery>,
) -> Result<Json<Logs>> {
    let thread = find_thread(&api, &caller, &id).await?;
    let with_conversation = query.include_conversation.unwrap_or(true);
    let (mut logs, gap) = lines(&api, &thread, None, with_conversation).await?;
    if query.compact.unwrap_or(false) {
        logs.iter_mut().for_each(LogEntry::compact);
    }
    let view = ThreadView::from(thread.clone());
    let activity = api.store.list_subagent_activity(&thread.id).await?;
    Ok(Json(Logs {
        data: logs.clone(),
        logs,
        gap: gap.map(Into::into),
        thread_id: thread.id.into(),
        status: thread.status.as_str(),
        duration: view.duration().map(str::to_owned),
        total_cost: thread.spent.cost.as_usd(),
        input_tokens: thread.spent.prompt_tokens(),
        output_tokens: thread.spent.output_tokens,
        environment_id: thread.environment_id.into(),
        environment_name: thread.environment_name,
        agent_id: thread.agent_id.map(Into::into),
        agent_name: thread.agent_name,
        team_execution: None,
        subagent_activity: (!activity.is_empty()).then(|| activity.into_iter().map(view_activity).collect()),
    }))
}

fn view_activity(activity: SubagentActivity) -> Value {
    json!({
        "runId": activity.run_id,
        "agentId": activity.agent_id,
        "agentName": activity.name,
        "claudeAgentName": activity.name,
        "eventCount": activity.events,
        "lastActiveAt": activity.last_active_at.map(Timestamp::from),
        "teamAgentId": null,
        "teamAgentName": null,
    })
}

/// Add lines to a thread's log
///
/// For work that happened outside of the thread's runs. At most 1,000 lines at once, all or none.
#[utoipa::path(post, path = "/threads/{id}/logs", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = NewLogs,
    responses(
        (status = 200, description = "They are added", body = AddedLogs),
        (status = 400, description = "A line says nothing", body = ErrorBody),
    ))]
async fn add_logs(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<NewLogs>,
) -> Result<Json<AddedLogs>> {
    if body.logs.len() > MAX_ADDED {
        return Err(Error::invalid_field("logs", format!("must have at most {MAX_ADDED} lines")));
    }
    let mut fields = Fields::default();
    for (n, line) in body.logs.iter().enumerate() {
        line.check(&mut fields, n);
    }
    fields.finish()?;
    Ok(Json(add(&api, &caller, &id, None, &body.logs).await?))
}

/// Adds lines, for a run of the thread or for none, that were checked.
pub(crate) async fn add(
    api: &Api,
    caller: &Caller,
    thread: &ThreadId,
    run: Option<&RunId>,
    lines: &[NewLog],
) -> Result<AddedLogs> {
    let entries = lines.iter().map(serde_json::to_value).collect::<serde_json::Result<Vec<_>>>();
    let entries = entries.map_err(Error::internal)?;
    api.store.add_logs(&caller.project, thread, run, &entries).await?;
    Ok(AddedLogs { success: true, logs_added: entries.len() })
}

/// Makes the lines of a thread, or those of one of its runs alone.
pub(crate) async fn lines(
    api: &Api,
    thread: &Thread,
    only: Option<&Run>,
    with_conversation: bool,
) -> Result<(Vec<LogEntry>, Option<Gap>)> {
    let is_wanted = |run: Option<&RunId>| only.is_none_or(|only| run == Some(&only.id));
    let mut added = VecDeque::from(api.store.list_added_logs(&thread.id).await?);
    added.retain(|line| is_wanted(line.run_id.as_ref()));
    let mut messages: HashMap<RunId, Vec<Message>> = HashMap::new();
    let mut answers = Vec::new();
    let mut copied = Vec::new();
    if with_conversation {
        let all = api.store.list_messages(&thread.id, Order::OldestFirst, Page::ALL).await?.items;
        let runs = api.store.list_runs(&thread.project_id, &thread.id, None, Order::OldestFirst, Page::ALL).await?;
        let own: HashSet<RunId> = runs.items.into_iter().map(|run| run.id).collect();
        for message in all.into_iter().filter(|message| is_wanted(message.run_id.as_ref())) {
            match &message.run_id {
                // Answers of this thread's runs are in its log, as long as that is kept.
                Some(run) if own.contains(run) && message.role == Role::Assistant => answers.push(message),
                Some(run) if own.contains(run) => messages.entry(run.clone()).or_default().push(message),
                Some(_) | None => copied.push(message),
            }
        }
    }
    let mut lines: VecDeque<LogEntry> = copied.iter().map(LogEntry::of_message).collect();
    let mut started = HashMap::new();
    let after = only.map_or(0, |run| run.first_sequence - 1);
    let gap = history::read(&api.store, &thread.id, after, |recorded| {
        if !is_wanted(recorded.run_id.as_ref()) {
            return ControlFlow::Continue(());
        }
        while added.front().is_some_and(|line| line.after_sequence < recorded.sequence) {
            lines.extend(added.pop_front().and_then(LogEntry::of_added));
        }
        if let (Event::RunStarted, Some(run)) = (&recorded.event, &recorded.run_id) {
            started.entry(run.clone()).or_insert(recorded.created_at);
        }
        let began_at = recorded.run_id.as_ref().and_then(|run| started.get(run).copied());
        if let (Event::RunQueued | Event::RunStarted, Some(run)) = (&recorded.event, &recorded.run_id) {
            lines.extend(messages.remove(run).iter().flatten().map(LogEntry::of_message));
        }
        lines.extend(event::lines(&recorded, began_at, with_conversation));
        lines.drain(..lines.len().saturating_sub(MAX_LINES));
        // A run's end is its last event.
        let is_last = only.is_some() && matches!(recorded.event, Event::RunFinished { .. });
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    lines.extend(added.into_iter().filter_map(LogEntry::of_added));
    if let Some(gap) = gap {
        // What was said is kept longer than its events, so it stands before what is left of them.
        let mut said: Vec<_> = messages.values().flatten().collect();
        said.extend(
            answers.iter().filter(|answer| answer.run_id.as_ref().is_some_and(|run| messages.contains_key(run))),
        );
        said.sort_by_key(|message| message.position);
        let before = said.into_iter().map(LogEntry::of_message).chain([LogEntry::of_gap(&gap)]);
        before.rev().for_each(|line| lines.push_front(line));
    }
    lines.drain(..lines.len().saturating_sub(MAX_LINES));
    Ok((lines.into(), gap))
}
