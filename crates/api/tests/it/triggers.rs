//! Triggers: who may tell of an event, and what becomes of it.

use axum::{
    body::Body,
    http::{Method, Request},
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::app::{App, Reply, redacted};

const SECRET: &str = "a secret of sixteen";

/// Makes a trigger and gives its id.
async fn trigger(app: &App, more: Value) -> String {
    let environment = app.environment().await;
    let mut body = json!({
        "name": "CI", "environmentId": environment, "source": "github", "event": "push", "webhookSecret": SECRET,
        "action": {"type": "send_message", "prompt": "Look at {{payload.ref}}"},
    });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = app.post("/triggers", body).await.ok();
    made["trigger"]["id"].as_str().expect("an id").to_owned()
}

fn hmac(secret: &str, body: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells of an event as a stranger with these headers would.
async fn tell(app: &App, id: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::builder().method(Method::POST).uri(format!("/webhooks/triggers/{id}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::from(body.to_owned())).expect("a valid request")).await
}

/// Tells of a push as GitHub does.
async fn push(app: &App, id: &str, delivery: &str, body: &str) -> Reply {
    let signature = format!("sha256={}", hex(&hmac(SECRET, body)));
    let headers =
        [("x-github-event", "push"), ("x-github-delivery", delivery), ("x-hub-signature-256", signature.as_str())];
    tell(app, id, &headers, body).await
}

async fn executions(app: &App, id: &str) -> Value {
    app.get(&format!("/triggers/{id}/executions")).await.ok()
}

#[tokio::test]
async fn a_trigger_is_what_it_was_made_of_and_its_secret_is_shown_once() {
    let app = App::start().await;
    let environment = app.environment().await;
    let body = json!({
        "name": "Review", "environmentId": environment, "source": "gitlab", "event": "merge_request",
        "filters": {"branch": "main"}, "action": {"type": "send_message", "message": "m", "template": "{{payload}}"},
        "unknown": 1,
    });
    let reply = app.post("/v1/triggers", body).await;
    assert_eq!(reply.status, 201);
    let made = reply.ok()["trigger"].clone();
    let secret = made["webhookSecret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() > 40);
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["webhookUrl"], format!("http://127.0.0.1:8080/webhooks/triggers/{id}"));
    let mut shown = redacted(made.clone());
    shown["webhookSecret"] = "[secret]".into();
    shown["webhookUrl"] = "[url]".into();
    shown["environmentId"] = "[id]".into();
    insta::assert_json_snapshot!(shown);

    let one = app.get(&format!("/triggers/{id}")).await;
    let listed = app.get(&format!("/triggers?environmentId={environment}&source=gitlab&enabled=true")).await;
    assert_eq!(listed.ok()["data"][0], one.ok()["trigger"]);
    for reply in [&one, &listed] {
        assert!(!reply.text().contains(&secret), "the secret is not shown again");
    }
    assert_eq!(app.get("/triggers?enabled=false").await.ok()["total_count"], 0);
    let pool = app.database.pool().await;
    let row: String =
        sqlx::query_scalar("select encode(secret, 'escape') from triggers").fetch_one(&pool).await.expect("reads");
    assert!(!row.contains(&secret[6..]), "it is sealed");

    let changed = app.patch(&format!("/triggers/{id}"), json!({"name": "R", "filters": null})).await.ok();
    assert_eq!((&changed["trigger"]["name"], &changed["trigger"]["filters"]), (&json!("R"), &json!({})));
    assert_eq!(changed["trigger"]["event"], "merge_request");
    let off = app.patch(&format!("/triggers/{id}/disable"), json!({})).await.ok();
    assert_eq!(off["trigger"]["enabled"], false);
    assert_eq!(app.patch(&format!("/triggers/{id}/enable"), json!({})).await.ok()["trigger"]["enabled"], true);
    assert_eq!(app.delete(&format!("/triggers/{id}")).await.ok()["triggerId"], *id);
    app.get(&format!("/triggers/{id}")).await.failed(404);
    // One that is gone and one that never was are the same to a stranger.
    let gone = tell(&app, id, &[("x-gitlab-token", &secret)], "{}").await;
    let never = tell(&app, "trig_never", &[], "{}").await;
    assert_eq!((gone.failed(401), gone.body), (never.failed(401), never.body));
}

#[tokio::test]
async fn what_is_not_acceptable_is_told_by_field() {
    let app = App::start().await;
    let environment = app.environment().await;
    let base = json!({"name": "n", "environmentId": environment, "source": "github", "event": "push", "action": {}});
    for (name, value, status) in [
        ("name", json!(" "), 400),
        ("source", json!("fax"), 400),
        ("event", json!(""), 400),
        ("webhookSecret", json!("short"), 400),
        ("action", json!({"type": "shout"}), 400),
        ("action", json!({"type": "comment_pull_request", "prompt": "p"}), 501),
        ("environmentId", json!("env_none"), 404),
        ("agentId", json!("agent_none"), 404),
    ] {
        let mut body = base.clone();
        body[name] = value;
        let message = app.post("/triggers", body).await.failed(status);
        assert!(status != 400 || message.contains(name), "{name}: {message}");
    }
    assert_eq!(app.get("/triggers").await.ok()["total_count"], 0);
}

#[tokio::test]
async fn every_form_of_a_signature_is_taken_and_nothing_without_one() {
    let app = App::start_with(|settings| settings.failed_logins_per_minute = 0).await;
    let github = trigger(&app, json!({})).await;
    let gitlab = trigger(&app, json!({"source": "gitlab", "event": "push"})).await;
    let custom = trigger(&app, json!({"source": "custom"})).await;
    let body = r#"{"ref":"refs/heads/main"}"#;
    let mac = hmac(SECRET, body);
    let (hex, base64) = (hex(&mac), base64(&mac));
    let now = chrono::Utc::now().timestamp();
    let standard = domain::signature::sign(SECRET, "msg_1", now, body.as_bytes());
    let stale = domain::signature::sign(SECRET, "msg_1", now - 3600, body.as_bytes());
    let (now, then) = (now.to_string(), (now - 3600).to_string());
    let prefixed = format!("sha256={hex}");
    let good: [(&str, &[(&str, &str)]); 6] = [
        (&github, &[("x-hub-signature-256", &prefixed), ("x-github-event", "push"), ("x-github-delivery", "d1")]),
        (&custom, &[("x-webhook-signature", &hex), ("x-webhook-event", "push"), ("x-webhook-delivery", "d1")]),
        (&custom, &[("x-webhook-signature", &prefixed), ("x-webhook-delivery", "d2")]),
        (&custom, &[("x-webhook-signature", &base64), ("x-webhook-delivery", "d3")]),
        (&custom, &[("webhook-id", "msg_1"), ("webhook-timestamp", &now), ("webhook-signature", &standard)]),
        (&gitlab, &[("x-gitlab-token", SECRET), ("x-gitlab-event", "Push Hook"), ("x-gitlab-event-uuid", "u1")]),
    ];
    for (id, headers) in good {
        let reply = tell(&app, id, headers, body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["triggered"]),
            (202, &json!(true)),
            "{headers:?} {}",
            reply.text()
        );
    }
    let other = hmac("another secret that is long", body);
    let other = other.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let bad: [(&str, &[(&str, &str)]); 8] = [
        (&github, &[]),
        (&github, &[("x-hub-signature-256", &other)]),
        (&github, &[("x-hub-signature-256", "")]),
        (&github, &[("x-hub-signature", &hex)]),
        // The secret itself is taken from GitLab only.
        (&github, &[("x-gitlab-token", SECRET)]),
        (&gitlab, &[("x-gitlab-token", "wrong")]),
        (&custom, &[("webhook-id", "msg_1"), ("webhook-timestamp", &then), ("webhook-signature", &stale)]),
        (&custom, &[("webhook-id", "msg_2"), ("webhook-timestamp", &now), ("webhook-signature", &standard)]),
    ];
    for (id, headers) in bad {
        let message = tell(&app, id, headers, body).await.failed(401);
        assert!(message.starts_with("There is no such trigger, or the signature"), "{message}");
    }
    // A body that was changed on the way.
    tell(&app, &github, &[("x-hub-signature-256", &prefixed)], r#"{"ref":"refs/heads/evil"}"#).await.failed(401);
    let counts: Vec<_> = [&github, &custom, &gitlab].map(|id| executions(&app, id)).into_iter().collect();
    let counts = futures::future::join_all(counts).await;
    let counts: Vec<_> = counts.iter().map(|list| list["total_count"].as_i64().expect("a number")).collect();
    assert_eq!(counts, [1, 4, 1]);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[tokio::test]
async fn what_is_told_twice_is_done_once_and_answered_alike() {
    let app = App::start().await;
    let id = trigger(&app, json!({})).await;
    let body = r#"{"ref":"refs/heads/main"}"#;
    let first = push(&app, &id, "d1", body).await;
    assert_eq!(first.ok()["triggered"], true);
    // Again, and by many at once; also after the run is over.
    let all = futures::future::join_all((0..8).map(|_| push(&app, &id, "d1", body))).await;
    for again in &all {
        assert_eq!((again.status, &again.body), (first.status, &first.body));
    }
    let new = futures::future::join_all((0..8).map(|_| push(&app, &id, "d2", body))).await;
    assert!(new.iter().all(|reply| reply.body == new[0].body && reply.ok()["triggered"] == true));
    assert_ne!(new[0].ok()["threadId"], first.ok()["threadId"]);

    // Without a name the body is what tells them apart.
    let signature = hex(&hmac(SECRET, body));
    let unnamed = [("x-webhook-signature", signature.as_str())];
    let (one, other) = (tell(&app, &id, &unnamed, body).await, tell(&app, &id, &unnamed, body).await);
    assert_eq!(one.body, other.body);
    let pool = app.database.pool().await;
    sqlx::query("update trigger_executions set created_at = created_at - interval '6 minutes'")
        .execute(&pool)
        .await
        .expect("writes");
    assert_ne!(tell(&app, &id, &unnamed, body).await.ok()["executionId"], one.ok()["executionId"]);

    let list = executions(&app, &id).await;
    assert_eq!(list["total_count"], 4, "{list}");
    let counts: (i64, i64) = sqlx::query_as("select (select count(*) from threads), (select count(*) from runs)")
        .fetch_one(&pool)
        .await
        .expect("reads");
    assert_eq!(counts, (4, 4));
    println!("deliveries told: 20, executions: 4");
}

#[tokio::test]
async fn an_event_becomes_a_thread_with_its_message() {
    let app = App::start().await;
    let agent = app.post("/agents", json!({"name": "a", "model": "m"})).await.ok()["agent"]["id"].clone();
    let id = trigger(&app, json!({"agentId": agent, "filters": {"branch": "main"}})).await;
    let told = push(&app, &id, "d1", r#"{"ref":"refs/heads/main"}"#).await.ok();
    let thread = told["threadId"].as_str().expect("a thread");
    let seen = app.get(&format!("/threads/{thread}")).await.ok()["thread"].clone();
    assert_eq!((&seen["title"], &seen["agentId"]), (&json!("CI"), &agent));
    let messages = app.get(&format!("/threads/{thread}/messages")).await.ok();
    assert_eq!(messages["data"][0]["content"], "Look at refs/heads/main");
    let list = executions(&app, &id).await;
    let execution = &list["data"][0];
    assert_eq!(execution["id"], told["executionId"]);
    assert_eq!((&execution["status"], &execution["eventName"]), (&json!("pending"), &json!("push")));
    assert_eq!(execution["eventPayload"], json!({"ref": "refs/heads/main"}));
    assert!(app.get(&format!("/triggers/{id}")).await.ok()["trigger"]["lastTriggeredAt"].is_string());

    // What it does not wait for.
    let passed = push(&app, &id, "d2", r#"{"ref":"refs/heads/dev"}"#).await.ok();
    assert_eq!((&passed["triggered"], &passed["reason"]), (&json!(false), &json!("The filter branch does not match")));
    app.patch(&format!("/triggers/{id}"), json!({"event": "release", "filters": null})).await.ok();
    let passed = push(&app, &id, "d3", r#"{"ref":"refs/heads/main"}"#).await.ok();
    assert_eq!(passed["reason"], "The event is push, not release");
    app.patch(&format!("/triggers/{id}/disable"), json!({})).await.ok();
    assert_eq!(push(&app, &id, "d4", "{}").await.ok()["reason"], "The trigger is switched off");
    assert_eq!(executions(&app, &id).await["total_count"], 1);

    // Trying it asks for none of that.
    let tried = app.post(&format!("/triggers/{id}/test"), json!({"payload": {"ref": "x"}})).await.ok();
    assert_eq!((&tried["execution"]["status"], &tried["execution"]["isTest"]), (&json!("pending"), &json!(true)));
    assert!(tried["execution"]["threadId"].is_string());
    let environment = app.environment().await;
    app.delete(&format!("/environments/{environment}?force=true")).await.ok();
    let tried = app.call(Method::POST, &format!("/triggers/{id}/test"), "").await.ok();
    assert_eq!(tried["execution"]["status"], "failed");
    assert!(tried["execution"]["error"].as_str().expect("why").contains("not found"), "{tried}");
}

#[tokio::test]
async fn a_secret_that_was_replaced_opens_nothing() {
    let app = App::start().await;
    let id = trigger(&app, json!({})).await;
    let rotated = app.post(&format!("/triggers/{id}/rotate-secret"), json!({})).await.ok();
    let secret = rotated["trigger"]["webhookSecret"].as_str().expect("a secret").to_owned();
    push(&app, &id, "d1", "{}").await.failed(401);
    let signature = hex(&hmac(&secret, "{}"));
    assert_eq!(tell(&app, &id, &[("x-hub-signature-256", &signature)], "{}").await.ok()["triggered"], true);
}

#[tokio::test]
async fn strangers_cannot_tell_without_end() {
    let app = App::start_with(|settings| {
        settings.events_per_minute = 3;
        settings.failed_logins_per_minute = 2;
        settings.max_body_bytes = 1000;
    })
    .await;
    let id = trigger(&app, json!({})).await;
    for delivery in ["1", "2", "3"] {
        assert_eq!(push(&app, &id, delivery, "{}").await.status, 202);
    }
    let refused = push(&app, &id, "4", "{}").await;
    assert_eq!(refused.failed(429), "Too many events for this trigger");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    // Another trigger has its own count.
    let other = trigger(&app, json!({})).await;
    assert_eq!(push(&app, &other, "1", "{}").await.status, 202);
    push(&app, &other, "2", &format!(r#"{{"a":"{}"}}"#, "x".repeat(2000))).await.failed(413);
    push(&app, &other, "3", "[1]").await.failed(400);
    push(&app, &other, "3", "{").await.failed(400);
    for _ in 0..2 {
        tell(&app, &other, &[("x-hub-signature-256", "x")], "{}").await.failed(401);
    }
    tell(&app, &other, &[("x-hub-signature-256", "x")], "{}").await.failed(429);
    // Who signs rightly is not locked out by that, nor is who has a key.
    let third = trigger(&app, json!({})).await;
    assert_eq!(push(&app, &third, "1", "{}").await.status, 202);
    app.get("/triggers").await.ok();
}
