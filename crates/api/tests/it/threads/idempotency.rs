//! A request that is repeated joins what the first one started.

use axum::http::Method;
use futures::future::join_all;
use serde_json::json;

use super::*;

#[tokio::test]
async fn a_repeated_message_joins_the_same_run() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let headers = [("idempotency-key", " key-1 ")];
    let body = json!({"content": "Hello", "messageMetadata": {"a": 1, "b": 2}});
    let first = app.open(Method::POST, &path, &headers, body.clone()).await;
    // Written in another order and sent to the other mount: still the same request.
    let again = json!({"messageMetadata": {"b": 2, "a": 1}, "content": "Hello"});
    let second = app.open(Method::POST, &format!("/v1{path}"), &[("idempotency-key", "key-1")], again).await;
    work_off(&app.database.store, "done").await;
    let text = first.rest().await;
    assert_eq!(second.rest().await, text);
    let late = app.open(Method::POST, &path, &headers, body.clone()).await;
    assert_eq!(late.rest().await, text, "also after the run");
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok()["total_count"], 1);

    let other = app.open(Method::POST, &path, &headers, json!({"content": "Something else"})).await;
    assert_eq!(other.status, 409);
    let elsewhere = format!("/threads/{}/messages", app.thread().await);
    let other = app.open(Method::POST, &elsewhere, &headers, body).await;
    assert_eq!(other.status, 409);
    let blank = app.open(Method::POST, &path, &[("idempotency-key", " ")], json!({"content": "Hello"})).await;
    assert_eq!(blank.status, 200, "a blank key is none");
}

#[tokio::test]
async fn eight_repetitions_at_once_start_one_run() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let headers = [("idempotency-key", "key-1")];
    let readers = join_all((0..8).map(|_| app.open(Method::POST, &path, &headers, json!({"content": "Hello"})))).await;
    work_off(&app.database.store, "done").await;
    let texts = join_all(readers.into_iter().map(Reader::rest)).await;
    assert!(texts.iter().all(|text| *text == texts[0] && text.contains("stream.completed")));
    assert_eq!(app.get(&format!("/threads/{thread}/runs")).await.ok()["total_count"], 1);
    assert_eq!(app.get(&format!("/threads/{thread}/messages")).await.ok()["total_count"], 2);
}

#[tokio::test]
async fn a_repeated_creation_makes_one_thread() {
    let app = App::start().await;
    for (key, body) in [("key-1", json!({"content": "Hello", "stream": false})), ("key-2", json!({"title": "Empty"}))] {
        let headers = [("idempotency-key", key)];
        let before = app.get("/threads").await.ok()["total_count"].as_i64().expect("a number");
        let made = join_all((0..4).map(|_| app.open(Method::POST, "/threads", &headers, body.clone()))).await;
        let mut threads: Vec<String> = Vec::new();
        for reader in made {
            assert_eq!(reader.status, 201);
            let made: Value = serde_json::from_str(&reader.rest().await).expect("JSON");
            threads.push(made["thread"]["id"].as_str().expect("an id").to_owned());
        }
        threads.dedup();
        assert_eq!(threads.len(), 1);
        assert_eq!(app.get("/threads").await.ok()["total_count"], before + 1);
        let other = app.open(Method::POST, "/threads", &headers, json!({"title": "Other"})).await;
        assert_eq!(other.status, 409);
    }
}
