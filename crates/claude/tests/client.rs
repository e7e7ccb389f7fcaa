//! The client against a strict server: whole conversations, and everything that goes wrong on the way.

#![allow(clippy::unwrap_used, reason = "in a test, unwrap is the assertion")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Query};
use axum::http::{HeaderMap, header};
use axum::routing::{get, post};
use claude::{
    Auth, Client, Conversation, Error, Options, Request, Response, Role, SecretString, StopReason, Tool, Update,
    default_version, parse_custom_headers,
};
use futures::StreamExt;
use scripted_claude::{Block, Fault, Reply, Script, ScriptedClaude};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use url::Url;

const KEY: &str = "sk-very-secret";

async fn scripted(replies: Vec<Reply>) -> ScriptedClaude {
    ScriptedClaude::start(Script::sequence(replies), scripted_claude::Options::default()).await.unwrap()
}

fn options(url: &str) -> Options {
    Options {
        max_retry_delay: Duration::from_millis(20),
        silence_limit: Duration::from_secs(30),
        ..Options::new(url.parse().unwrap(), Some(SecretString::from(KEY)))
    }
}

fn client(server: &ScriptedClaude) -> Client {
    Client::new(options(&server.url())).unwrap()
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn request() -> Request {
    Request {
        model: "claude-sonnet-5-5".into(),
        max_tokens: 1024,
        system: vec!["You are tested. ".repeat(50)],
        tools: vec![Tool {
            name: "Bash".into(),
            description: "Runs a command.".into(),
            input_schema: raw(&json!({ "type": "object", "properties": { "command": { "type": "string" } } })),
        }],
        ..Request::default()
    }
}

fn hello() -> Conversation {
    let mut conversation = Conversation::new();
    conversation.push(Role::User, &raw(&json!([{ "type": "text", "text": "hello" }]))).unwrap();
    conversation
}

async fn ask(client: &Client, conversation: &Conversation) -> (Vec<Update>, Result<Response, Error>) {
    let mut updates = Vec::new();
    let mut stream = std::pin::pin!(client.stream(&request(), conversation));
    while let Some(update) = stream.next().await {
        match update {
            Ok(Update::Finished(response)) => {
                assert!(stream.next().await.is_none(), "nothing comes after the end");
                return (updates, Ok(response));
            }
            Ok(update) => updates.push(update),
            Err(err) => {
                assert!(stream.next().await.is_none(), "nothing comes after an error");
                return (updates, Err(err));
            }
        }
    }
    panic!("the stream ended without a response");
}

fn delays(updates: &[Update]) -> Vec<Duration> {
    let delay = |update: &Update| match update {
        Update::Retrying { delay, .. } => Some(*delay),
        _ => None,
    };
    updates.iter().filter_map(delay).collect()
}

#[tokio::test]
async fn a_long_conversation_is_accepted_and_read_from_the_cache() {
    let script = Script::from_fn("loop", |asked| {
        if asked.round == 30 {
            return Reply::text("all done");
        }
        let calls = (0..asked.round % 12 + 1).map(|at| Block::tool("Bash", json!({ "command": format!("echo {at}") })));
        let mut reply = Reply { blocks: calls.collect(), ..Reply::default() };
        reply.blocks.insert(0, Block::thinking(format!("round {}", asked.round)));
        reply
    });
    let server = ScriptedClaude::start(script, scripted_claude::Options::default()).await.unwrap();
    let client = client(&server);
    let mut conversation = hello();
    let (mut last_read, mut last_prompt) = (0, 0);
    for turn in 0.. {
        let (_, response) = ask(&client, &conversation).await;
        let response = response.unwrap();
        let usage = &response.usage;
        if turn > 0 {
            assert!(usage.cache_read_input_tokens > last_read, "turn {turn} reads more than turn {}", turn - 1);
            // All but the last turn's reply and results, which are new.
            assert!(usage.cache_read_input_tokens >= last_prompt - 1, "turn {turn} reads all of the last prompt");
        }
        (last_read, last_prompt) = (usage.cache_read_input_tokens, usage.prompt_tokens());
        conversation.push(Role::Assistant, &response.content).unwrap();
        if response.stop_reason != StopReason::ToolUse {
            assert_eq!((turn, response.text.as_str()), (30, "all done"));
            break;
        }
        for call in &response.tool_uses {
            let result = json!([{ "type": "tool_result", "tool_use_id": call.id, "content": "ok" }]);
            conversation.push(Role::User, &raw(&result)).unwrap();
        }
    }
    let received = server.requests();
    assert!(received.iter().all(|request| request.status == 200));
    assert!(received.iter().all(|request| request.headers["anthropic-version"] == "2023-06-01"));
}

#[tokio::test]
async fn passing_failures_are_retried_and_said() {
    let header = |name: &str, value: &str| Fault {
        status: Some(429),
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..Fault::default()
    };
    let server = scripted(vec![
        Reply::default().with_fault(header("retry-after-ms", "7")),
        Reply::default().with_fault(header("retry-after", "0.005")),
        Reply::status(529),
        Reply::status(500),
        Reply::status(408),
        Reply::default().with_fault(Fault { status: Some(400), ..header("x-should-retry", "true") }),
        Reply::text("at last"),
    ])
    .await;
    let (updates, response) = ask(&client(&server), &hello()).await;
    assert_eq!(response.unwrap().text, "at last");
    let delays = delays(&updates);
    assert_eq!(delays[..2], [Duration::from_millis(7), Duration::from_millis(5)]);
    assert_eq!((delays.len(), server.requests().len()), (6, 7));
    let bodies: HashSet<_> = server.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 1, "the same request each time");
}

