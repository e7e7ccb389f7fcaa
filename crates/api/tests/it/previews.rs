//! Previews as rows: made, listed, revoked, and nobody else's. What they open is tested where they are opened.

use axum::http::Method;
use serde_json::{Value, json};

use crate::app::{App, redacted};

#[tokio::test]
async fn a_preview_is_shown_with_its_links_once() {
    let app = App::start().await;
    let path = format!("/environments/{}/previews", app.environment().await);
    let made = app.post(&path, json!({"port": 5000, "name": "web", "expiresIn": 60, "rewriteHost": true})).await;
    assert_eq!(made.status, 201);
    let preview = &made.ok()["preview"];
    let id = preview["id"].as_str().expect("an id").to_owned();
    let label = id.replace('_', "-");
    let url = preview["url"].as_str().expect("a link");
    let token = url.strip_prefix(&format!("http://{label}.localhost:8081/?atelier_preview=")).expect("its own name");
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    assert_eq!(preview["toolUrl"], format!("http://localhost:8081/{label}/{token}/"));
    let list = app.get(&path).await;
    assert!(!list.text().contains(token));
    let mut shown = redacted(list.ok()["data"][0].clone());
    shown["origin"] = shown["origin"].as_str().map(|origin| origin.replace(&label, "[label]")).into();
    assert_eq!(
        shown,
        json!({
            "id": "preview_[id]", "environmentId": "env_[id]", "port": 5000, "name": "web", "rewriteHost": true,
            "origin": "http://[label].localhost:8081", "createdAt": "[time]", "expiresAt": "[time]",
        })
    );
    let rows: Vec<(String,)> = sqlx::query_as("select previews::text from previews")
        .fetch_all(&app.database.pool().await)
        .await
        .expect("rows");
    assert!(rows.len() == 1 && !rows[0].0.contains(token), "the token itself is not kept");

    assert_eq!(app.delete(&format!("{path}/{id}")).await.ok()["previewId"], id);
    app.delete(&format!("{path}/{id}")).await.failed(404);
    assert_eq!(app.get(&path).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_a_preview_is_refused() {
    let app = App::start().await;
    let path = format!("/environments/{}/previews", app.environment().await);
    for (body, field) in [
        (json!({}), "port"),
        (json!({"port": 0}), "port"),
        (json!({"port": 65536}), "port"),
        (json!({"port": -1}), "port"),
        (json!({"port": "5000"}), "port"),
        (json!({"port": 1, "expiresIn": 0}), "expiresIn"),
        (json!({"port": 1, "expiresIn": -5}), "expiresIn"),
        (json!({"port": 1, "expiresIn": 30 * 24 * 3600 + 1}), "expiresIn"),
        (json!({"port": 1, "name": " "}), "name"),
    ] {
        let message = app.post(&path, body.clone()).await.failed(400);
        assert!(message.contains(field), "{body}: {message}");
    }
    assert_eq!(app.get(&path).await.ok()["total_count"], 0);
}

#[tokio::test]
async fn previews_and_ports_of_another_project_are_not_found() {
    let app = App::start().await;
    let path = format!("/environments/{}", app.environment().await);
    let made = app.post(&format!("{path}/previews"), json!({"port": 5000})).await.ok();
    let id = made["preview"]["id"].as_str().expect("an id").to_owned();
    let (_, other) = app.another_project().await;
    for (method, path) in [
        (Method::GET, format!("{path}/ports")),
        (Method::GET, format!("{path}/previews")),
        (Method::POST, format!("{path}/previews")),
        (Method::DELETE, format!("{path}/previews/{id}")),
    ] {
        app.call_with(&other, method, &path, json!({"port": 5000}).to_string()).await.failed(404);
    }
    // Nor by way of an environment of one's own.
    let own = app.call_with(&other, Method::GET, "/environments/default", "").await.ok()["id"].clone();
    let crossed = format!("/environments/{}/previews/{id}", own.as_str().expect("an id"));
    app.call_with(&other, Method::DELETE, &crossed, "").await.failed(404);
    assert_eq!(app.get(&format!("{path}/previews")).await.ok()["total_count"], 1);
    let ports: Value = app.get(&format!("{path}/ports")).await.ok();
    assert_eq!(ports["data"], json!([]));
    assert_eq!(app.get(&format!("{path}/status")).await.ok()["ports"], json!([]));
}
