use chrono::TimeDelta;
use domain::{
    MicroUsd,
    event::{Detail, Item, ToolCall, ToolResult},
};
use serde_json::{json, value::RawValue};

use super::{super::write_frame, *};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_736_937_000 + seconds, 0).expect("in range")
}

fn recorded(sequence: i64, event: Event) -> Recorded {
    Recorded {
        thread_id: "thread_1".parse().expect("an id"),
        sequence,
        run_id: Some("run_1".parse().expect("an id")),
        created_at: at(sequence),
        event,
    }
}

/// Renders events of a run that began at [`at`] 0.
fn frames(events: impl IntoIterator<Item = Event>) -> String {
    let mut out = String::new();
    for (n, event) in events.into_iter().enumerate() {
        for event in render(&recorded(n as i64 + 1, event), Some(at(0))) {
            write_frame(&mut out, event.kind.name(), event.sequence, &event);
        }
    }
    out
}

fn call(id: &str, name: &str, input: &str, result: Option<ToolResult>) -> Item {
    let input = RawValue::from_string(input.to_owned()).expect("JSON");
    Item::ToolCall(ToolCall { id: id.into(), name: name.into(), input, result })
}

fn result(text: &str, detail: Option<Detail>) -> Option<ToolResult> {
    Some(ToolResult { is_error: detail.is_none(), text: text.into(), duration_ms: 12, detail })
}

const SPENT: Spent = Spent {
    input_tokens: 100,
    output_tokens: 20,
    cache_read_tokens: 1000,
    cache_write_tokens: 50,
    cost: MicroUsd(12_345),
};

#[test]
fn the_frames_of_a_run() {
    insta::assert_snapshot!(frames([
        Event::ThreadCreated { environment_id: "env_1".parse().expect("an id") },
        Event::RunQueued,
        Event::RunStarted,
        Event::ComputerStarting,
        Event::Log { level: LogLevel::Warning, topic: "llm_response".into(), message: "waiting\nfor the model".into() },
        Event::ItemCompleted { item: Item::Reasoning { text: "hm".into() } },
        Event::ItemCompleted { item: Item::Text { text: "I will look.".into() } },
        Event::ItemStarted { item: call("toolu_1", "Bash", r#"{"command": "ls"}"#, None) },
        Event::RunResumed { attempt: 2 },
        Event::RunFinished { outcome: Outcome::Completed { content: "done\u{2028}\u{85}".into() }, spent: SPENT },
    ]));
}

#[test]
fn the_frames_of_tool_calls_by_their_effect() {
    let details = [
        Detail::Command { command: "ls".into(), exit_code: Some(0), output: "a\nb".into() },
        Detail::FileRead { path: "/workspace/a".into(), lines: Some(3) },
        Detail::FileWrite { path: "/workspace/a".into(), is_new: true, diff: "+a".into(), additions: 1, deletions: 0 },
        Detail::Search { pattern: "*.rs".into(), matches: 4 },
        Detail::Todos { todos: json!([{"content": "x", "status": "pending"}]) },
        Detail::Fetch { url: "https://example.org/".into(), status: 200, bytes: 99, title: None, hash: None },
        Detail::Mcp {
            server: "everything".into(),
            tool: "get-sum".into(),
            arguments: r#"{"a": 1}"#.into(),
            output: "1".into(),
            error: None,
        },
    ];
    let completed = |detail| Event::ItemCompleted { item: call("toolu_1", "Tool", "{}", result("text", detail)) };
    insta::assert_snapshot!(frames(details.into_iter().map(Some).chain([None]).map(completed)));
}

#[test]
fn the_frames_of_a_run_that_failed() {
    let outcome = Outcome::Failed { code: "model_error".into(), message: "The model did not answer.".into() };
    insta::assert_snapshot!(frames([Event::RunFinished { outcome, spent: SPENT }]));
}

#[test]
fn the_frames_of_a_run_that_was_cancelled() {
    insta::assert_snapshot!(frames([Event::RunFinished { outcome: Outcome::Cancelled, spent: Spent::default() }]));
}

#[test]
fn the_frames_of_deltas_have_no_id() {
    let deltas = [
        Delta::Text("Hel".into()),
        Delta::Thinking("hm".into()),
        Delta::ToolOutput { call_id: "toolu_1".into(), text: "a\n".into() },
    ];
    let mut out = String::new();
    for event in deltas.map(render_delta) {
        write_frame(&mut out, event.kind.name(), event.sequence, &event);
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_log_line_from_before_its_runs_begin_is_at_zero() {
    let recorded = recorded(1, Event::Log { level: LogLevel::Info, topic: "startup".into(), message: String::new() });
    for started_at in [None, Some(recorded.created_at + TimeDelta::seconds(5))] {
        let events = render(&recorded, started_at);
        assert!(matches!(&events[0].kind, Kind::Log { log } if log.time == "00:00"), "{events:?}");
    }
}

#[test]
fn only_the_last_frame_of_an_event_has_its_number() {
    for outcome in [
        Outcome::Completed { content: String::new() },
        Outcome::Failed { code: String::new(), message: String::new() },
        Outcome::Cancelled,
    ] {
        let events = render(&recorded(9, Event::RunFinished { outcome, spent: SPENT }), None);
        let (last, others) = events.split_last().expect("some");
        assert_eq!((last.kind.name(), last.sequence), ("stream.completed", Some(9)));
        assert!(others.iter().all(|event| event.sequence.is_none()));
    }
}
