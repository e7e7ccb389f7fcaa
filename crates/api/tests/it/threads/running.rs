//! A message becomes a stream, and the stream an answer.

use axum::http::Method;
use domain::{event::Delta, run::Outcome};
use serde_json::{Value, json};
use store::leases::Turn;

use super::*;
use crate::app::redacted;

/// Replaces what differs from run to run in a stream.
fn redacted_stream(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("data: ") {
        Some(json) => format!("data: {}\n", redacted(serde_json::from_str(json).expect("JSON on one line"))),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn a_run_is_streamed_as_it_happens_and_the_body_ends_with_it() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "List the files").await;
    assert_eq!(reader.status, 200);
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
    {
        assert_eq!(reader.headers[name], value);
    }
    reader.until("response.created").await;

    let store = &app.database.store;
    let mut claimed = claim(store).await;
    reader.until("response.started").await;
    show(store, &claimed, Delta::Thinking("hm".into()));
    reader.until("response.reasoning.delta").await;
    show(store, &claimed, Delta::Text("I will\u{2028}".into()));
    reader.until("response.content_part.delta").await;
    for events in work() {
        record(store, &mut claimed, events).await;
    }
    reader.until("\"exit_code\":0").await;
    show(store, &claimed, Delta::ToolOutput { call_id: "toolu_1".into(), text: "app.py".into() });
    reader.until("response.tool_output.delta").await;
    let turn = Turn {
        model: "claude-x".into(),
        request_id: None,
        stop_reason: "end_turn".into(),
        spent: SPENT,
        duration: std::time::Duration::from_secs(1),
    };
    let checkpoint = Checkpoint { turn: Some(turn), calls: 1, ..Checkpoint::default() };
    store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
    finish(store, &claimed, completed("There is one file.\u{85}")).await;
    let text = reader.rest().await;

    assert!(!text.contains(['\u{85}', '\u{2028}', '\u{2029}']), "some clients take these for line ends");
    assert_eq!(data(&text).last().expect("events")["run"]["status"], "completed");
    insta::assert_snapshot!(redacted_stream(&text));

    let mut shown = app.get(&format!("/threads/{thread}")).await.ok();
    assert!(shown["thread"]["duration"].take().is_string());
    assert!(shown["thread"]["messages"][1]["durationMs"].take().is_i64());
    insta::assert_json_snapshot!(redacted(shown));
    let status = app.get(&format!("/threads/{thread}/status")).await.ok();
    assert_eq!((&status["status"], &status["threadId"]), (&json!("completed"), &json!(thread)));
    let mut runs = app.get(&format!("/threads/{thread}/runs")).await.ok();
    assert_eq!(runs["runs"], runs["data"]);
    assert!(runs["data"][0]["duration"].take().is_f64());
    insta::assert_json_snapshot!(redacted(runs["data"][0].take()));
}

#[tokio::test]
async fn a_thread_made_with_a_message_streams_from_its_own_beginning() {
    let app = App::start().await;
    let body = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "title": "Greeting", "metadata": {"a": 1}, "stream": true});
    let mut reader = app.open(Method::POST, "/v1/threads", &[], body).await;
    reader.until("thread.created").await;
    work_off(&app.database.store, "Hi.").await;
    let text = reader.rest().await;
    let events = data(&text);
    assert_eq!(events[0]["type"], "thread.created");
    assert_eq!(events[0]["sequence"], 1);
    let thread = events[0]["thread"]["id"].as_str().expect("an id");
    let shown = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!(shown["thread"]["title"], "Greeting");
    assert_eq!(shown["thread"]["environmentId"], events[0]["thread"]["environmentId"]);
    let messages = shown["thread"]["messages"].as_array().expect("messages");
    let said: Vec<_> = messages.iter().map(|message| (&message["role"], &message["content"])).collect();
    let expected = [json!(["system", "Be brief."]), json!(["user", "Hello"]), json!(["assistant", "Hi."])];
    assert_eq!(said, expected.iter().map(|pair| (&pair[0], &pair[1])).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_stream_the_answer_comes_at_once() {
    let app = App::start().await;
    // Nobody works: an answer that waited for the run would not come.
    let made = app.post("/threads", json!({"task": "Hello", "stream": false})).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!((&made["thread"]["status"], &made["thread"]["task"]), (&json!("running"), &json!("Hello")));
    assert_eq!((&made["run"]["status"], &made["run"]["kind"]), (&json!("queued"), &json!("message")));

    let thread = app.thread().await;
    let sent = app
        .post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false, "runId": "my-run"}))
        .await;
    assert_eq!(sent.status, 202);
    let sent = sent.ok();
    assert_eq!(
        (&sent["run"]["id"], &sent["queued"], &sent["thread"]["id"]),
        (&json!("my-run"), &json!(false), &json!(thread))
    );
}

