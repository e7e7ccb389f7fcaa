//! Lists of threads and messages, and what belongs to whom.

use axum::http::Method;
use serde_json::{Value, json};

use super::*;

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().expect("a list").iter().map(|thread| thread["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn threads_are_listed_newest_first_and_filtered() {
    let app = App::start().await;
    let agent = app.post("/agents", json!({"name": "A", "model": "m"})).await.ok();
    let agent = agent["agent"]["id"].as_str().expect("an id");
    let first = app.thread().await;
    let second = app.post("/threads", json!({"agentId": agent, "appId": "app"})).await.ok();
    let second = second["thread"]["id"].as_str().expect("an id").to_owned();
    let running = app.post("/threads", json!({"content": "x", "stream": false})).await.ok();
    let third = running["thread"]["id"].as_str().expect("an id").to_owned();
    let environment = running["thread"]["environmentId"].as_str().expect("an id");
    let project = app.database.project.clone();
    let created_at = running["thread"]["createdAt"].as_str().expect("a time");
    let all: &[&str] = &[&third, &second, &first];
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), all),
        ("limit=1&offset=1".into(), &all[1..2]),
        (format!("agentId={agent}"), &all[1..2]),
        ("appId=app".into(), &all[1..2]),
        ("appId=other".into(), &[]),
        (format!("environmentId={environment}"), all),
        ("environmentId=env_other".into(), &[]),
        ("status=running".into(), &all[..1]),
        ("status=active".into(), &all[1..]),
        ("status=all".into(), all),
        ("status=deleted".into(), &[]),
        (format!("projectId={project}"), all),
        ("projectId=none".into(), &[]),
        ("projectId=proj_other".into(), &[]),
        ("scheduleId=sched_1".into(), &[]),
        ("createdAfter=2020-01-01".into(), all),
        ("createdAfter=2020-01-01T00:00:00%2B02:00".into(), all),
        ("createdAfter=2999-01-01T00:00:00Z".into(), &[]),
        (format!("createdAfter={created_at}"), &all[..1]),
    ];
    for (query, expected) in cases {
        let list = app.get(&format!("/threads?{query}")).await.ok();
        assert_eq!(ids(&list), expected, "{query}");
    }
    let part = app.get("/threads?limit=2").await.ok();
    assert_eq!((&part["has_more"], &part["total_count"], &part["object"]), (&json!(true), &json!(3), &json!("list")));
    for bad in [
        "status=asleep",
        "createdAfter=yesterday",
        "createdAfter=-9999-01-01",
        "createdAfter=%2B262142-01-01T00:00:00Z",
        "limit=-1",
        "offset=x",
    ] {
        app.get(&format!("/threads?{bad}")).await.failed(400);
    }
}

#[tokio::test]
async fn messages_are_listed_from_either_end() {
    let app = App::start().await;
    let thread = app.thread().await;
    let reader = app.send_message(&thread, "Hello").await;
    work_off(&app.database.store, "Hi.").await;
    reader.rest().await;
    let path = format!("/threads/{thread}/messages");
    let roles = |list: &Value| -> Vec<String> {
        list["data"].as_array().expect("a list").iter().map(|message| message["role"].to_string()).collect()
    };
    assert_eq!(roles(&app.get(&path).await.ok()), ["\"user\"", "\"assistant\""]);
    assert_eq!(roles(&app.get(&format!("{path}?order=desc")).await.ok()), ["\"assistant\"", "\"user\""]);
    let part = app.get(&format!("{path}?limit=1")).await.ok();
    assert_eq!((&part["has_more"], &part["total_count"]), (&json!(true), &json!(2)));
    let message = &part["data"][0];
    assert_eq!(message["timestamp"], message["createdAt"]);
    app.get(&format!("{path}?order=random")).await.failed(400);
}

