//! Threads over the API, with the executor's part played through the store.

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use domain::{
    event::{Delta, Detail, Event, Item, LogLevel, ToolCall, ToolResult},
    run::{Outcome, Spent},
};
use futures::StreamExt;
use serde_json::{Value, json, value::RawValue};
use store::{
    Store,
    leases::{Checkpoint, Claimed},
};
use tower::ServiceExt;

use crate::app::App;

mod agents;
mod busy;
mod changing;
mod connections;
mod context;
mod copying;
mod extras;
mod feedback;
mod idempotency;
mod listing;
mod permissions;
mod refusing;
mod research;
mod resuming;
mod retention;
mod rewinding;
mod running;
mod searching;
mod speed;
mod steps;
mod titles;
mod views;

const TTL: std::time::Duration = std::time::Duration::from_secs(60);

const SPENT: Spent = Spent {
    input_tokens: 100,
    output_tokens: 20,
    cache_read_tokens: 1000,
    cache_write_tokens: 50,
    cost: domain::MicroUsd(12_345),
};

/// A response being read.
pub(crate) struct Reader {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: BodyDataStream,
    /// What has been read.
    pub text: String,
}

impl Reader {
    /// Reads until `needle` has come.
    pub(crate) async fn until(&mut self, needle: &str) {
        while !self.text.contains(needle) {
            assert!(self.more().await, "the body ended without {needle:?}: {}", self.text);
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(mut self) -> String {
        while self.more().await {}
        self.text
    }

    /// Reads what comes next, and tells whether something came.
    async fn more(&mut self) -> bool {
        match self.body.next().await {
            Some(chunk) => {
                let chunk = chunk.expect("the body goes on well");
                self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
                true
            }
            None => false,
        }
    }

    /// Reads until the body breaks off.
    async fn until_broken(mut self) -> String {
        loop {
            match self.body.next().await {
                Some(Ok(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters")),
                Some(Err(_)) => return self.text,
                None => panic!("the body ended in order: {}", self.text),
            }
        }
    }
}

impl App {
    /// Calls and gives the response as soon as its headers are there.
    pub(crate) async fn open(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Reader {
        let mut request =
            Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).expect("a valid request")).await;
        let (parts, body) = response.expect("the router cannot fail").into_parts();
        Reader { status: parts.status, headers: parts.headers, body: body.into_data_stream(), text: String::new() }
    }

    /// Sends a message and gives the stream of its run.
    pub(crate) async fn send_message(&self, thread: &str, content: &str) -> Reader {
        let path = format!("/threads/{thread}/messages");
        self.open(Method::POST, &path, &[], json!({"content": content})).await
    }

    /// Follows a thread's events after a number, without the greeting.
    pub(crate) async fn follow(&self, thread: &str, after: i64) -> Reader {
        let path = format!("/v1/threads/{thread}/events?stream=1");
        let mut reader = self.open(Method::GET, &path, &[("last-event-id", &after.to_string())], Value::Null).await;
        reader.until("\n\n").await;
        let greeting = format!("event: stream.ready\ndata: {{\"after\":{after},\"threadId\":\"{thread}\"}}\n\n");
        reader.text = reader.text.strip_prefix(&greeting).expect("a greeting").to_owned();
        reader
    }

    /// Makes a thread without work and gives its id.
    pub(crate) async fn thread(&self) -> String {
        let made = self.post("/threads", json!({})).await.ok();
        made["thread"]["id"].as_str().expect("an id").to_owned()
    }
}

/// Takes the one run that is there to claim, as a worker does.
pub(crate) async fn claim(store: &Store) -> Claimed {
    let mut claimed = store.claim_runs(1, TTL).await.expect("claims");
    assert_eq!(claimed.len(), 1, "one run is there to claim");
    claimed.remove(0)
}

pub(crate) async fn record(store: &Store, claimed: &mut Claimed, events: Vec<Event>) {
    let checkpoint = Checkpoint { events, ..Checkpoint::default() };
    claimed.last_sequence = loop {
        match store.checkpoint(&mut claimed.lease, &checkpoint).await {
            // As a worker does: a database that comes back is waited for.
            Err(err) if err.is_unavailable() => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            written => break written.expect("the lease is good"),
        }
    };
}

pub(crate) async fn finish(store: &Store, claimed: &Claimed, outcome: Outcome) {
    store.finish_run(&claimed.lease, &outcome, SPENT).await.expect("the lease is good");
}

pub(crate) fn completed(content: &str) -> Outcome {
    Outcome::Completed { content: content.into() }
}

pub(crate) fn said(text: &str) -> Event {
    Event::ItemCompleted { item: Item::Text { text: text.into() } }
}

fn call(result: Option<ToolResult>) -> Item {
    let input = RawValue::from_string(r#"{"command": "ls"}"#.into()).expect("JSON");
    Item::ToolCall(ToolCall { id: "toolu_1".into(), name: "Bash".into(), input, result })
}

/// The events of a run with text, thinking, a log line and a tool call, one checkpoint each.
pub(crate) fn work() -> Vec<Vec<Event>> {
    let detail = Detail::Command { command: "ls".into(), exit_code: Some(0), output: "app.py\n".into() };
    let result = ToolResult { is_error: false, text: "app.py\n".into(), duration_ms: 5, detail: Some(detail) };
    vec![
        vec![Event::ComputerStarting],
        vec![Event::Log { level: LogLevel::Warning, topic: "llm_response".into(), message: "waiting".into() }],
        vec![
            Event::ItemCompleted { item: Item::Reasoning { text: "hm".into() } },
            said("I will look.\u{2028}\u{2029}\u{85}"),
            Event::ItemStarted { item: call(None) },
        ],
        vec![Event::ItemCompleted { item: call(Some(result)) }],
    ]
}

/// Shows a delta to those who read now.
pub(crate) fn show(store: &Store, claimed: &Claimed, delta: Delta) {
    store.send_delta(&claimed.lease, claimed.last_sequence, delta);
}

/// Takes the one run and works it off.
pub(crate) async fn work_off(store: &Store, content: &str) {
    let mut claimed = claim(store).await;
    for events in work() {
        record(store, &mut claimed, events).await;
    }
    finish(store, &claimed, completed(content)).await;
}

/// Splits a stream into its frames, each with its empty line.
pub(crate) fn frames(text: &str) -> Vec<&str> {
    text.split_inclusive("\n\n").collect()
}

/// Gives the data objects of a stream.
pub(crate) fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|json| serde_json::from_str(json).expect("JSON on one line")).collect()
}

/// Gives the names of a stream's events.
pub(crate) fn names(text: &str) -> Vec<String> {
    data(text).iter().map(|data| data["type"].as_str().expect("a type").to_owned()).collect()
}
