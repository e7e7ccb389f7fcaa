//! Signing in to MCP servers: who may begin, what a browser is told that comes back, and how often it may be wrong.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use api::SignIns;
use axum::{
    body::Body,
    http::{Request, header},
};
use domain::EnvironmentId;
use secrecy::SecretString;
use serde_json::json;
use store::mcp::ServerAddress;

use crate::app::{App, Reply};

const ADDRESS: &str = "https://as.example.com/authorize?state=s3cret";

/// An app that knows one state, and counts how often it is asked for any.
async fn app() -> (App, Arc<AtomicUsize>) {
    let mut app = App::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let sign_ins = SignIns {
        begin: Arc::new(|_, name| {
            Box::pin(async move { if name == "mute" { Err("it says nothing".into()) } else { Ok(ADDRESS.into()) } })
        }),
        finish: Arc::new(move |state, code, issuer| {
            counted.fetch_add(1, Ordering::Relaxed);
            let is_right = (state.as_str(), code.as_str(), issuer.as_deref()) == ("s3cret", "c0de", Some("https://as"));
            Box::pin(async move { if is_right { Ok("docs".into()) } else { Err(format!("<b>{state}</b>")) } })
        }),
    };
    app.api.sign_ins = Some(sign_ins);
    app.router = api::router(app.api.clone());
    (app, asked)
}

async fn with_servers(app: &App) -> EnvironmentId {
    let id = app.environment().await;
    let servers = json!({"mcpServers": [
        {"type": "http", "name": "docs", "url": "https://example.com/mcp", "clientId": "me", "clientSecret": "canary"},
        {"type": "sse", "name": "mute", "url": "https://example.com/sse"},
        {"type": "stdio", "name": "local", "command": "run"},
    ]});
    let changed = app.patch(&format!("/environments/{id}"), servers).await.ok();
    let docs = &changed["environment"]["mcpServers"][0];
    assert_eq!((&docs["clientId"], &docs["clientSecret"]), (&json!("me"), &json!("********")));
    id
}

/// Comes back as a browser does, without a key.
async fn come_back(app: &App, query: &str) -> Reply {
    let request = Request::get(format!("/v1/mcp/callback?{query}")).header(header::ACCEPT, "text/html,*/*;q=0.8");
    app.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_sign_in_is_begun_seen_and_forgotten_with_a_key() {
    let (app, _) = app().await;
    let id = with_servers(&app).await;
    let path = |name: &str| format!("/environments/{id}/mcp-servers/{name}/sign-in");
    assert_eq!(app.post(&path("docs"), json!({})).await.ok(), json!({"server": "docs", "url": ADDRESS}));
    let not_yet = json!({"server": "docs", "signedIn": false, "signedInAt": null, "renewedAt": null});
    assert_eq!(app.get(&path("docs")).await.ok(), not_yet);
    app.delete(&path("docs")).await.failed(404);

    let server = ServerAddress { environment: id.clone(), name: "docs".into(), url: "https://example.com/mcp".into() };
    let store = &app.database.store;
    store.keep_mcp_tokens(&server, &SecretString::from("canary")).await.expect("writes");
    let shown = app.get(&path("docs")).await.ok();
    assert!(shown["signedIn"] == true && shown["signedInAt"].is_string(), "{shown}");
    assert!(!shown.to_string().contains("canary"));
    assert_eq!(app.delete(&path("docs")).await.ok(), json!({"success": true, "server": "docs"}));
    assert_eq!(app.get(&path("docs")).await.ok(), not_yet);

    assert!(app.post(&path("mute"), json!({})).await.failed(502).ends_with("it says nothing"));
    assert!(app.post(&path("local"), json!({})).await.failed(400).contains("a process"));
    for name in ["none", "%00", "..%2f"] {
        let status = app.post(&path(name), json!({})).await.status;
        assert!(status == 404 || status == 400, "{name}: {status}");
    }
}

#[tokio::test]
async fn who_comes_back_is_told_fixed_sentences_and_sent_nowhere() {
    let (app, asked) = app().await;
    let done = come_back(&app, "state=s3cret&code=c0de&iss=https%3A%2F%2Fas&redirect_uri=https://evil.example").await;
    assert_eq!(done.status, 200, "{done:?}");
    let failed = come_back(&app, "state=%3Cscript%3E&code=%3Cscript%3E&error_description=%3Cscript%3E").await;
    assert_eq!(failed.status, 400);
    for page in [&done, &failed] {
        let text = String::from_utf8_lossy(&page.body);
        assert!(text.contains("signed in") && !text.contains("script") && !text.contains("s3cret"), "{text}");
        assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers[header::CONTENT_SECURITY_POLICY], "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
        assert!(!page.headers.contains_key(header::LOCATION));
    }
    // Who is no browser is told as by all routes.
    let request = Request::get("/mcp/callback?state=x&code=y").body(Body::empty()).expect("a request");
    assert!(app.send(request).await.failed(400).starts_with("You are not signed in"));
    // Half of it, or far too much, is not even looked at.
    let before = asked.load(Ordering::Relaxed);
    let long = format!("state=s3cret&code={}", "x".repeat(10_000));
    for query in ["", "state=s3cret", "code=c0de", "error=access_denied&state=s3cret", &long] {
        assert_eq!(come_back(&app, query).await.status, 400, "{query}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn states_cannot_be_guessed_for_long() {
    let (app, _) = app().await;
    let mut refused = 0;
    for guess in 0..100 {
        refused += usize::from(come_back(&app, &format!("state={guess}&code=c")).await.status == 429);
    }
    println!("of 100 guesses refused without an answer: {refused}");
    assert!(refused > 50, "{refused}");
}
