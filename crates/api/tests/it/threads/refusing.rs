//! What is not acceptable is refused with a sentence, before anything is written.

use axum::http::Method;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_thread_needs_an_environment_that_is_there() {
    let app = App::start().await;
    for id in [json!(""), json!(" "), json!(5), json!({})] {
        for name in ["environmentId", "computerId"] {
            let reply = app.post("/threads", json!({name: id})).await;
            assert_eq!(reply.failed(400), "Missing required field: environmentId");
        }
    }
    let default = app.environment().await;
    for absent in [json!({}), json!({"environmentId": null}), json!({"computerId": default}), json!({"messages": []})] {
        let made = app.post("/threads", absent).await;
        assert_eq!(made.status, 201);
        assert_eq!(made.ok()["thread"]["environmentId"], json!(default));
    }
    assert_eq!(app.call(Method::POST, "/threads", "").await.ok()["thread"]["status"], "active", "an empty body");
    for (body, message) in [
        (json!({"environmentId": "env_nonexistent_12345"}), "Environment env_nonexistent_12345 not found"),
        (json!({"environmentId": "a/b", "content": "x"}), "Environment a/b not found"),
        (json!({"agentId": "agent_1", "content": "x"}), "Agent agent_1 not found"),
        (json!({"projectId": "proj_1"}), "Project proj_1 not found"),
    ] {
        assert_eq!(app.post("/threads", body).await.failed(404), message);
    }
}

#[tokio::test]
async fn a_message_must_say_something_in_words() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    for (body, message) in [
        (json!({}), "Missing required field: content"),
        (json!({"content": null}), "Missing required field: content"),
        (json!({"content": ""}), "content: must not be empty"),
        (json!({"task": " \n"}), "task: must not be empty"),
        (json!({"content": "x", "executionContent": ""}), "executionContent: must not be empty"),
        (json!({"content": "x".repeat(4 * 1024 * 1024 + 1)}), "content: must have at most 4194304 bytes"),
        (
            json!({"content": "x", "runId": "a b"}),
            "runId: an id has 1 to 128 characters out of A-Z, a-z, 0-9, '_' and '-'",
        ),
    ] {
        assert_eq!(app.post(&path, body).await.failed(400), message);
    }
    for body in [
        json!({"content": 5}),
        json!({"content": ["x"]}),
        json!({"content": "x", "envVars": {"A": 1}}),
        json!({"content": "x", "envVars": {"A=B": "1"}}),
        json!({"content": "x", "reasoningEffort": "huge"}),
        json!({"content": "x", "stream": "no"}),
        json!({"content": "x\u{0}"}),
    ] {
        app.post(&path, body.clone()).await.failed(400);
    }
    for body in [
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
        json!({"messages": [{"role": "robot", "content": "a"}]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": "hello"}),
        json!({"content": "x", "title": 1}),
    ] {
        app.post("/threads", body.clone()).await.failed(400);
    }
    assert_eq!(app.get(&path).await.ok()["total_count"], 0);
    assert_eq!(app.get("/threads").await.ok()["total_count"], 1, "nothing was made");
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "active");
}

#[tokio::test]
async fn what_is_not_supported_yet_is_said_and_not_ignored() {
    let app = App::start().await;
    let thread = app.thread().await;
    for field in [json!({"knowledgeContext": {"enabled": true}}), json!({"permissionMode": "plan"})] {
        let mut body = json!({"content": "x"});
        body.as_object_mut().expect("an object").extend(field.as_object().expect("an object").clone());
        for path in ["/threads", &format!("/threads/{thread}/messages")] {
            let reply = app.post(path, body.clone()).await;
            assert!(reply.failed(501).ends_with("is not supported yet"), "{field}");
            assert_eq!(reply.json()["code"], "NOT_IMPLEMENTED");
        }
    }
    let scheduled = json!({"schedule": {"cronExpression": "0 9 * * *"}});
    app.post("/threads", scheduled).await.failed(501);
    assert_eq!(app.get("/threads").await.ok()["total_count"], 1, "nothing was made");
    let pool = app.database.pool().await;
    let kept: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&pool).await.expect("reads");
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn a_run_id_is_taken_once() {
    let app = App::start().await;
    let (first, second) = (app.thread().await, app.thread().await);
    let body = json!({"content": "x", "runId": "mine", "stream": false});
    app.post(&format!("/threads/{first}/messages"), body.clone()).await.ok();
    let taken = app.post(&format!("/threads/{second}/messages"), body).await;
    assert_eq!(taken.failed(409), "a run with the id mine exists already");
    assert_eq!(app.get(&format!("/threads/{second}/status")).await.ok()["status"], "active");
}

#[tokio::test]
async fn a_thread_whose_environment_was_deleted_says_what_to_do() {
    let app = App::start().await;
    let thread = app.thread().await;
    let environment = app.environment().await;
    let pool = app.database.pool().await;
    sqlx::query("update environments set deleted_at = now() where id = $1")
        .bind(environment.as_str())
        .execute(&pool)
        .await
        .expect("deletes");
    let refused = app.post(&format!("/threads/{thread}/messages"), json!({"content": "x"})).await;
    assert!(refused.failed(400).contains("environmentId"), "{:?}", refused.json());
    let shown: Value = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!(shown["thread"]["environmentId"], json!(environment));
}