#[tokio::test]
async fn lasting_failures_are_told_at_once() {
    let with = |status: u16, message: &str| Fault {
        status: Some(status),
        message: Some(message.to_owned()),
        ..Fault::default()
    };
    let never = [("x-should-retry".to_owned(), "false".to_owned())];
    let faults = vec![
        with(400, "nonsense"),
        with(400, "prompt is too long: 1200000 tokens > 1000000 maximum"),
        with(401, "invalid x-api-key"),
        with(402, "no credit"),
        with(403, "not yours"),
        with(404, "model: claude-none"),
        with(413, "too large"),
        Fault { error_code: Some("enforced_spend_limit_reached".into()), ..with(429, "spent") },
        Fault { headers: never.into(), ..with(529, "overloaded for good") },
    ];
    for fault in faults {
        let server = scripted(vec![Reply::default().with_fault(fault.clone())]).await;
        let (updates, response) = ask(&client(&server), &hello()).await;
        let err = response.unwrap_err();
        assert!(updates.is_empty() && server.requests().len() == 1, "{fault:?}");
        assert!(!err.is_retryable() && !err.after_output(), "{err}");
        assert!(err.request_id().is_some_and(|id| id.starts_with("req_")), "{err:?}");
        let message = fault.message.unwrap();
        assert!(err.to_string().contains(&message), "{err}");
        match fault.status {
            Some(413) => assert!(matches!(err, Error::PromptTooLong { .. })),
            Some(400) if message.contains("too long") => assert!(matches!(err, Error::PromptTooLong { .. })),
            status => assert!(matches!(err, Error::Status { status: got, .. } if Some(got) == status)),
        }
    }
}

#[tokio::test]
async fn retries_end() {
    let server = scripted(vec![Reply::status(529)]).await;
    let client = Client::new(Options { max_retries: 2, ..options(&server.url()) }).unwrap();
    let (updates, response) = ask(&client, &hello()).await;
    assert!(matches!(response, Err(Error::Overloaded { status: Some(529), after_output: false, .. })));
    assert_eq!((delays(&updates).len(), server.requests().len()), (2, 3));

    let nobody = Client::new(Options { max_retries: 1, ..options("http://127.0.0.1:1") }).unwrap();
    let (updates, response) = ask(&nobody, &hello()).await;
    assert!(matches!(response, Err(Error::Connect(_))));
    assert_eq!(delays(&updates).len(), 1);
}

/// Frames: 0 message_start, 1 content_block_start, 2 ping, 3 delta, 4 content_block_stop, 5 message_delta, 6 message_stop.
fn broken_streams(after: usize) -> Vec<(&'static str, Fault)> {
    vec![
        ("truncated", Fault { truncate_after: Some(after), ..Fault::default() }),
        ("ended", Fault { end_after: Some(after), ..Fault::default() }),
        ("silent", Fault { silence_after: Some(after), ..Fault::default() }),
        ("invalid", Fault { invalid_json_after: Some(after), ..Fault::default() }),
        ("error", Fault { error_after: Some(after), ..Fault::default() }),
    ]
}

