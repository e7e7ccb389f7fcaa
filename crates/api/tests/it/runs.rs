//! `/runs`: runs under the names that callers give them.

use std::time::Duration;

use axum::http::{Method, Request};
use domain::{MicroUsd, run::Spent};
use serde_json::{Value, json};
use store::leases::{Checkpoint, Turn};

use crate::{
    app::App,
    threads::{claim, completed, said},
};

/// Makes the agent that most runs here name.
async fn reporter(app: &App) -> String {
    let made = app.post("/agents", json!({"name": "Reporter", "model": "m"})).await.ok();
    made["agent"]["id"].as_str().expect("an id").to_owned()
}

fn nightly() -> Value {
    json!({"name": "Nightly", "agentName": "Reporter", "task": "Write the report"})
}

async fn create(app: &App, body: Value) -> Value {
    app.post("/runs", body).await.ok()["run"].take()
}

fn id(run: &Value) -> &str {
    run["id"].as_str().expect("an id")
}

async fn listed(app: &App, query: &str) -> Vec<Value> {
    let list = app.get(&format!("/v1/runs?{query}")).await.ok();
    list["runs"].as_array().expect("runs").iter().map(|run| run["id"].clone()).collect()
}

#[tokio::test]
async fn a_run_is_started_by_names_and_told_from_its_task_to_its_cost() {
    let app = App::start().await;
    let agent = reporter(&app).await;
    let mut body = nightly();
    body["prompt"] = json!("Write it in French");
    body["title"] = json!("A title");
    body["metadata"] = json!({"ticket": 7});
    body["contextId"] = json!("ctx");
    let run = create(&app, body).await;
    for (name, value) in [
        ("name", json!("Nightly")),
        ("agentName", json!("Reporter")),
        ("agentId", json!(agent)),
        ("task", json!("Write the report")),
        ("prompt", json!("Write it in French")),
        ("title", json!("A title")),
        ("metadata", json!({"ticket": 7})),
        ("contextId", json!("ctx")),
        ("workspaceId", Value::Null),
        ("status", json!("pending")),
        ("projectId", json!(app.database.project)),
        ("duration", Value::Null),
        ("deletedAt", Value::Null),
    ] {
        assert_eq!(run[name], value, "{name} of {run}");
    }
    let thread = run["threadId"].as_str().expect("a thread");
    let shown = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!((&shown["thread"]["title"], &shown["thread"]["metadata"]), (&json!("A title"), &Value::Null));
    assert_eq!(shown["thread"]["messages"][0]["content"], "Write the report");

    let mut claimed = claim(&app.database.store).await;
    assert_eq!(claimed.run.options.execution_content.as_deref(), Some("Write it in French"));
    let path = format!("/runs/{}", id(&run));
    assert_eq!(app.get(&path).await.ok()["run"]["status"], "running");
    let cost = MicroUsd(1500);
    let spent = Spent { input_tokens: 10, output_tokens: 2, cache_read_tokens: 5, cost, ..Spent::default() };
    let turn = Turn {
        model: "m".into(),
        request_id: None,
        stop_reason: "end_turn".into(),
        spent,
        duration: Duration::from_millis(5),
    };
    let checkpoint = Checkpoint { events: vec![said("Bonjour.")], turn: Some(turn), ..Checkpoint::default() };
    app.database.store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
    app.database.store.finish_run(&claimed.lease, &completed("Bonjour."), spent).await.expect("the lease is good");
    let done = app.get(&path).await.ok()["run"].take();
    assert_eq!((&done["status"], &done["cost"]), (&json!("success"), &json!(0.0015)));
    assert_eq!(done["tokenUsage"], json!({"inputTokens": 15, "outputTokens": 2, "cachedTokens": 5}));
    assert!(done["duration"].is_number() && done["completedAt"].is_string(), "{done}");

    // Its log, with a line of somebody else's.
    let line = json!({"level": "debug", "message": "Deployed", "metadata": {"to": "prod"}});
    assert_eq!(app.post(&format!("{path}/logs"), line).await.ok()["logsAdded"], 1);
    let logs = app.get(&format!("{path}/logs")).await.ok();
    let lines: Vec<_> =
        logs["logs"].as_array().expect("lines").iter().map(|l| (l["level"].clone(), l["message"].clone())).collect();
    for line in
        [("info", "Write the report"), ("info", "Bonjour."), ("info", "The run is completed."), ("debug", "Deployed")]
    {
        assert!(lines.contains(&(json!(line.0), json!(line.1))), "{line:?} of {lines:?}");
    }
    assert_eq!(
        logs["logs"].as_array().and_then(|lines| lines.last()).map(|line| &line["metadata"]),
        Some(&json!({"to": "prod"}))
    );
    let without = app.get(&format!("{path}/logs?level=info&format=text")).await;
    assert!(without.header("content-type").starts_with("text/plain"));
    assert!(without.text().lines().any(|line| line.ends_with(" INFO Bonjour.")), "{}", without.text());
    assert!(!without.text().contains("Deployed"));
    assert_eq!(app.get(&format!("{path}/logs?level=error")).await.ok()["logs"], json!([]));
    let threads = app.get(&format!("/threads/{thread}/logs")).await.ok();
    let added = threads["logs"].as_array().and_then(|lines| lines.last()).expect("a line");
    assert_eq!((&added["message"], &added["type"], &added["runId"]), (&json!("Deployed"), &json!("debug"), &run["id"]));
}

