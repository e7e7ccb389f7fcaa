//! A busy thread over the API: queue, interrupt, steer, control, resume; limits; and no room.

use axum::http::Method;
use domain::{
    run::{Outcome, RunStatus},
    tier::Tiers,
};
use serde_json::{Value, json};

use super::{claim, finish};
use crate::app::App;

async fn send(app: &App, thread: &str, body: Value) -> Value {
    let path = format!("/threads/{thread}/messages");
    let mut body = body;
    body["stream"] = json!(false);
    app.post(&path, body).await.ok()
}

fn done() -> Outcome {
    Outcome::Completed { content: "done".into() }
}

fn failed(code: &str) -> Outcome {
    Outcome::Failed { code: code.into(), message: "It was stopped.".into() }
}

#[tokio::test]
async fn a_message_to_a_busy_thread_is_refused_unless_it_says_what_is_to_become_of_it() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    send(&app, &thread, json!({"content": "first"})).await;
    app.post(&path, json!({"content": "second"})).await.failed(409);
    let message = app.post(&path, json!({"content": "second", "mode": "shout"})).await.failed(400);
    assert!(message.contains("queue, interrupt or steer"), "{message}");
    let body = send(&app, &thread, json!({"content": "second", "mode": "queue"})).await;
    assert_eq!((&body["queued"], &body["run"]["status"]), (&json!(true), &json!("queued")));
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["queuedMessages"], 1);
}

#[tokio::test]
async fn the_stream_of_a_queued_message_tells_its_own_run_and_nothing_of_the_one_before() {
    let app = App::start().await;
    let thread = app.thread().await;
    send(&app, &thread, json!({"content": "first"})).await;
    let path = format!("/threads/{thread}/messages");
    let mut reader = app.open(Method::POST, &path, &[], json!({"content": "second", "mode": "queue"})).await;
    reader.until("response.created").await;
    let first = claim(&app.database.store).await;
    finish(&app.database.store, &first, Outcome::Completed { content: "the first answer".into() }).await;
    let second = claim(&app.database.store).await;
    finish(&app.database.store, &second, Outcome::Completed { content: "the second answer".into() }).await;
    let text = reader.rest().await;
    assert!(text.contains("the second answer") && !text.contains("the first answer"), "{text}");
    assert!(!text.contains(first.run.id.as_str()), "{text}");
    assert_eq!(text.matches("event: stream.completed").count(), 1, "{text}");
}

