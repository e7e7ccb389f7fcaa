//! Links to what listens in the environment when a run is over, so that "create an API and run it" ends with one.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use super::client::Client;

/// All of it is a courtesy, and not worth waiting for.
const LIMIT: Duration = Duration::from_secs(10);
/// A development server listens on one or two ports. Whoever wants all of them asks the API.
const MAX_LINKS: usize = 3;

#[derive(Deserialize)]
struct ThreadEnvelope {
    thread: Thread,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    environment_id: String,
}

#[derive(Deserialize)]
struct Ports {
    data: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    port: u16,
    process: Option<String>,
}

#[derive(Deserialize)]
struct PreviewEnvelope {
    preview: Preview,
}

#[derive(Deserialize)]
struct Preview {
    url: String,
}

/// Gives a line for each port that something listens on. None where that cannot be had, as from an older server.
pub(super) async fn to_what_listens(client: &Client, thread: &str) -> Vec<String> {
    tokio::time::timeout(LIMIT, links(client, thread)).await.ok().flatten().unwrap_or_default()
}

async fn links(client: &Client, thread: &str) -> Option<Vec<String>> {
    let thread: ThreadEnvelope = ask(client.request(Method::GET, &["threads", thread])).await?;
    let environment = ["environments", &thread.thread.environment_id];
    let ports: Ports = ask(client.request(Method::GET, &[&environment[..], &["ports"]].concat())).await?;
    let mut lines = Vec::new();
    for Port { port, process } in ports.data.into_iter().take(MAX_LINKS) {
        let request = client.request(Method::POST, &[&environment[..], &["previews"]].concat());
        let made: PreviewEnvelope = ask(request.json(&json!({ "port": port, "name": "atelier run" }))).await?;
        let what = process.map_or(String::new(), |process| format!("{process} "));
        lines.push(format!("{what}listens on port {port}: {}", made.preview.url));
    }
    Some(lines)
}

async fn ask<T: for<'de> Deserialize<'de>>(request: RequestBuilder) -> Option<T> {
    request.send().await.ok()?.error_for_status().ok()?.json().await.ok()
}