#[tokio::test]
async fn runs_of_all_origins_are_listed_newest_first_and_by_what_they_are() {
    let app = App::start().await;
    reporter(&app).await;
    let first = create(&app, nightly()).await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "Hello", "stream": false})).await.ok();
    // One that is held behind it.
    let mut body = nightly();
    body["threadId"] = json!(thread);
    body["mode"] = json!("queue");
    let held = create(&app, body.clone()).await;
    assert_eq!((&held["status"], &held["task"]), (&json!("pending"), &json!("Write the report")));
    let all = listed(&app, "").await;
    assert_eq!((all.len(), &all[0], &all[2]), (3, &held["id"], &first["id"]));
    let page = app.get("/runs?limit=1&offset=1").await.ok();
    assert_eq!(page["pagination"], json!({"total": 3, "limit": 1, "offset": 1}));
    assert_eq!((&page["runs"][0]["id"], &page["runs"][0]["name"]), (&all[1], &json!("Hello")));
    assert_eq!(page["runs"].as_array().map(Vec::len), Some(1));

    let claimed = claim(&app.database.store).await;
    assert_eq!(claimed.run.id.as_str(), id(&first));
    let failed = domain::run::Outcome::Failed { code: "model_error".into(), message: "It is away".into() };
    app.database.store.finish_run(&claimed.lease, &failed, Spent::default()).await.expect("the lease is good");
    assert_eq!(listed(&app, "status=failed").await, [first["id"].clone()]);
    assert_eq!(listed(&app, "status=pending").await.len(), 2);
    assert_eq!(listed(&app, &format!("threadId={thread}&status=pending&since=2020-01-01")).await.len(), 2);
    assert_eq!(app.get("/runs?status=failed").await.ok()["runs"][0]["error"], "It is away");
    for nothing in ["status=success", "since=2999-01-01", "threadId=thread_x", "threadId=%21"] {
        assert_eq!(listed(&app, nothing).await, Vec::<Value>::new(), "{nothing}");
    }
    for wrong in ["status=completed", "since=yesterday", "limit=-1"] {
        app.get(&format!("/runs?{wrong}")).await.failed(400);
    }
    // The runs of a thread that is deleted are with it.
    app.delete(&format!("/threads/{thread}")).await.ok();
    assert_eq!(listed(&app, "").await, [first["id"].clone()]);
    app.get(&format!("/runs/{}", id(&held))).await.failed(404);
}