#[tokio::test]
async fn a_failed_run_says_so_wherever_a_client_looks() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Hello").await;
    let claimed = claim(&app.database.store).await;
    let outcome = Outcome::Failed { code: "model_error".into(), message: "The model did not answer.".into() };
    finish(&app.database.store, &claimed, outcome).await;
    let text = reader.rest().await;
    let all = names(&text);
    assert_eq!(all[2..], ["response.failed", "stream.error", "stream.completed"]);
    let events = data(&text);
    assert_eq!(events[2]["response"]["error"]["message"], "The model did not answer.");
    assert_eq!(events[3]["message"], events[3]["error"]);
    assert_eq!(events[4]["run"]["status"], "failed");
    let runs = app.get(&format!("/threads/{thread}/runs?status=failed")).await.ok();
    assert_eq!(runs["data"][0]["error"]["code"], "model_error");
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "failed");
}

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once_and_a_running_one_by_its_worker() {
    let app = App::start().await;
    let thread = app.thread().await;
    let cancel = format!("/threads/{thread}/cancel");
    assert_eq!(app.post(&cancel, json!({})).await.failed(400), "No run of the thread is under way");

    let mut reader = app.send_message(&thread, "Hello").await;
    reader.until("response.created").await;
    let cancelled = app.call(Method::POST, &cancel, "").await.ok();
    assert_eq!(cancelled["success"], true);
    assert_eq!((&cancelled["cancelled"], &cancelled["threadId"]), (&json!(true), &json!(thread)));
    let text = reader.rest().await;
    assert_eq!(names(&text), ["response.created", "response.failed", "stream.completed"]);
    let events = data(&text);
    assert_eq!(events[1]["response"]["error"]["message"], "Execution cancelled by user");
    assert_eq!(events[2]["run"]["status"], "cancelled");
    assert_eq!(events[2]["run"]["id"], cancelled["runId"]);
    app.post(&cancel, json!({})).await.failed(400);

    let reader = app.send_message(&thread, "Again").await;
    let claimed = claim(&app.database.store).await;
    app.post(&cancel, json!({})).await.ok();
    let renewed = app.database.store.renew(&claimed.lease.renewal(), TTL).await.expect("the lease is good");
    assert!(renewed.is_cancel_requested);
    finish(&app.database.store, &claimed, Outcome::Cancelled).await;
    let text = reader.rest().await;
    assert_eq!(names(&text)[2..], ["response.failed", "stream.completed"]);
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "cancelled");
}

#[tokio::test]
async fn a_second_message_has_to_wait_for_the_first() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "First").await;
    let refused = app.post(&format!("/threads/{thread}/messages"), json!({"content": "Second"})).await;
    assert_eq!(refused.failed(409), "The thread is busy with another run");
    assert_eq!(refused.json()["code"], "thread_busy");
    work_off(&app.database.store, "done").await;
    reader.rest().await;
    let reader = app.send_message(&thread, "Second").await;
    work_off(&app.database.store, "done again").await;
    let text = reader.rest().await;
    assert_eq!(names(&text)[0], "response.created", "only the second run's events");
    assert_eq!(text.matches("stream.completed\n").count(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_the_run() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    reader.until("response.created").await;
    let mut claimed = claim(&app.database.store).await;
    reader.until("response.started").await;
    drop(reader);
    record(&app.database.store, &mut claimed, vec![said("Hi.")]).await;
    let renewed = app.database.store.renew(&claimed.lease.renewal(), TTL).await.expect("the lease is good");
    assert!(!renewed.is_cancel_requested);
    finish(&app.database.store, &claimed, completed("Hi.")).await;
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    assert_eq!(messages["data"][1]["content"], "Hi.");
    let id = thread.parse().expect("an id");
    assert!(!app.database.store.hub().is_watched(&id), "nobody is left reading");
}

#[tokio::test]
async fn a_silent_stream_shows_signs_of_life() {
    let app = App::start_with(|settings| settings.heartbeat = std::time::Duration::from_millis(10)).await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    reader.until(": ping\n\n: ping\n\n").await;
    work_off(&app.database.store, "done").await;
    let text = reader.rest().await;
    assert_eq!(names(&text).last().expect("events"), "stream.completed");
}

#[tokio::test]
async fn what_a_message_asks_for_reaches_its_run() {
    let app = App::start().await;
    let thread = app.thread().await;
    let body = json!({
        "content": "Look", "executionContent": "Look closely", "messageMetadata": {"a": [1]},
        "agentConfig": {"model": "claude-x", "instructions": "Be brief.", "reasoningEffort": "low"},
        "reasoningEffort": "high", "envVars": {"A": "1"}, "internetAccess": false, "enabledSkills": ["web_search"],
        "quotedSelection": {"text": "a\nb", "sourceType": "run_summary"}, "persistFileChanges": true,
        "queueWhenCapacityUnavailable": true, "mcpServers": [], "knowledgeContext": {"enabled": false},
        "attachments": [], "secrets": [], "stream": false, "somethingNew": 1
    });
    app.post(&format!("/threads/{thread}/messages"), body).await.ok();
    let mut claimed = claim(&app.database.store).await;
    let key = claimed.run.options.key_id.take().expect("it is known who asked");
    assert!(key.as_str().starts_with("key_"), "{key}");
    insta::assert_json_snapshot!(claimed.run.options);
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    assert_eq!(messages["data"][0]["content"], "Look");
    assert_eq!(messages["data"][0]["metadata"], json!({"a": [1]}));
    let compact = app.get(&format!("/threads/{thread}/messages?compact=1")).await.ok();
    assert_eq!(compact["data"][0]["metadata"], Value::Null);
}
