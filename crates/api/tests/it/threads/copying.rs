//! Copies and forks of threads.

use serde_json::{Value, json};
use store::leases::Checkpoint;

use super::*;

/// Answers the one run that is there, with a transcript as the executor writes it.
async fn answer(store: &Store, is_first: bool, asked: &str, content: &str) {
    let mut claimed = claim(store).await;
    let mut transcript = Vec::new();
    if is_first {
        transcript.push(("system", r#"["Be  brief."]"#.to_owned()));
    }
    transcript.push(("user", format!(r#"[{{"type":"text", "text":"{asked}"}}]"#)));
    transcript.push(("assistant", format!(r#"[{{"text":"{content}","type":"text" }}]"#)));
    let checkpoint = Checkpoint { transcript, ..Checkpoint::default() };
    store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("the lease is good");
    finish(store, &claimed, completed(content)).await;
}

async fn conversation(app: &App) -> String {
    let body = json!({"title": "Talk", "content": "one", "stream": false, "metadata": {"a": 1}, "appId": "app"});
    let made = app.post("/threads", body).await.ok();
    let thread = made["thread"]["id"].as_str().expect("an id").to_owned();
    answer(&app.database.store, true, "one", "first").await;
    for (asked, content) in [("two", "second"), ("three", "third")] {
        let body = json!({"content": asked, "stream": false});
        app.post(&format!("/threads/{thread}/messages"), body).await.ok();
        answer(&app.database.store, false, asked, content).await;
    }
    thread
}

async fn transcript(app: &App, thread: &Value) -> Vec<(String, String, String)> {
    let id = thread["id"].as_str().expect("an id").parse().expect("an id");
    let entries = app.database.store.load_transcript(&id).await.expect("reads");
    entries.into_iter().map(|entry| (entry.run_id.to_string(), entry.role, entry.blocks)).collect()
}

async fn contents(app: &App, thread: &Value) -> Vec<String> {
    let list = app.get(&format!("/threads/{}/messages", thread["id"].as_str().expect("an id"))).await.ok();
    let messages = list["data"].as_array().expect("a list");
    messages.iter().map(|message| message["content"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn a_copy_has_the_whole_history_byte_for_byte() {
    let app = App::start().await;
    let thread = conversation(&app).await;
    let original = app.get(&format!("/threads/{thread}")).await.ok()["thread"].clone();
    let reply = app.call(Method::POST, &format!("/threads/{thread}/copy"), "").await;
    assert_eq!(reply.status, StatusCode::OK);
    let copied = reply.ok();
    let copy = &copied["thread"];
    assert_ne!(copy["id"], original["id"]);
    assert_eq!(
        (&copy["title"], &copy["status"], &copy["messageCount"]),
        (&json!("Talk Copy"), &json!("completed"), &json!(6))
    );
    for same in ["environmentId", "agentId", "appId", "metadata", "task", "lastMessagePreview"] {
        assert_eq!(copy[same], original[same], "{same}");
    }
    assert_eq!((&copy["totalTokens"], &copy["totalCost"]), (&json!(0), &json!(0.0)), "a copy has cost nothing");
    assert_eq!((&copied["messagesCopied"], &copied["forkMode"]), (&json!(6), &json!("current_environment")));
    assert_eq!(transcript(&app, copy).await, transcript(&app, &original).await);
    assert_eq!(contents(&app, copy).await, contents(&app, &original).await);
    let page = app.get(&format!("/threads/{}/messages?limit=1", copy["id"].as_str().expect("an id"))).await.ok();
    let first = &page["data"][0];
    assert_ne!(first["id"], original["messages"][0]["id"]);
    for same in ["runId", "createdAt", "role"] {
        assert_eq!(first[same], original["messages"][0][same], "{same}");
    }

    // Both go on, each for itself.
    for id in [&copy["id"], &original["id"]] {
        let path = format!("/threads/{}/messages", id.as_str().expect("an id"));
        app.post(&path, json!({"content": "four", "stream": false})).await.ok();
        answer(&app.database.store, false, "four", "fourth").await;
    }
    assert_eq!(contents(&app, copy).await.len(), 8);
    assert_eq!(transcript(&app, copy).await.len(), 9);
    // The copy of a copy, and taking it back, know the runs that were copied.
    let path = format!("/threads/{}", copy["id"].as_str().expect("an id"));
    let again = app.post(&format!("{path}/copy"), json!({"truncateAtMessageIndex": 2})).await.ok();
    assert_eq!(contents(&app, &again["thread"]).await, ["one", "first"]);
    assert_eq!(transcript(&app, &again["thread"]).await.len(), 3);
    app.post(&format!("{path}/messages"), json!({"content": "2", "truncateAtMessageIndex": 2, "stream": false}))
        .await
        .ok();
    assert_eq!(contents(&app, copy).await, ["one", "first", "2"]);
    assert_eq!(transcript(&app, copy).await.len(), 3);
}

#[tokio::test]
async fn a_fork_has_what_was_before_the_message() {
    let app = App::start().await;
    let thread = conversation(&app).await;
    let path = format!("/threads/{thread}/fork-from-message");
    for (index, messages, entries) in [(0, 0, 0), (2, 2, 3), (4, 4, 5)] {
        let reply = app.post(&path, json!({"truncateAtMessageIndex": index, "title": "Fork"})).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        let fork = reply.ok();
        assert_eq!((&fork["thread"]["title"], &fork["messagesCopied"]), (&json!("Fork"), &json!(messages)), "{index}");
        assert_eq!(transcript(&app, &fork["thread"]).await.len(), entries, "{index}");
    }
    // A copy may end behind a question: the model has it, and not the answer.
    let body = json!({"truncateAtMessageIndex": 3});
    let copy = app.post(&format!("/threads/{thread}/copy"), body).await.ok();
    assert_eq!(contents(&app, &copy["thread"]).await, ["one", "first", "two"]);
    let kept = transcript(&app, &copy["thread"]).await;
    assert_eq!(kept.last().map(|entry| entry.1.as_str()), Some("user"));
    assert_eq!(kept.len(), 4);
    for (bad, status) in [
        (json!({}), 400),
        (json!({"truncateAtMessageIndex": 1}), 400),
        (json!({"truncateAtMessageIndex": 6}), 400),
        (json!({"truncateAtMessageIndex": -1}), 400),
        (json!({"truncateAtMessageIndex": 2, "title": "x".repeat(501)}), 400),
        (json!({"truncateAtMessageIndex": 2, "environmentTarget": "elsewhere"}), 400),
        (json!({"truncateAtMessageIndex": 2, "fileCopyMode": "some"}), 400),
        (json!({"truncateAtMessageIndex": 2, "targetEnvironmentId": "env_other"}), 404),
        (json!({"truncateAtMessageIndex": 1, "environmentTarget": "new_forked_environment"}), 400),
        (json!({"truncateAtMessageIndex": 9, "targetEnvironmentId": "env_other", "fileCopyMode": "all"}), 404),
    ] {
        app.post(&path, bad.clone()).await.failed(status);
    }
    assert_eq!(app.get("/threads").await.ok()["total_count"], 5, "what was refused left nothing");
    assert_eq!(app.get("/environments").await.ok()["total_count"], 1, "no environment either");
}

#[tokio::test]
async fn a_run_under_way_is_left_out() {
    let app = App::start().await;
    let thread = conversation(&app).await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "now", "stream": false})).await.ok();
    let copy = app.post(&format!("/threads/{thread}/copy"), json!({})).await.ok();
    assert_eq!(contents(&app, &copy["thread"]).await.len(), 6);
    assert_eq!(copy["thread"]["status"], "completed");
    let fork = json!({"truncateAtMessageIndex": 6});
    let fork = app.post(&format!("/threads/{thread}/fork-from-message"), fork).await.ok();
    assert_eq!(fork["messagesCopied"], 6);
}

#[tokio::test]
async fn a_copy_may_work_in_another_environment_without_the_files() {
    let app = App::start().await;
    let thread = conversation(&app).await;
    let path = format!("/threads/{thread}/copy");
    let other = app.post("/environments", json!({"name": "Other"})).await.ok();
    let other = &other["environment"]["id"];
    for mode in [json!(null), json!("none")] {
        let body =
            json!({"environmentTarget": "existing_environment", "targetEnvironmentId": other, "fileCopyMode": mode});
        let reply = app.post(&path, body).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        let copied = reply.ok();
        assert_eq!((&copied["environmentId"], &copied["thread"]["environmentId"]), (other, other));
        assert_eq!(
            (&copied["environmentName"], &copied["forkMode"]),
            (&json!("Other"), &json!("existing_environment"))
        );
    }
    let body = json!({"environmentStrategy": "forked_environment", "fileCopyMode": "none", "environmentName": "Fresh"});
    let copied = app.post(&path, body).await.ok();
    assert_eq!((&copied["environmentName"], &copied["forkMode"]), (&json!("Fresh"), &json!("latest")));
    let current = app.get(&format!("/threads/{thread}")).await.ok()["thread"]["environmentId"].clone();
    let body = json!({"targetEnvironmentId": current, "fileCopyMode": "all"});
    assert_eq!(app.post(&path, body).await.ok()["forkMode"], "current_environment", "the files are there already");
}
