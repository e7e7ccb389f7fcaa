//! Signing in to an MCP server with the program as it is started: its routes, its callback, and a log that says everything.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Method, redirect::Policy};
use serde_json::json;
use system_tests::World;

/// The server of the executor's tests: of the official SDK for Python.
struct OAuthServer {
    child: Child,
    url: String,
}

impl OAuthServer {
    /// `None`, said aloud, when there is none to be had.
    fn start() -> Option<Self> {
        let site = testing::mcp_python_sdk()?.join("site");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/executor/tests/runs/mcp/oauth_server.py");
        let started = Command::new("python3").arg(program).env("PYTHONPATH", site).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("python3 is on this host");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut line).expect("it says its port");
        Some(Self { child, url: format!("http://127.0.0.1:{}/mcp", line.trim()) })
    }
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_and_the_log_holds_nothing_of_it() {
    let Some(oauth) = OAuthServer::start() else { return };
    let world = World::with(&[("MCP__ALLOW", r#"["127.0.0.1"]"#), ("LOG__LEVEL", "trace")]).await;
    let environment = world.environment(true).await;
    let servers = json!({"mcpServers": [{"type": "http", "name": "docs", "url": oauth.url}]});
    world.call(Method::PATCH, &format!("/v1/environments/{environment}"), Some(servers)).await;
    let path = format!("/v1/environments/{environment}/mcp-servers/docs/sign-in");
    let begun = world.post(&path, json!({})).await;

    // A browser: it has no key, and follows where it is sent, which is to this server in the end.
    let browser = reqwest::Client::builder().redirect(Policy::limited(3)).timeout(Duration::from_secs(60)).no_proxy();
    let browser = browser.build().expect("a client");
    let page = browser.get(begun["url"].as_str().expect("a URL")).send().await.expect("answers");
    assert_eq!(page.status(), 200);
    let callback = page.url().clone();
    assert!(callback.as_str().starts_with(&world.url("/v1/mcp/callback?")), "{callback}");
    assert!(page.text().await.expect("a page").contains("You are signed in"));
    assert_eq!(world.get(&path).await["signedIn"], true);
    // Once.
    assert_eq!(browser.get(callback.clone()).send().await.expect("answers").status(), 400);

    let log = world.log();
    assert!(log.contains("TRACE"), "the log says everything");
    let state = callback.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    for secret in ["canary-", state.as_str()] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "the log holds {secret}: {lines:#?}");
    }
    world.finish().await;
}
