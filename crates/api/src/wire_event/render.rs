//! From what happened to what clients see.
//!
//! A pure function of the recorded event (and of the moment its run began, for the clock of log lines), so a stream that
//! broke off and was resumed elsewhere consists of the same bytes as one that did not.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    RunId, ThreadId,
    event::{DecidedCall, Delta, Event, Item, LogLevel, Recorded, Steering},
    research::{Happening, Told, call_of},
    run::{Outcome, Spent},
    subagent::Subagent,
};
use serde_json::json;
use store::events::Gap;

use crate::permissions::reason;

use super::{
    AskedView, CitedView, CompactedView, CreatedThread, DecidedView, DeltaView, FailureView, Kind, LogView, Nested,
    Origin, ResearchEvent, ResponseView, RunSummary, SteeringView, SubagentView, Tokens, Usage, WireEvent,
};

/// What the web client of the platform takes for a cancellation.
const CANCELLED: &str = "Execution cancelled by user";

/// A century: what is farther away is not worth a time.
const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3600 * 1000;

/// The same where another message takes its place.
const INTERRUPTED: &str = "Execution interrupted by another message";

/// Gives the events that clients see of one that happened.
///
/// Only the last of them has the sequence: a client resumes after what it has seen whole, or it would lose the rest.
pub(crate) fn render(recorded: &Recorded, run_started_at: Option<DateTime<Utc>>) -> Vec<WireEvent> {
    let run_id = recorded.run_id.as_ref();
    let id = run_id.map(RunId::as_str).unwrap_or_default();
    let kinds = match &recorded.event {
        Event::ThreadCreated { environment_id } => vec![Kind::ThreadCreated {
            thread: CreatedThread {
                id: recorded.thread_id.to_string(),
                status: "running",
                environment_id: environment_id.to_string(),
            },
        }],
        Event::RunQueued => vec![Kind::ResponseCreated { response: in_progress(id) }],
        Event::RunStarted => vec![Kind::ResponseStarted { response: in_progress(id) }],
        Event::RunResumed { attempt } => {
            let message = format!("resumed after an interruption, attempt {attempt}");
            vec![log(recorded, run_started_at, LogLevel::Info, "startup", message)]
        }
        Event::RunContinued { .. } => {
            let message = "goes on after the decision".to_owned();
            vec![log(recorded, run_started_at, LogLevel::Info, "startup", message)]
        }
        Event::PermissionAsked { request } => {
            let expires_at = recorded.created_at + TimeDelta::milliseconds(request.ttl_ms.min(MAX_TTL_MS) as i64);
            vec![Kind::PermissionRequested {
                request: AskedView {
                    request_id: request.request_id.to_string(),
                    item_id: request.call_id.clone(),
                    tool_name: request.tool.clone(),
                    input: request.input.clone(),
                    reason: reason(&request.rule),
                    rule: request.rule.clone(),
                    expires_at: expires_at.into(),
                },
            }]
        }
        Event::PermissionDecided { decided } => vec![Kind::PermissionDecided { decision: decided.into() }],
        Event::RunPaused => vec![Kind::RunPaused {}],
        Event::SteeringReceived { steering } => vec![Kind::SteeringReceived { steering: steering.into() }],
        Event::SteeringDelivered { steering } => vec![Kind::SteeringDelivered { steering: steering.into() }],
        Event::ModelChanged { from, to, reason } => {
            let message = format!("{from} cannot answer ({reason}). The run goes on with {to}.");
            vec![log(recorded, run_started_at, LogLevel::Warning, "model", message)]
        }
        Event::ComputerStarting => vec![Kind::ComputerStarting {}],
        Event::ItemStarted { item } => vec![Kind::ItemCreated { item: item.into() }],
        Event::ItemCompleted { item } => vec![Kind::ItemCompleted { item: item.into() }],
        Event::Log { level, topic, message } => vec![log(recorded, run_started_at, *level, topic, message.clone())],
        Event::Compacted { trigger, pre_tokens, post_tokens } => {
            let message = match post_tokens {
                0 => "the conversation so far was cleared for the model".to_owned(),
                _ => format!("the conversation so far was summarised: {pre_tokens} tokens became about {post_tokens}"),
            };
            let context = CompactedView { trigger: *trigger, pre_tokens: *pre_tokens, post_tokens: *post_tokens };
            let line = log(recorded, run_started_at, LogLevel::Info, "action_summary", message);
            vec![line, Kind::ContextCompacted { context }]
        }
        Event::Research { told } => {
            let level = match told.happening {
                Happening::Completed => LogLevel::Success,
                Happening::Failed => LogLevel::Error,
                Happening::Cancelled => LogLevel::Warning,
                _ => LogLevel::Info,
            };
            let line = log(recorded, run_started_at, level, "deep_research", told.summary.clone());
            vec![line, Kind::DeepResearch(Box::new((&**told).into()))]
        }
        Event::RunFinished { outcome, spent } => finished(id, outcome, *spent),
        Event::Subagent { agent, event } => return render_subagent(recorded, agent, event, run_started_at),
    };
    let origin = Origin {
        thread_id: recorded.thread_id.to_string(),
        run_id: run_id.map(ToString::to_string),
        timestamp: recorded.created_at.into(),
    };
    let last = kinds.len() - 1;
    let event = |(n, kind)| WireEvent {
        kind,
        sequence: (n == last).then_some(recorded.sequence),
        origin: Some(origin.clone()),
        nested: None,
    };
    kinds.into_iter().enumerate().map(event).collect()
}

