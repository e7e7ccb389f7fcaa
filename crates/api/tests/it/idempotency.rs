//! Any POST that is sent again with its `Idempotency-Key`.

use std::{collections::HashSet, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use futures::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::app::{App, Reply};

impl App {
    async fn post_keyed(&self, key: &str, path: &str, body: &Value) -> Reply {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header("idempotency-key", key)
            .body(Body::from(body.to_string()))
            .expect("a valid request");
        self.send(request).await
    }

    async fn agents(&self) -> i64 {
        self.get("/agents?limit=0").await.ok()["total_count"].as_i64().expect("a number")
    }
}

#[tokio::test]
async fn a_repeated_post_is_answered_as_before_and_does_nothing() {
    let app = App::start().await;
    let body = json!({"name": "One", "model": "claude-sonnet-4-5"});
    let first = app.post_keyed("k", "/agents", &body).await;
    let before = app.agents().await;
    // Written in another order and sent to the other mount.
    let again = app.post_keyed(" k ", "/v1/agents", &json!({"model": "claude-sonnet-4-5", "name": "One"})).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("content-type"), first.header("content-type"));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(app.agents().await, before);

    let other = app.post_keyed("k", "/agents", &json!({"name": "Two", "model": "claude-sonnet-4-5"})).await;
    other.failed(409);
    assert_eq!(other.json()["code"], "key_reused");
    app.post_keyed("k", "/environments", &body).await.failed(409);
    app.post_keyed("k", "/threads", &json!({})).await.failed(409);
    app.post_keyed("t", "/threads", &json!({})).await.ok();
    app.post_keyed("t", "/agents", &body).await.failed(409);
    assert_eq!(app.agents().await, before);

    let (_, foreign) = app.another_project().await;
    let theirs = App {
        key: foreign,
        router: app.router.clone(),
        api: app.api.clone(),
        sandboxes: app.sandboxes.clone(),
        database: app.database,
    };
    theirs.post_keyed("k", "/agents", &json!({"name": "Three", "model": "claude-sonnet-4-5"})).await.ok();
}

#[tokio::test]
async fn a_refusal_is_repeated_too_and_a_failure_frees_its_key() {
    let app = App::start().await;
    let refused = app.post_keyed("k", "/agents", &json!({"model": "m"})).await;
    assert_eq!(app.post_keyed("k", "/agents", &json!({"model": "m"})).await.body, refused.body);
    refused.failed(400);

    let pool = app.database.pool().await;
    sqlx::query("alter table agents rename to away").execute(&pool).await.expect("renames");
    let body = json!({"name": "One", "model": "claude-sonnet-4-5"});
    app.post_keyed("failing", "/agents", &body).await.failed(500);
    sqlx::query("alter table away rename to agents").execute(&pool).await.expect("renames");
    app.post_keyed("failing", "/agents", &body).await.ok();
}

#[tokio::test]
async fn a_request_whose_server_died_in_the_middle_is_not_done_again() {
    let app = App::start().await;
    let body = json!({"name": "One", "model": "claude-sonnet-4-5"});
    app.post_keyed("k", "/agents", &body).await.ok();
    let pool = app.database.pool().await;
    // As a server that died before it kept the answer would have left it.
    let sql = "update idempotent_responses set status = null, body = null, claimed_until = now() - interval '1 second'";
    sqlx::query(sql).execute(&pool).await.expect("updates");
    let lost = app.post_keyed("k", "/agents", &body).await;
    lost.failed(409);
    assert_eq!(lost.json()["code"], "outcome_unknown");

    let before = app.agents().await;
    sqlx::query("update idempotent_responses set created_at = created_at - interval '1 day'")
        .execute(&pool)
        .await
        .expect("updates");
    assert_eq!(app.database.store.sweep_requests(100).await.expect("sweeps"), 1);
    app.post_keyed("k", "/agents", &body).await.ok();
    assert_eq!(app.agents().await, before + 1, "after a day the key is a new one");
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_the_answer_when_it_asks_again() {
    let app = App::start().await;
    let before = app.agents().await;
    let body = json!({"name": "One", "model": "claude-sonnet-4-5"});
    let mut asked = 0;
    // Cut at ever later moments; a request that was begun is carried out all the same.
    for micros in (0..40).map(|n| n * 250) {
        let key = format!("k{micros}");
        let cut = tokio::time::timeout(Duration::from_micros(micros), app.post_keyed(&key, "/agents", &body)).await;
        drop(cut);
        app.post_keyed(&key, "/agents", &body).await.ok();
        asked += 1;
    }
    assert_eq!(app.agents().await, before + asked);
}

/// Many requests, half of them sent eight times at once: each has one effect and one answer.
#[tokio::test]
async fn thousands_of_requests_with_racing_retries_have_one_effect_each() {
    const REQUESTS: usize = 1_000;
    let app = App::start_with(|settings| settings.requests_per_window = 0).await;
    let before = app.agents().await;
    let began = std::time::Instant::now();
    let results: Vec<(usize, bool, String)> = stream::iter(0..REQUESTS)
        .map(|n| {
            let app = &app;
            async move {
                let body = json!({"name": format!("agent {n}"), "model": "claude-sonnet-4-5"});
                let key = format!("key-{n}");
                let copies = if n % 2 == 0 { 8 } else { 1 };
                let replies = join_all((0..copies).map(|_| app.post_keyed(&key, "/agents", &body))).await;
                let bodies: HashSet<_> = replies.iter().map(|reply| reply.body.clone()).collect();
                let made = replies[0].ok()["agent"]["name"].as_str().expect("a name").to_owned();
                (copies, bodies.len() == 1 && replies.iter().all(|reply| reply.status == replies[0].status), made)
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let sent: usize = results.iter().map(|(copies, ..)| copies).sum();
    let different = results.iter().filter(|(_, is_same, _)| !is_same).count();
    let names: HashSet<_> = results.iter().map(|(.., name)| name).collect();
    let effects = app.agents().await - before;
    println!(
        "{}",
        json!({
            "test": "R16", "requests": REQUESTS, "sent": sent, "effects": effects,
            "doubled": effects - REQUESTS as i64, "lost": REQUESTS - names.len(), "different_answers": different,
            "seconds": began.elapsed().as_secs_f64(),
        })
    );
    assert_eq!((effects, names.len(), different), (REQUESTS as i64, REQUESTS, 0));
}
