//! From what happened to a line for people.

use chrono::{DateTime, Utc};
use domain::{
    event::{Detail, Event, Item, LogLevel, Recorded, ToolCall},
    run::Outcome,
};
use serde_json::json;

use super::entry::LogEntry;
use crate::{
    history::Call,
    wire_event::{Kind, SubagentView, render},
};

/// Gives the lines that tell of an event: one or none.
pub(super) fn lines(recorded: &Recorded, began_at: Option<DateTime<Utc>>, with_conversation: bool) -> Vec<LogEntry> {
    let at = recorded.created_at;
    let line = |message: &str, level, kind| LogEntry::new(message.to_owned(), level, kind, at);
    let lines = match &recorded.event {
        Event::ItemCompleted { item: Item::Text { .. } } if !with_conversation => Vec::new(),
        Event::ItemCompleted { item: Item::Text { text } } => {
            let line = line(text, LogLevel::Info, "llm_response");
            vec![LogEntry { role: "assistant", is_llm_response: true, ..line }]
        }
        Event::ItemCompleted { item: Item::Reasoning { text } } => {
            vec![LogEntry { is_reasoning: true, ..line(text, LogLevel::Info, "reasoning") }]
        }
        Event::ItemCompleted { item: Item::ToolCall(call) } => vec![of_call(recorded, call)],
        // What an agent said and did is told as its own; the rest of it is lines in streams.
        Event::Subagent { agent, event } if matches!(**event, Event::ItemCompleted { .. }) => {
            let inner = Recorded { event: (**event).clone(), ..recorded.clone() };
            let own = |line: LogEntry| {
                let mut metadata = line.metadata.unwrap_or_else(|| json!({}));
                metadata["subagentInvocation"] = json!(SubagentView::from(agent));
                LogEntry { role: "execution_log", is_llm_response: false, metadata: Some(metadata), ..line }
            };
            lines(&inner, began_at, true).into_iter().map(own).collect()
        }
        Event::RunStarted => vec![line("The run began.", LogLevel::Info, "startup")],
        Event::ComputerStarting => vec![line("The computer is being started.", LogLevel::Info, "startup")],
        Event::RunFinished { outcome, .. } => vec![match outcome {
            Outcome::Completed { .. } => line("The run is completed.", LogLevel::Success, "turn_completed"),
            Outcome::Failed { message, .. } => line(message, LogLevel::Error, "turn_failed"),
            other => {
                let message = format!("The run was ended: {}.", other.status());
                LogEntry::new(message, LogLevel::Warning, "turn_ended", at)
            }
        }],
        // What is told as a line in streams is the same line here.
        _ => render(recorded, began_at)
            .into_iter()
            .filter_map(|event| match event.kind {
                Kind::Log { log } => Some(LogEntry {
                    metadata: log.metadata,
                    ..LogEntry::new(log.message, log.level, &log.event_type, at)
                }),
                _ => None,
            })
            .collect(),
    };
    let time = began_at.map(|began_at| clock((at - began_at).num_seconds()));
    let run_id = recorded.run_id.as_ref().map(ToString::to_string);
    let placed = |line| LogEntry { relative_time: time.clone(), time: time.clone(), run_id: run_id.clone(), ..line };
    lines.into_iter().map(placed).collect()
}

fn of_call(recorded: &Recorded, call: &ToolCall) -> LogEntry {
    let result = call.result.as_ref();
    let told = Call {
        id: call.id.clone(),
        run_id: None,
        name: call.name.clone(),
        input: call.input.get().to_owned(),
        sequence: recorded.sequence,
        started_at: recorded.created_at,
        result: result.map(|result| (result.clone(), recorded.created_at)),
        is_abandoned: false,
    };
    let is_error = result.is_some_and(|result| result.is_error);
    let detail = result.and_then(|result| result.detail.as_ref());
    let level = if is_error { LogLevel::Error } else { LogLevel::Info };
    let metadata = json!({
        "callId": call.id,
        "toolName": call.name,
        "input": call.input,
        "output": result.map(|result| &result.text),
        "durationMs": result.map(|result| result.duration_ms),
        "status": told.status(),
    });
    LogEntry {
        is_action_summary: true,
        is_planning: matches!(detail, Some(Detail::Todos { .. })),
        metadata: Some(metadata),
        ..LogEntry::new(told.summary(), level, event_type(detail), recorded.created_at)
    }
}

fn event_type(detail: Option<&Detail>) -> &'static str {
    match detail {
        Some(Detail::Command { .. }) => "command_execution",
        Some(Detail::FileWrite { .. } | Detail::Image { .. }) => "file_change",
        Some(Detail::Todos { .. }) => "planning",
        Some(Detail::Mcp { .. }) => "mcp_tool_call",
        Some(Detail::Agent(_)) => "subagent_invocation",
        Some(Detail::FileRead { .. } | Detail::Search { .. } | Detail::Fetch { .. } | Detail::WebSearch { .. })
        | None => "tool_call",
    }
}

/// Gives seconds as `MM:SS`.
fn clock(seconds: i64) -> String {
    let seconds = seconds.max(0);
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}