/// Gives the same of what happened to an agent which the run has called. Its beginning and its end are lines: a client that
/// knows no agents must not take them for those of the run.
fn render_subagent(
    recorded: &Recorded,
    agent: &Subagent,
    event: &Event,
    run_started_at: Option<DateTime<Utc>>,
) -> Vec<WireEvent> {
    let line = |level, what: String| {
        let message = format!("{}: {what}", agent_title(agent));
        vec![WireEvent::of(log(recorded, run_started_at, level, "subagent_invocation", message))]
    };
    let mut rendered = match event {
        Event::RunQueued => line(LogLevel::Info, "was called".to_owned()),
        Event::RunStarted => line(LogLevel::Info, "began".to_owned()),
        Event::RunFinished { outcome, .. } => match outcome {
            Outcome::Completed { .. } => line(LogLevel::Success, "is done".to_owned()),
            Outcome::Failed { message, .. } => line(LogLevel::Error, format!("failed: {message}")),
            Outcome::Cancelled | Outcome::Interrupted => line(LogLevel::Warning, "was stopped".to_owned()),
        },
        other => render(&Recorded { event: other.clone(), ..recorded.clone() }, run_started_at),
    };
    let view = SubagentView::from(agent);
    let last = rendered.len() - 1;
    for (n, event) in rendered.iter_mut().enumerate() {
        if let Kind::Log { log } = &mut event.kind {
            log.metadata = Some(json!({"subagentInvocation": view}));
        }
        event.sequence = (n == last).then_some(recorded.sequence);
        event.origin = Some(Origin {
            thread_id: recorded.thread_id.to_string(),
            run_id: recorded.run_id.as_ref().map(ToString::to_string),
            timestamp: recorded.created_at.into(),
        });
        event.nested = Some(Nested { parent_tool_use_id: call_of(&agent.call_id).to_owned(), subagent: view.clone() });
    }
    rendered
}

fn agent_title(agent: &Subagent) -> String {
    if agent.description.is_empty() { agent.name.clone() } else { format!("{} ({})", agent.name, agent.description) }
}

/// Gives the event that clients see of a delta.
pub(crate) fn render_delta(delta: Delta) -> WireEvent {
    let kind = match delta {
        Delta::Text(text) => Kind::TextDelta { delta: DeltaView { text } },
        Delta::Thinking(text) => Kind::ReasoningDelta { delta: DeltaView { text } },
        Delta::ToolOutput { call_id, text } => Kind::ToolOutputDelta { item_id: call_id, delta: DeltaView { text } },
    };
    WireEvent::of(kind)
}

/// Gives the event that tells of others that are gone. It has the number of the last of them, to resume after.
pub(crate) fn render_gap(thread: &ThreadId, gap: Gap) -> WireEvent {
    let origin = Origin { thread_id: thread.to_string(), run_id: None, timestamp: gap.since.into() };
    WireEvent { kind: Kind::Gap { gap: gap.into() }, sequence: Some(gap.to), origin: Some(origin), nested: None }
}

/// Gives the end of a run from what is known of it without its events.
pub(crate) fn render_end(run: &str, outcome: &Outcome, spent: Spent) -> Vec<WireEvent> {
    finished(run, outcome, spent).into_iter().map(WireEvent::of).collect()
}

impl Kind {
    /// Somebody begins to answer a side question.
    pub(crate) fn answer_started(question: &str) -> Self {
        Self::ResponseStarted { response: in_progress(question) }
    }
}

/// Gives the events by which the answer to a side question ends. It is told like a run of its own.
pub(crate) fn render_answer(question: &str, item: Option<Item>, outcome: &Outcome, spent: Spent) -> Vec<WireEvent> {
    let said = item.map(|item| Kind::ItemCompleted { item: (&item).into() });
    said.into_iter().chain(finished(question, outcome, spent)).map(WireEvent::of).collect()
}

