//! API keys: what they may do, and when they open nothing.

use axum::{body::Body, http::Method};
use domain::{key::KeyKind, scope::Scopes};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::keys::NewKey;

use crate::app::{App, redacted};

/// Makes a key that may do only this.
async fn key_with(app: &App, scopes: &[&str]) -> String {
    let made = app.post("/api-keys", json!({"name": "k", "scopes": scopes})).await.ok();
    made["key"].as_str().expect("a key").to_owned()
}

fn shown(mut key: Value) -> Value {
    key["keyPrefix"] = "[prefix]".into();
    redacted(key)
}

#[tokio::test]
async fn a_key_is_made_shown_once_listed_and_revoked() {
    let app = App::start().await;
    let body = json!({
        "name": "laptop", "description": "d", "expires_in": 30, "scopes": ["threads:write", "execute", "execute"],
        "metadata": {"a": 1}, "userId": "u1", "unknown": 1,
    });
    let reply = app.post("/v1/api-keys", body).await;
    assert_eq!(reply.status, 201);
    let made = reply.ok();
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    assert!(key.starts_with("tb_") && key.len() == 67 && key.starts_with(made["keyPrefix"].as_str().expect("text")));
    assert_eq!(made["apiKey"]["id"], made["id"]);
    insta::assert_json_snapshot!(shown(made["apiKey"].clone()));

    let one = app.get(&format!("/api-keys/{id}")).await;
    assert_eq!(one.ok()["apiKey"], made["apiKey"]);
    let listed = app.get("/api-keys").await;
    assert_eq!(listed.ok()["data"], listed.ok()["apiKeys"]);
    assert_eq!(listed.ok()["total_count"], 2);
    assert_eq!(listed.ok()["data"][0], made["apiKey"]);
    for reply in [&one, &listed] {
        assert!(!reply.text().contains(key), "the key is not shown again");
    }
    app.get(&format!("/api-keys/{id}/reveal")).await.failed(410);

    app.call_with(key, Method::GET, "/threads", "").await.ok();
    let revoked = app.call(Method::POST, &format!("/api-keys/{id}/revoke"), "").await.ok();
    assert_eq!((&revoked["success"], &revoked["id"]), (&json!(true), &made["id"]));
    assert_eq!(app.call_with(key, Method::GET, "/threads", "").await.failed(401), "Invalid or missing API key");
    let seen = app.get(&format!("/api-keys/{id}")).await.ok();
    assert_eq!(seen["isActive"], false);
    assert!(seen["revokedAt"].is_string() && seen["lastUsedAt"].is_string(), "{seen}");
    assert_eq!(app.get("/api-keys?isActive=true").await.ok()["total_count"], 1);
    // Once more changes nothing.
    let again = app.call(Method::POST, &format!("/api-keys/{id}/revoke"), "").await.ok();
    assert_eq!(again["apiKey"]["revokedAt"], seen["revokedAt"]);
}

#[tokio::test]
async fn what_a_key_cannot_be_made_of_is_told() {
    let app = App::start().await;
    for (body, message) in [
        (json!({}), "Missing required field: name"),
        (json!({"name": " "}), "name: must not be blank"),
        (json!({"name": "a", "scopes": []}), "scopes: must not be empty"),
        (json!({"name": "a", "expiresIn": 0}), "expiresIn: must be above 0 and at most 36500 days"),
        (json!({"name": "a", "expiresIn": 1e300}), "expiresIn: must be above 0 and at most 36500 days"),
        (json!({"name": "a", "expiresAt": "soon"}), "expiresAt: must be a time like 2027-01-15T10:30:00Z"),
        (
            json!({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}),
            "expiresAt: must be later than now, and within 100 years",
        ),
        (
            json!({"name": "a", "keyType": "x", "prefix": "ca_"}),
            "prefix: must be tb_; keyType: must be standard or internal",
        ),
    ] {
        assert_eq!(app.post("/api-keys", body).await.failed(400), message);
    }
    let message = app.post("/api-keys", json!({"name": "a", "scopes": ["threads"]})).await.failed(400);
    assert!(message.starts_with("scopes: 'threads' is none of *, admin, read,"), "{message}");
}

#[tokio::test]
async fn a_key_gives_away_no_more_than_it_has() {
    let app = App::start().await;
    let keeper = key_with(&app, &["keys:write", "threads:read"]).await;
    let make = |body: Value| app.call_with(&keeper, Method::POST, "/api-keys", body.to_string());
    make(json!({"name": "a", "scopes": ["threads:read", "keys:read"]})).await.ok();
    for scopes in [json!(["*"]), json!(["threads:write"]), json!(["read"]), json!(["admin"]), Value::Null] {
        let message = make(json!({"name": "a", "scopes": scopes})).await.failed(403);
        assert!(message.starts_with("A key cannot give or take what it does not have itself"), "{message}");
    }
    // Nor does a key that may do everything in its project reach beyond it.
    app.post("/api-keys", json!({"name": "a", "scopes": ["admin"]})).await.failed(403);
    app.post("/api-keys", json!({"name": "a", "keyType": "internal"})).await.failed(403);
    let (other, _) = app.another_project().await;
    app.post("/api-keys", json!({"name": "a", "projectId": other})).await.failed(403);
    // Nor take away.
    let mine = app.get("/api-keys").await.ok()["data"][2]["id"].as_str().expect("an id").to_owned();
    let revoke = format!("/api-keys/{mine}/revoke");
    app.call_with(&keeper, Method::POST, &revoke, "").await.failed(403);
    app.get("/threads").await.ok();
}

