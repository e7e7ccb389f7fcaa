//! Changing and deleting threads.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_change_leaves_what_is_absent_and_clears_what_is_null() {
    let app = App::start().await;
    let made = app.post("/threads", json!({"title": "Old", "appId": "app", "metadata": {"a": 1}})).await.ok();
    let path = format!("/threads/{}", made["thread"]["id"].as_str().expect("an id"));
    let changed = app.patch(&path, json!({"title": "New", "appId": null, "unknown": 1})).await.ok();
    let thread = &changed["thread"];
    assert_eq!(
        (&thread["title"], &thread["appId"], &thread["metadata"]),
        (&json!("New"), &Value::Null, &json!({"a": 1}))
    );
    let changed = app.patch(&path, json!({"status": "archived", "metadata": null, "task": "t"})).await.ok();
    let thread = &changed["thread"];
    assert_eq!(
        (&thread["status"], &thread["metadata"], &thread["task"]),
        (&json!("archived"), &Value::Null, &json!("t"))
    );
    assert_eq!(app.patch(&path, json!({})).await.ok()["thread"]["title"], "New");
    let project = app.database.project.clone();
    app.patch(&path, json!({"projectId": project})).await.ok();
    for (bad, status) in [
        (json!({"status": "running"}), 400),
        (json!({"status": "asleep"}), 400),
        (json!({"status": null}), 400),
        (json!({"environmentId": null}), 400),
        (json!({"environmentId": "env_other"}), 404),
        (json!({"agentId": "agent_other"}), 404),
        (json!({"projectId": "proj_other"}), 404),
        (json!({"title": 5}), 400),
        (json!({"title": "x".repeat(501)}), 400),
    ] {
        app.patch(&path, bad.clone()).await.failed(status);
    }
    assert_eq!(app.get(&path).await.ok()["thread"]["status"], "archived", "refused changes change nothing");
}

#[tokio::test]
async fn a_run_under_way_stays_in_its_environment() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let settings = domain::environment::EnvironmentSettings::default();
    let new =
        store::environments::NewEnvironment { name: "other".into(), settings, secrets: Vec::new(), is_default: false };
    let other = app.database.store.create_environment(&app.database.project, new).await.expect("an environment").id;
    let path = format!("/threads/{thread}");
    app.patch(&path, json!({"environmentId": other, "title": "Moved"})).await.failed(409);
    app.patch(&path, json!({"status": "completed"})).await.failed(400);
    assert_eq!(app.get(&path).await.ok()["thread"]["title"], "x", "nothing of a refused change is kept");
    app.patch(&path, json!({"title": "While it runs"})).await.ok();
    work_off(&app.database.store, "done").await;
    let moved = app.patch(&path, json!({"environmentId": other})).await.ok();
    assert_eq!(moved["thread"]["environmentId"], json!(other));
    assert_eq!(moved["thread"]["environmentName"], "other");
}

#[tokio::test]
async fn a_deleted_thread_is_gone_and_its_run_is_asked_to_stop() {
    let app = App::start().await;
    let thread = app.thread().await;
    let mut reader = app.send_message(&thread, "Hello").await;
    let claimed = claim(&app.database.store).await;
    reader.until("response.started").await;
    let deleted = app.delete(&format!("/threads/{thread}")).await.ok();
    assert_eq!(
        (&deleted["deleted"], &deleted["success"], &deleted["threadId"]),
        (&json!(true), &json!(true), &json!(thread))
    );
    for path in ["", "/messages", "/status", "/events", "/runs"] {
        app.get(&format!("/threads/{thread}{path}")).await.failed(404);
    }
    app.delete(&format!("/threads/{thread}")).await.failed(404);
    assert_eq!(app.get("/threads").await.ok()["total_count"], 0);
    let renewed = app.database.store.renew(&claimed.lease.renewal(), TTL).await.expect("the lease is good");
    assert!(renewed.is_cancel_requested);
    finish(&app.database.store, &claimed, Outcome::Cancelled).await;
    assert_eq!(names(&reader.rest().await).last().expect("events"), "stream.completed");
}
