//! What a collector of OpenTelemetry is told of a run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;
use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually};
use tokio::net::TcpListener;

/// Spans and headers, as they came.
type Received = Arc<Mutex<(Vec<Span>, Vec<HeaderMap>)>>;

/// Takes OTLP over HTTP as a collector does.
async fn collector() -> (String, Received) {
    let received = Received::default();
    let take = async |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
        let spans = request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
        let mut received = received.lock().expect("nobody panics with it");
        received.0.extend(spans);
        received.1.push(headers);
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = span.attributes.iter();
    pairs.filter_map(|pair| Some((pair.key.as_str(), text(pair.value.as_ref()?.value.as_ref()?)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_of_each_run_turn_and_call_and_of_nothing_that_was_said() {
    let (url, received) = collector().await;
    let settings = [("TELEMETRY__OTLP_ENDPOINT", url.as_str()), ("TELEMETRY__OTLP_HEADERS", "x-tenant=one, x-b=2")];
    let mut world = World::with(&settings).await;
    let thread = world.thread(&world.environment(false).await).await;
    let calls = [
        Reply::tool("Bash", json!({ "command": "echo said-by-the-model" })),
        Reply::tool("Read", json!({ "file_path": "/workspace/is-not-there" })),
        Reply::text("said-at-the-end"),
    ];
    let frames = world.run(&thread, &calls).await;
    let run = frames.last().expect("an end").data["run"]["id"].as_str().expect("an id").to_owned();

    let spans = eventually_spans(&received, 6).await;
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name.starts_with(name)).collect();
        assert!(!found.is_empty(), "{name} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found
    };
    let [whole] = named("invoke_agent")[..] else { panic!("one run") };
    let said = attributes(whole);
    assert_eq!((said["atelier.run.id"].as_str(), said["atelier.run.outcome"].as_str()), (run.as_str(), "completed"));
    assert_eq!(said["gen_ai.conversation.id"], thread);
    assert!(whole.parent_span_id.is_empty());
    let turns = named("chat ");
    assert_eq!(turns.len(), 3);
    let bash = named("execute_tool Bash")[0];
    let read = named("execute_tool Read")[0];
    for part in turns.iter().copied().chain([bash, read]) {
        assert_eq!((&part.trace_id, &part.parent_span_id), (&whole.trace_id, &whole.span_id), "{}", part.name);
        assert!(whole.start_time_unix_nano <= part.start_time_unix_nano);
        assert!(part.end_time_unix_nano <= whole.end_time_unix_nano);
    }
    let said = attributes(turns[0]);
    assert_eq!((said["gen_ai.operation.name"].as_str(), said["gen_ai.provider.name"].as_str()), ("chat", "anthropic"));
    assert_eq!(said["gen_ai.response.finish_reasons"], "tool_use");
    assert!(said["gen_ai.usage.output_tokens"].parse::<u64>().expect("a number") > 0);
    assert!(!attributes(bash).contains_key("error.type"));
    assert_eq!(attributes(read)["error.type"], "tool_error");
    assert_eq!(attributes(read)["gen_ai.tool.name"], "Read");

    assert!(!format!("{spans:?}").contains("said-"), "nothing that was said");
    let headers = received.lock().expect("nobody panics with it").1[0].clone();
    assert_eq!((&headers["x-tenant"], &headers["x-b"]), (&"one".parse().unwrap(), &"2".parse().unwrap()));

    // The last spans are sent before the process ends.
    let frames = world.run(&thread, &[Reply::text("Bye.")]).await;
    assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("completed")));
    assert!(world.stop().await.success());
    let runs =
        received.lock().expect("nobody panics with it").0.iter().filter(|span| span.name.starts_with("invoke")).count();
    assert_eq!(runs, 2);
    world.finish().await;
}

/// Waits until there are as many spans.
async fn eventually_spans(received: &Received, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    eventually("the spans come", Duration::from_secs(30), async || {
        spans.clone_from(&received.lock().expect("nobody panics with it").0);
        spans.len() >= count
    })
    .await;
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_in_nobodys_way() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let mut world = World::with(&[("TELEMETRY__OTLP_ENDPOINT", &url)]).await;
    let thread = world.thread(&world.environment(false).await).await;
    assert_eq!(world.bash(&thread, "echo here").await, ("here".to_owned(), false));
    assert!(world.stop().await.success());
    world.finish().await;
}