#[tokio::test]
async fn runs_are_listed_from_either_end() {
    let app = App::start().await;
    let thread = app.thread().await;
    for id in ["one", "two", "three"] {
        let body = json!({"content": "x", "stream": false, "runId": id});
        app.post(&format!("/threads/{thread}/messages"), body).await.ok();
        if id != "three" {
            work_off(&app.database.store, "done").await;
        }
    }
    let path = format!("/threads/{thread}/runs");
    assert_eq!(ids(&app.get(&path).await.ok()), ["three", "two", "one"]);
    assert_eq!(ids(&app.get(&format!("{path}?order=asc&limit=2")).await.ok()), ["one", "two"]);
    assert_eq!(ids(&app.get(&format!("{path}?status=queued")).await.ok()), ["three"]);
    assert_eq!(ids(&app.get(&format!("{path}?kind=message&offset=2")).await.ok()), ["one"]);
    assert!(ids(&app.get(&format!("{path}?kind=compact")).await.ok()).is_empty());
    app.get(&format!("{path}?kind=other")).await.failed(400);
    app.get(&format!("{path}?status=success")).await.failed(400);
}

#[tokio::test]
async fn a_thread_of_another_project_is_nowhere() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let (_, key) = app.another_project().await;
    let routes = [
        (Method::GET, "", Value::Null),
        (Method::PATCH, "", json!({"title": "Mine"})),
        (Method::DELETE, "", Value::Null),
        (Method::GET, "/messages", Value::Null),
        (Method::POST, "/messages", json!({"content": "x"})),
        (Method::POST, "/cancel", json!({})),
        (Method::GET, "/status", Value::Null),
        (Method::GET, "/events", Value::Null),
        (Method::GET, "/events?stream=true", Value::Null),
        (Method::GET, "/runs", Value::Null),
    ];
    for (method, path, body) in &routes {
        for mount in ["", "/v1"] {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let uri = format!("{mount}/threads/{thread}{path}");
            let reply = app.call_with(&key, method.clone(), &uri, body.clone()).await;
            assert_eq!(reply.failed(404), format!("Thread {thread} not found"), "{method} {uri}");
            let missing =
                app.call(method.clone(), &format!("{mount}/threads/thread_nonexistent_12345{path}"), body).await;
            assert_eq!(missing.failed(404), "Thread thread_nonexistent_12345 not found", "{method} {path}");
        }
    }
    let listed = app.call_with(&key, Method::GET, "/threads", "").await.ok();
    assert_eq!(listed["total_count"], 0);
    let shown = app.get(&format!("/threads/{thread}")).await.ok();
    assert_eq!(shown["thread"]["status"], "running", "nothing has reached it");
    // Nor can one be made of another project's parts.
    let environment = app.environment().await;
    let made = app.call_with(&key, Method::POST, "/threads", json!({"environmentId": environment}).to_string()).await;
    assert_eq!(made.failed(404), format!("Environment {environment} not found"));
}

#[tokio::test]
async fn a_thread_shows_its_newest_thousand_messages() {
    let app = App::start().await;
    let thread = app.thread().await;
    let pool = app.database.pool().await;
    for sql in [
        "insert into messages (id, thread_id, position, role, content)
         select 'msg_' || n, $1, n, 'user', n::text from generate_series(0, 1199) n",
        "update threads set message_count = 1200 where id = $1",
    ] {
        sqlx::query(sql).bind(&thread).execute(&pool).await.expect("writes");
    }
    let read = app.get(&format!("/threads/{thread}")).await.ok();
    let messages = read["thread"]["messages"].as_array().expect("a list");
    assert_eq!((messages.len(), &read["thread"]["messageCount"]), (1000, &json!(1200)));
    assert_eq!((&messages[0]["content"], &messages[999]["content"]), (&json!("200"), &json!("1199")));
}

#[tokio::test]
async fn metadata_belongs_to_the_message_that_is_sent() {
    let app = App::start().await;
    let before = json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]);
    let body = json!({"messages": before, "content": "three", "messageMetadata": {"k": 1}, "stream": false});
    let made = app.post("/threads", body).await.ok();
    let thread = made["thread"]["id"].as_str().expect("an id");
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    let metadata: Vec<_> = messages["data"].as_array().expect("a list").iter().map(|m| m["metadata"].clone()).collect();
    assert_eq!(json!(metadata), json!([null, null, {"k": 1}]));
}
