//! A link to what a tool left running: the whole way from the API to a process in a container without network.

use std::time::Duration;

use reqwest::Method;
use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually, message};

const SERVE: &str = "echo 'it works' > index.html; (setsid python3 -m http.server 8000 >/dev/null 2>&1 &); \
                     for i in $(seq 100); do curl -fs -o /dev/null http://127.0.0.1:8000/ && break; sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_starts_is_listed_and_opened_by_a_link_until_it_is_revoked() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, SERVE).await;
    let ports = world.get(&format!("/v1/environments/{environment}/ports")).await;
    assert_eq!(ports["data"][0]["port"], 8000, "{ports}");
    let status = world.get(&format!("/v1/environments/{environment}/status")).await;
    assert_eq!(status["ports"], ports["data"]);

    let path = format!("/v1/environments/{environment}/previews");
    let preview = world.post(&path, json!({ "port": 8000 })).await["preview"].clone();
    let url = preview["toolUrl"].as_str().expect("a link").replace("//localhost:", "//127.0.0.1:");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let open = async || client.get(&url).send().await.expect("an answer");
    let opened = open().await;
    assert_eq!((opened.status().as_u16(), opened.text().await.expect("text").as_str()), (200, "it works\n"));

    let revoked = format!("{path}/{}", preview["id"].as_str().expect("an id"));
    assert_eq!(world.call(Method::DELETE, &revoked, None).await.status, 200);
    eventually("the link opens nothing", Duration::from_secs(10), async || open().await.status() == 404).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_the_command_line_ends_with_a_link_that_works() {
    let world = World::start().await;
    let task = message(&[Reply::tool("Bash", json!({ "command": SERVE })), Reply::text("It runs.")]);
    let mut command = world.client(&["run", &task, "--url", &world.url("")]);
    command.env("ATELIER_API_KEY", &world.key);
    let output = tokio::task::spawn_blocking(move || command.output().expect("atelier runs")).await.expect("ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let link = text.lines().last().and_then(|line| line.split_once("listens on port 8000: ")).expect("a link").1;
    let (host, token) = link.trim_start_matches("http://").split_once('/').expect("a host");
    let port = host.rsplit_once(':').expect("a port").1;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let opened = client.get(format!("http://127.0.0.1:{port}/{token}")).header("host", host).send().await;
    assert_eq!(opened.expect("an answer").text().await.expect("text"), "it works\n");
    world.finish().await;
}