#[tokio::test]
async fn a_stream_that_breaks_before_a_block_is_done_is_asked_for_again() {
    for (story, fault) in broken_streams(4) {
        let server = scripted(vec![Reply::text("half").with_fault(fault), Reply::text("whole")]).await;
        let client =
            Client::new(Options { silence_limit: Duration::from_millis(300), ..options(&server.url()) }).unwrap();
        let (updates, response) = ask(&client, &hello()).await;
        assert_eq!(response.unwrap().text, "whole", "{story}");
        let kinds: Vec<&str> = updates
            .iter()
            .map(|update| match update {
                Update::Started { .. } => "started",
                Update::Text(_) => "text",
                Update::Retrying { .. } => "retrying",
                Update::Block(_) => "block",
                _ => "other",
            })
            .collect();
        assert_eq!(kinds, ["started", "text", "retrying", "started", "text", "block"], "{story}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_a_block_is_left_to_the_caller() {
    for (story, fault) in broken_streams(5) {
        let server = scripted(vec![Reply::text("done").with_fault(fault), Reply::text("never asked")]).await;
        let client =
            Client::new(Options { silence_limit: Duration::from_millis(300), ..options(&server.url()) }).unwrap();
        let (_, response) = ask(&client, &hello()).await;
        let err = response.unwrap_err();
        assert!(err.after_output() && err.is_retryable(), "{story}: {err:?}");
        assert_eq!(server.requests().len(), 1, "{story}");
        let is_kind = match story {
            "truncated" | "ended" => matches!(err, Error::Truncated { .. }),
            "silent" => matches!(err, Error::Silence { .. }),
            "invalid" => matches!(err, Error::Protocol { .. }),
            _ => matches!(err, Error::Overloaded { status: None, .. }),
        };
        assert!(is_kind, "{story}: {err:?}");
    }
}

#[tokio::test]
async fn a_back_end_that_never_answers_is_given_up() {
    let held = Reply::text("x").with_fault(Fault { hold: Some("never".into()), ..Fault::default() });
    let server = scripted(vec![held]).await;
    let limits = Options { silence_limit: Duration::from_millis(100), max_retries: 1, ..options(&server.url()) };
    let (updates, response) = ask(&Client::new(limits).unwrap(), &hello()).await;
    assert!(matches!(response, Err(Error::Silence { after_output: false, .. })));
    assert_eq!((delays(&updates).len(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn noise_and_repetitions_change_nothing() {
    let noisy = Fault { unknown_frames: true, duplicate_frames: true, ..Fault::default() };
    let reply = || {
        let strange = json!({ "type": "hologram", "data": [1.5, { "deep": null }] });
        let strange = Block::Raw { block: strange.as_object().unwrap().clone() };
        Reply::text("Grüße, 世界 – a text of several deltas, so that there is something to fold").and(strange).and(
            Block::tool("Bash", json!({ "command": "echo 'long enough to come in more than one piece, I hope so'" })),
        )
    };
    let server = scripted(vec![reply(), reply().with_fault(noisy)]).await;
    let client = client(&server);
    let (plain, noisy) = (ask(&client, &hello()).await.1.unwrap(), ask(&client, &hello()).await.1.unwrap());
    assert_eq!(plain.content.get(), noisy.content.get());
    assert_eq!(plain.text, noisy.text);
    assert!(plain.content.get().contains(r#"{"type":"hologram","data":[1.5,{"deep":null}]}"#));
    assert_eq!(plain.tool_uses.len(), 1);
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let url = serve(Router::new().route(
        "/proxy/v1/messages",
        post({
            let seen = seen.clone();
            async move |headers: HeaderMap| {
                seen.lock().unwrap().push(headers);
                sse()
            }
        }),
    ))
    .await;
    let custom = parse_custom_headers("X-Team: blue-secret\n\nanthropic-beta: own-beta\n").unwrap();
    let mut options = Options { custom_headers: custom, ..options(&format!("{url}/proxy/")) };
    assert_eq!(options.auth, Auth::Both);
    for auth in [Auth::Both, Auth::ApiKey, Auth::Bearer] {
        options.auth = auth;
        let client = Client::new(options.clone()).unwrap();
        let shown = format!("{options:?} {client:?}");
        assert!(!shown.contains("secret") && shown.contains("X-Team"), "{shown}");
        let request = Request { betas: vec!["b-1".into(), "b-2".into()], ..request() };
        let mut stream = std::pin::pin!(client.stream(&request, &hello()));
        while let Some(update) = stream.next().await {
            update.unwrap();
        }
        let headers = seen.lock().unwrap().pop().unwrap();
        let get = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(get("x-api-key"), (auth != Auth::Bearer).then(|| KEY.to_owned()));
        assert_eq!(get("authorization"), (auth != Auth::ApiKey).then(|| format!("Bearer {KEY}")));
        assert_eq!(get("x-team").as_deref(), Some("blue-secret"));
        assert_eq!(get("anthropic-beta").as_deref(), Some("own-beta,b-1,b-2"));
    }
    let official: Url = "https://api.anthropic.com".parse().unwrap();
    assert_eq!((Auth::default_for(&official), default_version(&official)), (Auth::ApiKey, "2026-10-21"));
    let lookalike: Url = "https://notanthropic.com/anthropic.com".parse().unwrap();
    assert_eq!(default_version(&lookalike), "2023-06-01");
    let err = parse_custom_headers("a secret without a colon").unwrap_err();
    assert!(!err.to_string().contains("secret"));
    assert!(Client::new(Options::new("ftp://host".parse().unwrap(), None)).is_err());
}

#[tokio::test]
async fn connections_are_used_again() {
    let peers: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
    let url = serve(Router::new().route(
        "/v1/messages",
        post({
            let peers = peers.clone();
            async move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
                peers.lock().unwrap().insert(peer);
                sse()
            }
        }),
    ))
    .await;
    let client = Client::new(options(&format!("{url}/v1"))).unwrap();
    for _ in 0..20 {
        ask(&client, &hello()).await.1.unwrap();
    }
    // One, unless a turn begins in the very moment in which the last one's connection is being given back.
    let peers = peers.lock().unwrap().len();
    assert!(peers <= 4, "{peers} connections for 20 turns");
}

#[tokio::test]
async fn what_is_no_messages_api_is_said_so() {
    let url = serve(Router::new().route("/v1/messages", post(async || axum::response::Html("<h1>Welcome</h1>")))).await;
    let client = Client::new(options(&url)).unwrap();
    let err = ask(&client, &hello()).await.1.unwrap_err();
    assert!(matches!(&err, Error::NotAStream { content_type } if content_type.starts_with("text/html")), "{err}");
    assert!(matches!(client.list_models().await, Err(Error::Status { status: 404, .. })));
}

#[tokio::test]
async fn models_are_listed_over_all_pages() {
    #[derive(serde::Deserialize)]
    struct Paging {
        after_id: Option<String>,
    }
    let page = async |Query(paging): Query<Paging>| {
        axum::Json(match paging.after_id.as_deref() {
            None => {
                json!({ "data": [{ "id": "a", "display_name": "A", "capabilities": {} }], "has_more": true, "last_id": "a" })
            }
            Some("a") => json!({ "data": [{ "id": "b", "object": "model" }], "has_more": true, "last_id": "b" }),
            Some(_) => json!({ "data": [], "has_more": false, "last_id": null }),
        })
    };
    let url = serve(Router::new().route("/v1/models", get(page))).await;
    let models = Client::new(options(&url)).unwrap().list_models().await.unwrap();
    let names: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.display_name.as_deref())).collect();
    assert_eq!(names, [("a", Some("A")), ("b", None)]);

    let server = scripted(vec![]).await;
    let models = client(&server).list_models().await.unwrap();
    assert!(models.iter().all(|model| model.max_input_tokens == Some(1_000_000)));
}

#[tokio::test]
async fn dropping_the_stream_ends_the_request() {
    let held =
        Reply::text("x").with_fault(Fault { hold: Some("late".into()), hold_after: Some(1), ..Fault::default() });
    let server = scripted(vec![held, Reply::text("next")]).await;
    let client = client(&server);
    {
        let mut stream = std::pin::pin!(client.stream(&request(), &hello()));
        assert!(matches!(stream.next().await, Some(Ok(Update::Started { .. }))));
    }
    assert_eq!(ask(&client, &hello()).await.1.unwrap().text, "next");
    assert_eq!(server.requests().len(), 2);
}

/// A back end of our own, for what the scripted one does not do.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    url
}

fn sse() -> ([(header::HeaderName, &'static str); 1], axum::body::Body) {
    let frames = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"x\"}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ok\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    let stream = futures::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(stream))
}