#[tokio::test]
async fn a_run_is_called_otherwise_cancelled_and_deleted_and_never_told_what_happened() {
    let app = App::start().await;
    reporter(&app).await;
    let run = create(&app, nightly()).await;
    let path = format!("/runs/{}", id(&run));
    let change = json!({
        "name": "Weekly", "title": "T", "metadata": {"a": 1}, "status": "pending",
        "logs": [{"message": "one"}, {"level": "error", "message": "two"}],
    });
    let changed = app.patch(&path, change).await.ok()["run"].take();
    assert_eq!(
        (&changed["name"], &changed["title"], &changed["metadata"]),
        (&json!("Weekly"), &json!("T"), &json!({"a": 1}))
    );
    assert_eq!(changed["agentName"], "Reporter");
    let errors = app.get(&format!("{path}/logs?level=error")).await.ok();
    assert_eq!(errors["logs"][0]["message"], "two");
    // A label that is cleared is called after its thread.
    let cleared = app.patch(&path, json!({"name": null, "metadata": null})).await.ok()["run"].take();
    assert_eq!((&cleared["name"], &cleared["metadata"]), (&json!("Write the report"), &Value::Null));
    for (wrong, field) in [
        (json!({"cost": 0}), "cost"),
        (json!({"duration": 1}), "duration"),
        (json!({"tokenUsage": {}}), "tokenUsage"),
        (json!({"status": "success"}), "status"),
        (json!({"name": " "}), "name"),
        (json!({"logs": [{"level": "loud", "message": "x"}]}), "logs[0].level"),
        (json!({"logs": [{"level": "info"}]}), "logs[0].message"),
    ] {
        let reply = app.patch(&path, wrong.clone()).await;
        reply.failed(400);
        assert_eq!(reply.json()["details"][0]["field"], field, "{wrong}");
    }

    assert_eq!(app.patch(&path, json!({"status": "cancelled"})).await.ok()["run"]["status"], "cancelled");
    // The same again changes nothing; what is over cannot be anything else.
    app.patch(&path, json!({"status": "cancelled"})).await.ok();
    app.delete(&path).await.ok();
    for gone in [app.get(&path).await, app.patch(&path, json!({"name": "x"})).await, app.delete(&path).await] {
        gone.failed(404);
    }
    assert_eq!(listed(&app, "").await, Vec::<Value>::new());
    let thread = run["threadId"].as_str().expect("a thread");
    let runs = app.get(&format!("/threads/{thread}/runs")).await.ok();
    assert_eq!(runs["total_count"], 1, "the thread keeps it");

    // One that a worker has is asked to stop.
    let run = create(&app, nightly()).await;
    let claimed = claim(&app.database.store).await;
    app.delete(&format!("/runs/{}", id(&run))).await.ok();
    let renewed = app.database.store.find_run(&app.database.project, &claimed.run.id).await.expect("reads");
    assert!(renewed.expect("is there").is_cancel_requested);
    let over = create(&app, nightly()).await;
    let claimed = claim(&app.database.store).await;
    app.database.store.finish_run(&claimed.lease, &completed("."), Spent::default()).await.expect("the lease is good");
    app.patch(&format!("/runs/{}", id(&over)), json!({"status": "cancelled"})).await.failed(400);
}

#[tokio::test]
async fn what_a_run_names_must_be_there_and_be_one() {
    let app = App::start().await;
    let agent = reporter(&app).await;
    let wrong = |change: Value| {
        let mut body = nightly();
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        body
    };
    for (change, field) in [
        (json!({"name": ""}), "name"),
        (json!({"task": " "}), "task"),
        (json!({"agentName": "Nobody"}), "agentName"),
        (json!({"environmentName": "Nowhere"}), "environmentName"),
        (json!({"mode": "steer"}), "mode"),
    ] {
        let reply = app.post("/runs", wrong(change.clone())).await;
        reply.failed(400);
        assert_eq!(reply.json()["details"][0]["field"], field, "{change}");
    }
    app.post("/runs", json!({"task": "t"})).await.failed(400);
    for change in [json!({"agentId": "agent_x"}), json!({"environmentId": "env_x"}), json!({"threadId": "thread_x"})] {
        app.post("/runs", wrong(change)).await.failed(404);
    }
    // Who has an id says what it is called.
    let named = create(&app, wrong(json!({"agentId": agent, "agentName": "The boss"}))).await;
    assert_eq!((&named["agentId"], &named["agentName"]), (&json!(agent), &json!("The boss")));
    app.post("/agents", json!({"name": "Reporter", "model": "m"})).await.ok();
    let message = app.post("/runs", nightly()).await.failed(400);
    assert!(message.contains("more than one agent: send agentId"), "{message}");
    let environment = app.post("/environments", json!({"name": "There"})).await.ok();
    let there = create(&app, wrong(json!({"agentId": agent, "environmentName": "There"}))).await;
    assert_eq!(there["environmentId"], environment["environment"]["id"]);

    let thread = app.thread().await;
    for change in [json!({"agentId": agent}), json!({"environmentId": there["environmentId"]})] {
        let mut body = wrong(change);
        body["threadId"] = json!(thread);
        app.post("/runs", body).await.failed(400);
    }
    let runs = listed(&app, "").await.len();
    assert_eq!(runs, 2, "nothing was made by what was refused");
    // Another project sees none of it.
    let (_, other) = app.another_project().await;
    for (method, path) in
        [(Method::GET, ""), (Method::PATCH, ""), (Method::DELETE, ""), (Method::GET, "/logs"), (Method::POST, "/logs")]
    {
        let path = format!("/runs/{}{path}", id(&named));
        app.call_with(&other, method, &path, r#"{"message": "x"}"#).await.failed(404);
    }
}

#[tokio::test]
async fn a_run_that_is_asked_for_again_with_the_same_key_is_the_same() {
    let app = App::start().await;
    reporter(&app).await;
    let send = async || {
        let request = Request::post("/v1/runs")
            .header("x-api-key", &app.key)
            .header("idempotency-key", "once")
            .body(nightly().to_string().into())
            .expect("a request");
        app.send(request).await.ok()["run"]["id"].clone()
    };
    let (first, again) = (send().await, send().await);
    assert_eq!(first, again);
    assert_eq!(listed(&app, "").await, [first]);
}