#[tokio::test]
async fn every_route_wants_its_scope_and_says_so() {
    let app = App::start().await;
    let environment = app.environment().await;
    let reader = key_with(&app, &["threads:read"]).await;
    let reply = app.call_with(&reader, Method::POST, "/threads", "{}").await;
    assert_eq!(reply.failed(403), "The API key does not have the scope 'threads:write', which this needs");
    let body = reply.json();
    assert_eq!(body["code"], "insufficient_scope");
    assert_eq!(body["details"], json!({"requiredScope": "threads:write", "scopes": ["threads:read"]}));

    let writer = key_with(&app, &["threads:write"]).await;
    let thread = json!({"environmentId": environment}).to_string();
    let thread = app.call_with(&writer, Method::POST, "/threads", thread).await.ok()["thread"].clone();
    let messages = format!("/threads/{}/messages", thread["id"].as_str().expect("an id"));
    app.call_with(&writer, Method::GET, &messages, "").await.ok();
    let hello = json!({"content": "Hello", "stream": false}).to_string();
    let wanted = "The API key does not have the scope 'execute', which this needs";
    assert_eq!(app.call_with(&writer, Method::POST, &messages, hello.clone()).await.failed(403), wanted);
    // A thread with a message starts a run as well.
    let with_message = json!({"environmentId": environment, "content": "Hello", "stream": false}).to_string();
    assert_eq!(app.call_with(&writer, Method::POST, "/threads", with_message.clone()).await.failed(403), wanted);
    assert_eq!(app.get("/threads").await.ok()["total_count"], 1, "nothing was made");
    let runner = key_with(&app, &["execute", "threads:write"]).await;
    app.call_with(&runner, Method::POST, "/threads", with_message).await.ok();
    app.call_with(&runner, Method::POST, &messages, hello).await.ok();
}

#[tokio::test]
async fn a_key_without_the_scope_of_a_route_is_refused_on_each_of_them() {
    let app = App::start().await;
    let document = serde_json::to_value(api::openapi()).expect("JSON");
    // Of two keys with nothing in common, each route refuses one at least.
    let keys = [key_with(&app, &["keys:read"]).await, key_with(&app, &["threads:read"]).await];
    let mut checked = 0;
    for (template, item) in document["paths"].as_object().expect("paths") {
        let mut path = template.clone();
        while let Some((start, end)) = path.find('{').zip(path.find('}')) {
            path.replace_range(start..=end, "x");
        }
        for (method, operation) in item.as_object().expect("an item") {
            let Some(scope) = operation["x-required-scope"].as_str() else { continue };
            let key = if scope == "keys:read" { &keys[1] } else { &keys[0] };
            let method: Method = method.to_uppercase().parse().expect("a method");
            let reply = app.call_with(key, method.clone(), &path, Body::empty()).await;
            assert_eq!(
                reply.failed(403),
                format!("The API key does not have the scope '{scope}', which this needs"),
                "{method} {path}"
            );
            checked += 1;
        }
    }
    assert!(checked > 120, "{checked}");
}

#[tokio::test]
async fn a_key_that_is_revoked_on_one_server_is_refused_by_another_at_once() {
    let app = App::start().await;
    let other = app.database.another_server("node_other").await;
    let (key, text) = other.create_key(&app.database.project, "k", None).await.expect("a key");
    app.call_with(text.expose_secret(), Method::GET, "/agents", "").await.ok();
    other.revoke_key(key.id.as_str()).await.expect("revokes");
    app.call_with(text.expose_secret(), Method::GET, "/agents", "").await.failed(401);
}

#[tokio::test]
async fn last_use_is_written_once_a_minute_and_requests_are_counted() {
    let app = App::start().await;
    let pool = app.database.pool().await;
    let last_used = async || -> Option<chrono::DateTime<chrono::Utc>> {
        sqlx::query_scalar("select last_used_at from api_keys").fetch_one(&pool).await.expect("reads")
    };
    assert_eq!(last_used().await, None);
    app.get("/agents").await.ok();
    let first = last_used().await.expect("was used");
    for _ in 0..5 {
        app.get("/agents/nobody").await.failed(404);
    }
    assert_eq!(last_used().await, Some(first), "not within the minute");
    sqlx::query("update api_keys set last_used_at = now() - interval '61 seconds'").execute(&pool).await.expect("sets");
    app.get("/agents").await.ok();
    assert!(last_used().await.expect("was used") > first);

    let used = app.get("/api-keys/analytics/overview?period=day").await.ok();
    let figures = json!([used["totalRequests"], used["failedRequests"], used["byKey"][0]["totalRequests"]]);
    assert_eq!(figures, json!([7, 5, 7]), "{used}");
    assert_eq!(used["byDay"].as_array().map(Vec::len), Some(1));
    let again = app.get("/api-keys/analytics/overview?period=all").await.ok();
    assert_eq!(again["totalRequests"], 8, "what was written is not counted again");
    assert_eq!(app.get("/api-keys/analytics/overview?period=x").await.status, 400);
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let app = App::start().await;
    let past = chrono::Utc::now() - chrono::Duration::seconds(1);
    let new =
        NewKey { expires_at: Some(past), kind: KeyKind::Internal, scopes: Scopes::admin(), ..NewKey::named("old") };
    let (_, key) = app.database.store.create_key_with(&app.database.project, new).await.expect("a key");
    app.call_with(key.expose_secret(), Method::GET, "/agents", "").await.failed(401);
}
