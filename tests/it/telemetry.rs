//! What a collector of OpenTelemetry is told of a run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{HistogramDataPoint, Metric, metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message;
use reqwest::Method;
use scripted_claude::{Reply, ReplyUsage};
use serde_json::json;
use system_tests::{World, eventually};
use tokio::net::TcpListener;

/// Spans and headers, as they came, and the newest metrics.
type Received = Arc<Mutex<(Vec<Span>, Vec<HeaderMap>, Vec<Metric>)>>;

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
    let take_metrics = async |State(received): State<Received>, body: Bytes| {
        let request = ExportMetricsServiceRequest::decode(body).expect("OTLP");
        let metrics = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics);
        received.lock().expect("nobody panics with it").2 = metrics.collect();
    };
    let router = Router::new().route("/v1/traces", post(take)).route("/v1/metrics", post(take_metrics));
    let router = router.with_state(Arc::clone(&received));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = attributes.iter();
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
    let said = attributes(&whole.attributes);
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
    let said = attributes(&turns[0].attributes);
    assert_eq!((said["gen_ai.operation.name"].as_str(), said["gen_ai.provider.name"].as_str()), ("chat", "anthropic"));
    assert_eq!(said["gen_ai.response.finish_reasons"], "tool_use");
    assert!(said["gen_ai.usage.output_tokens"].parse::<u64>().expect("a number") > 0);
    assert!(!attributes(&bash.attributes).contains_key("error.type"));
    assert_eq!(attributes(&read.attributes)["error.type"], "tool_error");
    assert_eq!(attributes(&read.attributes)["gen_ai.tool.name"], "Read");

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

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_and_the_page_of_metrics_have_the_figures_of_the_runs() {
    let (url, received) = collector().await;
    let settings = [("TELEMETRY__OTLP_ENDPOINT", url.as_str()), ("TELEMETRY__METRICS_INTERVAL", "500ms")];
    let mut world = World::with(&settings).await;
    let thread = world.thread(&world.environment(false).await).await;
    let usage = ReplyUsage {
        input_tokens: Some(100),
        cache_read_input_tokens: Some(20),
        cache_creation_input_tokens: Some(3),
        output_tokens: Some(7),
        ..ReplyUsage::default()
    };
    let replies = [
        Reply::tool("Bash", json!({ "command": "echo said-by-the-model" })),
        Reply::tool("Read", json!({ "file_path": "/workspace/is-not-there" })),
        Reply::text("said-at-the-end"),
    ];
    world.run(&thread, &replies.map(|reply| Reply { usage, ..reply })).await;
    world.run(&thread, &[Reply::status(400)]).await;

    // What the rows tell is counted from time to time.
    eventually("the runs are counted", Duration::from_secs(30), async || {
        let metrics = received.lock().expect("nobody panics with it").2.clone();
        sum(&metrics, "atelier_runs", &[("status", "completed")]) == Some(1.0)
            && sum(&metrics, "atelier_runs", &[("status", "failed")]) == Some(1.0)
            && sum(&metrics, "atelier_tokens_total", &[]) == Some(3.0 * (123.0 + 7.0))
    })
    .await;
    let request = world.request(Method::GET, "/metrics").header("accept", "text/plain");
    let page = request.send().await.expect("an answer").text().await.expect("a text");

    // The last figures are sent before the process ends.
    assert!(world.stop().await.success());
    let metrics = received.lock().expect("nobody panics with it").2.clone();
    let tokens = |kind| points(&metrics, "gen_ai.client.token.usage", &[("gen_ai.token.type", kind)]);
    for (kind, all) in [("input", 3.0 * 123.0), ("output", 3.0 * 7.0)] {
        let [point] = &tokens(kind)[..] else { panic!("one model: {metrics:#?}") };
        assert_eq!((point.count, point.sum), (3, Some(all)), "{kind}");
        assert_eq!(point.explicit_bounds[..3], [1.0, 4.0, 16.0]);
        let said = attributes(&point.attributes);
        assert_eq!(
            (said["gen_ai.operation.name"].as_str(), said["gen_ai.provider.name"].as_str()),
            ("chat", "anthropic")
        );
        assert_eq!(said["gen_ai.request.model"], said["gen_ai.response.model"]);
    }
    let unit = |name: &str| metrics.iter().find(|metric| metric.name == name).map(|metric| metric.unit.as_str());
    assert_eq!(unit("gen_ai.client.token.usage"), Some("{token}"));
    assert_eq!(unit("gen_ai.client.operation.duration"), Some("s"));
    // What was done: calls that went well, and what failed of each kind.
    let made = |operation, failure: Option<&str>| -> u64 {
        let points = points(&metrics, "gen_ai.client.operation.duration", &[("gen_ai.operation.name", operation)]);
        let failure_of = |point: &HistogramDataPoint| attributes(&point.attributes).get("error.type").cloned();
        points.iter().filter(|point| failure_of(point).as_deref() == failure).map(|point| point.count).sum()
    };
    assert_eq!((made("chat", None), made("chat", Some("invalid_request_error"))), (3, 1));
    assert_eq!((made("execute_tool", None), made("execute_tool", Some("tool_error"))), (1, 1));
    assert_eq!((made("invoke_agent", None), made("invoke_agent", Some("model_error"))), (1, 1));
    let first: u64 =
        points(&metrics, "gen_ai.client.operation.time_to_first_chunk", &[]).iter().map(|point| point.count).sum();
    assert_eq!(first, 3);
    assert!(sum(&metrics, "atelier_http_requests_total", &[("route", "/threads/{id}/messages")]) >= Some(2.0));
    assert!(!points(&metrics, "atelier_http_response_seconds", &[]).is_empty());

    // The same on the page, whose names have no dots.
    for line in [
        "# TYPE gen_ai_client_token_usage histogram",
        "# TYPE gen_ai_client_operation_duration histogram",
        "# TYPE gen_ai_client_operation_time_to_first_chunk histogram",
        "# TYPE atelier_http_response_seconds histogram",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    let counted = |name: &str, label: &str| {
        let mut found = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let line = found.next().unwrap_or_else(|| panic!("{name} {label} in {page}"));
        line.rsplit_once(' ').and_then(|(_, number)| number.parse::<f64>().ok()).expect("a number")
    };
    assert_eq!(counted("gen_ai_client_token_usage_sum", "gen_ai_token_type=\"input\""), 369.0);
    assert_eq!(counted("gen_ai_client_token_usage_count", "gen_ai_token_type=\"output\""), 3.0);
    assert_eq!(counted("gen_ai_client_operation_duration_count", "error_type=\"tool_error\""), 1.0);
    assert!(!format!("{metrics:?}{page}").contains("said-"), "nothing that was said");
    for id in [&thread, "run_"] {
        assert!(!format!("{metrics:?}{page}").contains(id), "no ids");
    }
    world.finish().await;
}

/// Gives the distributions of a figure whose labels are these, among others.
fn points(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> Vec<HistogramDataPoint> {
    let named = metrics.iter().filter(|metric| metric.name == name);
    let all = named.flat_map(|metric| match &metric.data {
        Some(Data::Histogram(histogram)) => histogram.data_points.clone(),
        _ => Vec::new(),
    });
    all.filter(|point| has(&point.attributes, labels)).collect()
}

/// Adds up what a figure without a distribution has for these labels.
fn sum(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let metric = metrics.iter().find(|metric| metric.name == name)?;
    let points = match metric.data.as_ref()? {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        _ => return None,
    };
    let found: Vec<_> =
        points.iter().filter(|point| has(&point.attributes, labels)).filter_map(|point| point.value).collect();
    let number = |value: &number_data_point::Value| match value {
        number_data_point::Value::AsInt(whole) => *whole as f64,
        number_data_point::Value::AsDouble(number) => *number,
    };
    (!found.is_empty()).then(|| found.iter().map(number).sum())
}

fn has(pairs: &[KeyValue], labels: &[(&str, &str)]) -> bool {
    let all = attributes(pairs);
    labels.iter().all(|(name, value)| all.get(name).is_some_and(|found| found == value))
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
    let settings = [("TELEMETRY__OTLP_ENDPOINT", url.as_str()), ("TELEMETRY__METRICS_INTERVAL", "100ms")];
    let mut world = World::with(&settings).await;
    let thread = world.thread(&world.environment(false).await).await;
    assert_eq!(world.bash(&thread, "echo here").await, ("here".to_owned(), false));
    assert!(world.stop().await.success());
    world.finish().await;
}