#[tokio::test]
async fn the_queue_is_listed_changed_and_shortened() {
    let app = App::start().await;
    let thread = app.thread().await;
    send(&app, &thread, json!({"content": "first"})).await;
    let mut runs = Vec::new();
    for content in ["a", "b", "c"] {
        let body = send(&app, &thread, json!({"content": content, "mode": "queue"})).await;
        runs.push(body["run"]["id"].as_str().expect("an id").to_owned());
    }
    let queue = format!("/threads/{thread}/queue");
    let contents = |list: &Value| {
        let data = list["data"].as_array().expect("a list").iter();
        data.map(|queued| queued["content"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(contents(&app.get(&queue).await.ok()), ["a", "b", "c"]);
    let changed = app.patch(&format!("{queue}/{}", runs[2]), json!({"content": "C", "position": 0})).await.ok();
    assert_eq!(contents(&changed), ["C", "a", "b"]);
    app.delete(&format!("{queue}/{}", runs[0])).await.ok();
    app.delete(&format!("{queue}/{}", runs[0])).await.failed(404);
    app.patch(&format!("{queue}/{}", runs[1]), json!({"content": " "})).await.failed(400);
    let list = app.get(&queue).await.ok();
    assert_eq!((contents(&list), &list["total_count"]), (vec!["C".to_owned(), "b".to_owned()], &json!(2)));
    let (_, key) = app.another_project().await;
    app.call_with(&key, Method::GET, &queue, axum::body::Body::empty()).await.failed(404);
    let foreign = format!("{queue}/{}", runs[1]);
    app.call_with(&key, Method::DELETE, &foreign, axum::body::Body::empty()).await.failed(404);
}

#[tokio::test]
async fn an_interrupted_run_says_so_and_is_no_failure() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "first").await;
    send(&app, &thread, json!({"content": "rather this", "mode": "interrupt"})).await;
    let text = reader.rest().await;
    assert!(text.contains(r#""status":"cancelled","stopReason":"interrupted""#), "{text}");
    assert!(!text.contains("stream.error"), "{text}");
    let runs = app.get(&format!("/threads/{thread}/runs?order=asc")).await.ok();
    assert_eq!(runs["data"][0]["stopReason"], "interrupted");
    assert_eq!(runs["data"][1]["status"], "queued");
}

#[tokio::test]
async fn a_steered_message_is_an_event_of_the_run_under_way() {
    let app = App::start().await;
    let thread = app.thread().await;
    send(&app, &thread, json!({"content": "first"})).await;
    let claimed = claim(&app.database.store).await;
    let path = format!("/threads/{thread}/messages");
    let mut reader = app.open(Method::POST, &path, &[], json!({"content": "left!", "mode": "steer"})).await;
    reader.until("steering.received").await;
    let steering = format!("/threads/{thread}/runs/{}/steering", claimed.run.id);
    let body = app.post(&steering, json!({"content": "by the way", "mode": "fyi"})).await.ok();
    assert_eq!((&body["accepted"], &body["delivered"]), (&json!(true), &json!(false)));
    assert_eq!((&body["run"]["id"], &body["steering"]["mode"]), (&json!(claimed.run.id.as_str()), &json!("fyi")));
    app.post(&steering, json!({"content": ""})).await.failed(400);
    app.post(&steering, json!({"content": "x", "mode": "shout"})).await.failed(400);
    finish(&app.database.store, &claimed, done()).await;
    let text = reader.rest().await;
    assert!(text.contains("left!") && text.contains("by the way"), "{text}");
    app.post(&steering, json!({"content": "too late"})).await.failed(400);
    let next = claim(&app.database.store).await;
    finish(&app.database.store, &next, done()).await;
    let messages = app.get(&path).await.ok();
    let messages: Vec<_> = messages["data"].as_array().expect("a list").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(json!(messages), json!(["first", "done", "by the way", "left!", "done"]));
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_cancelled_by_its_id() {
    let app = App::start().await;
    let thread = app.thread().await;
    let run = send(&app, &thread, json!({"content": "first"})).await["run"]["id"].as_str().expect("an id").to_owned();
    let control = format!("/threads/{thread}/runs/{run}/control");
    let body = app.post(&control, json!({"action": "pause"})).await.ok();
    assert_eq!((&body["run"]["status"], &body["effectApplied"]), (&json!("paused"), &json!(true)));
    assert!(app.database.store.claim_runs(9, super::TTL).await.expect("claims").is_empty());
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x"})).await.failed(409);
    let body = app.post(&control, json!({"action": "resume"})).await.ok();
    assert_eq!(body["run"]["status"], "queued");
    let body = app.post(&control, json!({"action": "cancel"})).await.ok();
    assert_eq!((&body["run"]["status"], &body["run"]["stopReason"]), (&json!("cancelled"), &json!("cancelled")));
    app.post(&control, json!({"action": "cancel"})).await.failed(400);
    app.post(&control, json!({"action": "dance"})).await.failed(400);
    app.post(&control, json!({})).await.failed(400);
    app.post(&format!("/threads/{thread}/runs/run_none/control"), json!({"action": "pause"})).await.failed(404);
}

#[tokio::test]
async fn a_thread_is_resumed_only_where_its_run_ended_too_soon() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/resume");
    let empty = axum::body::Body::empty;
    app.call(Method::POST, &path, empty()).await.failed(400);
    send(&app, &thread, json!({"content": "first"})).await;
    app.call(Method::POST, &path, empty()).await.failed(409);
    let claimed = claim(&app.database.store).await;
    finish(&app.database.store, &claimed, failed("budget")).await;
    let found = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!((&found["thread"]["status"], &found["thread"]["stopReason"]), (&json!("failed"), &json!("budget")));
    let body = app.call(Method::POST, &path, empty()).await.ok();
    assert_eq!((&body["thread"]["status"], &body["run"]["kind"]), (&json!("running"), &json!("resume")));
    let claimed = claim(&app.database.store).await;
    finish(&app.database.store, &claimed, done()).await;
    app.call(Method::POST, &path, empty()).await.failed(400);
    app.call(Method::POST, "/threads/thread_none/resume", empty()).await.failed(404);
}

#[tokio::test]
async fn limits_are_kept_on_agents_threads_and_messages() {
    let app = App::start().await;
    let agent = json!({"name": "a", "model": "m", "maxCost": 0.5, "maxDuration": 60});
    let agent = app.post("/agents", agent).await.ok();
    assert_eq!((&agent["agent"]["maxCost"], &agent["agent"]["maxDuration"]), (&json!(0.5), &json!(60.0)));
    let id = agent["agent"]["id"].as_str().expect("an id");
    let agent = app.patch(&format!("/agents/{id}"), json!({"maxCost": null, "maxTurns": 3})).await.ok();
    assert_eq!((&agent["agent"]["maxCost"], &agent["agent"]["maxTurns"]), (&Value::Null, &json!(3)));
    app.patch(&format!("/agents/{id}"), json!({"maxTurns": 0})).await.failed(400);

    let thread = app.post("/threads", json!({"maxTokens": 1000})).await.ok();
    assert_eq!(thread["thread"]["maxTokens"], 1000);
    let id = thread["thread"]["id"].as_str().expect("an id");
    let changed = app.patch(&format!("/threads/{id}"), json!({"maxCost": 1.25})).await.ok();
    assert_eq!((&changed["thread"]["maxTokens"], &changed["thread"]["maxCost"]), (&json!(1000), &json!(1.25)));

    send(&app, id, json!({"content": "go", "maxTurns": 7})).await;
    let claimed = claim(&app.database.store).await;
    assert_eq!(claimed.run.options.limits.max_turns, Some(7));
    finish(&app.database.store, &claimed, done()).await;
    app.post(&format!("/threads/{id}/messages"), json!({"content": "go", "maxCost": -1})).await.failed(400);
}

#[tokio::test]
async fn a_run_without_room_is_told_in_its_stream_and_done_later() {
    let app = App::start_with(|settings| settings.concurrent_per_project = 1).await;
    let (busy, thread) = (app.thread().await, app.thread().await);
    send(&app, &busy, json!({"content": "first"})).await;
    let claimed = claim(&app.database.store).await;
    let path = format!("/threads/{thread}/messages");
    let body = json!({"content": "later", "queueWhenCapacityUnavailable": true});
    let text = app.open(Method::POST, &path, &[], body).await.rest().await;
    assert!(text.contains("response.created") && !text.contains("response.completed"), "{text}");
    let last = text.rsplit("data: ").next().expect("a frame");
    let last: Value = serde_json::from_str(last.trim()).expect("is JSON");
    assert_eq!((&last["type"], &last["queued"]), (&json!("stream.completed"), &json!(true)));
    assert_eq!(last["admissionReason"], "runtime_capacity_unavailable");
    let run = last["batchJobId"].as_str().expect("an id").to_owned();
    assert!(
        app.database.store.claim_runs_within(9, super::TTL, 1, &Tiers::default()).await.expect("claims").is_empty()
    );
    finish(&app.database.store, &claimed, done()).await;
    let later = claim(&app.database.store).await;
    assert_eq!(later.run.id.as_str(), run);
    finish(&app.database.store, &later, done()).await;

    let body = send(&app, &thread, json!({"content": "now", "queueWhenCapacityUnavailable": true})).await;
    assert_eq!(body["queued"], false, "there is room");
    let created = json!({"content": "x", "queueWhenCapacityUnavailable": true, "stream": false});
    let body = app.post("/threads", created).await.ok();
    assert_eq!((&body["queuedInBatch"], &body["batchJobId"]), (&json!(true), &body["run"]["id"]));
}

#[tokio::test]
async fn room_is_counted_over_all_servers() {
    let app = App::start_with(|settings| settings.concurrent_runs = 1).await;
    let busy = app.thread().await;
    send(&app, &busy, json!({"content": "first"})).await;
    let ask = async || {
        let thread = app.thread().await;
        send(&app, &thread, json!({"content": "x", "queueWhenCapacityUnavailable": true})).await["queued"].clone()
    };
    assert_eq!(ask().await, true, "this server has no place");
    let other = app.database.another_server("node_other").await;
    other.announce_server(3).await.expect("announces");
    other.announce_server(3).await.expect("announces");
    assert_eq!(ask().await, false, "the other one has");
    assert_eq!(ask().await, true, "now three runs are there, and this one makes four");
    other.announce_server(5).await.expect("announces");
    assert_eq!(ask().await, false);
    other.withdraw_server().await.expect("withdraws");
    assert_eq!(ask().await, true, "it is gone");
}

#[tokio::test]
async fn a_note_that_interrupts_never_stops_another_run_than_it_names() {
    let app = App::start().await;
    let thread = app.thread().await;
    send(&app, &thread, json!({"content": "first"})).await;
    let first = claim(&app.database.store).await;
    finish(&app.database.store, &first, done()).await;
    send(&app, &thread, json!({"content": "second"})).await;
    let second = claim(&app.database.store).await;
    let held = send(&app, &thread, json!({"content": "third", "mode": "queue"})).await;
    let note = json!({"content": "stop that", "mode": "interrupt"});
    for run in [first.run.id.as_str(), held["run"]["id"].as_str().expect("an id")] {
        app.post(&format!("/threads/{thread}/runs/{run}/steering"), note.clone()).await.failed(400);
    }
    app.post(&format!("/threads/{thread}/runs/run_none/steering"), note.clone()).await.failed(404);
    let other = app.thread().await;
    app.post(&format!("/threads/{other}/runs/{}/steering", second.run.id), note.clone()).await.failed(404);
    let renewed = app.database.store.renew(&second.lease.renewal(), super::TTL).await.expect("the lease is good");
    assert!(!renewed.is_cancel_requested, "the run under way goes on");
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok()["total_count"], 3, "and nothing new began");
    let body = app.post(&format!("/threads/{thread}/runs/{}/steering", second.run.id), note).await.ok();
    assert_eq!((&body["executionStarted"], &body["run"]["status"]), (&json!(true), &json!("queued")));
}

#[tokio::test]
async fn a_server_with_too_much_to_do_says_when_to_come_back() {
    let app = App::start_with(|settings| settings.max_queued = 1).await;
    let (one, two) = (app.thread().await, app.thread().await);
    send(&app, &one, json!({"content": "first"})).await;
    let reply = app.post(&format!("/threads/{two}/messages"), json!({"content": "second"})).await;
    assert_eq!(reply.header("retry-after"), "10");
    reply.failed(503);
    let run = send(&app, &two, json!({"content": "second", "queueWhenCapacityUnavailable": true})).await;
    let id = run["run"]["id"].as_str().expect("an id").parse().expect("valid");
    assert_eq!(app.database.store.find_run_status(&id).await.expect("reads"), Some(RunStatus::Queued));
}