/// The end of a run, wherever a client looks for it.
fn finished(id: &str, outcome: &Outcome, spent: Spent) -> Vec<Kind> {
    let status = outcome.status().as_str();
    let response =
        ResponseView { status, usage: Some(spent.into()), cost_usd: Some(spent.cost.as_usd()), ..in_progress(id) };
    let completed = Kind::StreamCompleted {
        run: RunSummary {
            id: id.to_owned(),
            status,
            stop_reason: Some(outcome.reason().to_owned()),
            tokens: spent.into(),
            total_tokens: spent.total_tokens(),
            cost_usd: spent.cost.as_usd(),
        },
        admission: None,
    };
    match outcome {
        Outcome::Completed { content } => {
            let response = ResponseView { content: Some(content.clone()), ..response };
            vec![Kind::ResponseCompleted { response }, completed]
        }
        Outcome::Failed { code, message } => {
            let error = FailureView { message: message.clone(), code: code.clone() };
            vec![
                Kind::ResponseFailed { response: ResponseView { error: Some(error), ..response } },
                Kind::StreamError { error: message.clone(), message: message.clone(), code: code.clone() },
                completed,
            ]
        }
        // No `stream.error`: one SDK throws at it, and what the user asked for is not an error.
        Outcome::Cancelled | Outcome::Interrupted => {
            let message = if *outcome == Outcome::Cancelled { CANCELLED } else { INTERRUPTED };
            let error = FailureView { message: message.to_owned(), code: outcome.reason().to_owned() };
            vec![Kind::ResponseFailed { response: ResponseView { error: Some(error), ..response } }, completed]
        }
    }
}

fn in_progress(id: &str) -> ResponseView {
    ResponseView {
        id: format!("resp_{}", id.strip_prefix("run_").unwrap_or(id)),
        status: "in_progress",
        content: None,
        error: None,
        usage: None,
        cost_usd: None,
    }
}

fn log(
    recorded: &Recorded,
    run_started_at: Option<DateTime<Utc>>,
    level: LogLevel,
    topic: &str,
    message: String,
) -> Kind {
    let elapsed = recorded.created_at - run_started_at.unwrap_or(recorded.created_at);
    let seconds = elapsed.num_seconds().max(0);
    let time = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    Kind::Log { log: LogView { time, message, level, event_type: topic.to_owned(), metadata: None } }
}

impl From<&Steering> for SteeringView {
    fn from(note: &Steering) -> Self {
        Self { id: note.id.to_string(), mode: note.mode.as_str(), content: note.content.clone() }
    }
}

impl From<&Told> for ResearchEvent {
    fn from(told: &Told) -> Self {
        let report = told.report.as_ref();
        let cited = |(url, title): &(String, Option<String>)| CitedView { url: url.clone(), title: title.clone() };
        Self {
            event: told.happening.as_str(),
            session_id: told.session_id.to_string(),
            interaction_id: told.session_id.to_string(),
            topic: told.query.clone(),
            thinking_summary: told.summary.clone(),
            report_file: report.map(|report| report.path.clone()),
            report_manifest_file: report.map(|report| report.manifest_path.clone()),
            sources_count: told.sources,
            sources: told.cited.iter().map(cited).collect(),
            elapsed_seconds: told.elapsed_seconds,
            error_message: told.error.clone(),
            runtime_path: None,
            resume_attempt: told.resumes,
            report_length: report.map(|report| report.characters),
        }
    }
}

impl From<&DecidedCall> for DecidedView {
    fn from(decided: &DecidedCall) -> Self {
        Self {
            request_id: decided.request_id.to_string(),
            item_id: decided.call_id.clone(),
            tool_name: decided.tool.clone(),
            decision: decided.decision,
            by: decided.by,
            reason: decided.reason.clone(),
            updated_input: decided.updated_input.clone(),
        }
    }
}

impl From<Spent> for Usage {
    fn from(spent: Spent) -> Self {
        Self {
            input_tokens_camel: spent.prompt_tokens(),
            output_tokens_camel: spent.output_tokens,
            cached_tokens_camel: spent.cache_read_tokens,
            input_tokens: spent.prompt_tokens(),
            output_tokens: spent.output_tokens,
            cached_tokens: spent.cache_read_tokens,
            total_tokens: spent.total_tokens(),
        }
    }
}

impl From<Spent> for Tokens {
    fn from(spent: Spent) -> Self {
        Self { input: spent.prompt_tokens(), output: spent.output_tokens }
    }
}

#[cfg(test)]
mod tests;
