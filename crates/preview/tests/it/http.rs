//! What is passed on: as it came, as it comes, and nothing else.

use std::fs;

use futures::{StreamExt, stream};
use reqwest::{Body, Method, Response};
use tokio::time::{Duration, timeout};

use crate::world::{PORT, World, eventually};

/// Gives the JSON that a server in the container answered with.
async fn json(response: Response) -> serde_json::Value {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_passed_on_without_anything_of_ours() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    let home = world.get(&link, "/").await;
    assert_eq!(home.status(), 200);
    assert_eq!(home.headers()["set-cookie"], "app=1; Path=/");
    assert_eq!(home.text().await.expect("text"), "hello");
    assert_eq!(world.get(&link, "/other").await.status(), 404);

    let request = world.request(Method::GET, &link, "/seen?a=%20b&c").header("cookie", "app=1");
    let seen =
        json(request.bearer_auth("tb_0123456789abcdef").header("x-custom", "kept").send().await.expect("sent")).await;
    assert_eq!(seen["path"], "/seen?a=%20b&c");
    let headers = &seen["headers"];
    assert_eq!((&headers["cookie"], &headers["x-custom"]), (&"app=1".into(), &"kept".into()));
    assert_eq!(headers["host"], world.host(&link));
    assert_eq!(headers["x-forwarded-host"], world.host(&link));
    assert_eq!((&headers["x-forwarded-for"], &headers["x-forwarded-proto"]), (&"127.0.0.1".into(), &"http".into()));
    assert!(headers.get("authorization").is_none(), "{headers}");

    let head = world.request(Method::HEAD, &link, "/").send().await.expect("an answer");
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"5".parse().expect("a value")));
    let redirected = world.get(&link, "/redirect").await;
    assert_eq!(redirected.headers()["location"], format!("http://{}/seen?x=1", world.host(&link)));

    let renamed = world.link_with(PORT, true, Duration::from_secs(60)).await;
    let seen = json(world.get(&renamed, "/seen").await).await;
    assert_eq!(seen["headers"]["host"], "localhost:5000");
    assert!(seen["headers"].get("x-forwarded-host").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_bit_by_bit_arrives_bit_by_bit() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    let response = world.get(&link, "/events?after=go").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.bytes_stream();
    let first = timeout(Duration::from_secs(30), events.next()).await.expect("not held back");
    assert_eq!(first.expect("a part").expect("whole"), "data: first\n\n");
    // The second does not come before it is said.
    assert!(timeout(Duration::from_millis(300), events.next()).await.is_err());
    world.go_on("go").await;
    assert_eq!(events.next().await.expect("a part").expect("whole"), "data: second\n\n");
    assert!(events.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_without_being_held() {
    const SIZE: usize = 64 * 1024 * 1024;
    let world = World::start().await;
    let link = world.link(PORT).await;
    // Everything that is made once is made.
    json(world.request(Method::POST, &link, "/sum").body("x").send().await.expect("an answer")).await;
    let before = peak_after_reset();
    let mut body = world.get(&link, &format!("/bytes?n={SIZE}")).await.bytes_stream();
    let mut got = 0;
    while let Some(part) = body.next().await {
        got += part.expect("whole").len();
    }
    assert_eq!(got, SIZE);
    // Of unknown length, so in chunks.
    let block = vec![b'x'; 64 * 1024];
    let blocks = stream::iter(0..SIZE / block.len()).map(move |_| Ok::<_, std::io::Error>(block.clone()));
    let request = world.request(Method::POST, &link, "/sum").body(Body::wrap_stream(blocks));
    let sum = json(request.send().await.expect("an answer")).await;
    assert_eq!(sum["count"], SIZE);
    let grown = peak() - before;
    assert!(grown < 24 * 1024, "{grown} KiB more than before");
    // Of known length.
    let sum = json(world.request(Method::POST, &link, "/sum").body("hello").send().await.expect("an answer")).await;
    assert_eq!(sum["sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_breaks_the_answer_off() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    let response = world.get(&link, "/die").await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "half a body must not pass for a whole one");
    let gone = world.get(&link, "/").await;
    assert_eq!(gone.status(), 502);
    assert!(gone.text().await.expect("text").contains("Nothing listens on port 5000"));
    // It comes back, and so does the preview.
    world.listen(PORT).await;
    assert_eq!(world.get(&link, "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_port_of_the_preview_is_opened() {
    let world = World::start().await;
    world.listen(5001).await;
    let (link, other, none) = (world.link(PORT).await, world.link(5001).await, world.link(5002).await);
    assert_eq!(world.get(&link, "/").await.status(), 200);
    assert_eq!(world.get(&other, "/").await.status(), 200);
    let refused = world.request(Method::GET, &none, "/").header("accept", "text/html").send().await.expect("an answer");
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["content-type"]),
        (502, &"text/html; charset=utf-8".parse().expect("a value"))
    );
    assert!(refused.text().await.expect("text").contains("Nothing listens on port 5002"));
    // The token of one does not open the other.
    let crossed = world.client.get(format!("http://{}/", world.address)).header("host", world.host(&link));
    assert_eq!(crossed.header("cookie", other.cookie()).send().await.expect("an answer").status(), 404);
    // It is no proxy to other places.
    let elsewhere = world.client.get(format!("http://{}/seen", world.address)).header("host", "localhost:5001");
    assert_eq!(elsewhere.header("cookie", link.cookie()).send().await.expect("an answer").status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_is_told_and_not_started() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    assert_eq!(world.get(&link, "/").await.status(), 200);
    world.sandboxes.stop(&world.environment).await.expect("stops");
    let mut text = String::new();
    eventually("it is noticed", async || {
        let response = world.get(&link, "/").await;
        assert_eq!(response.status(), 502);
        text = response.text().await.expect("text");
        text.contains("does not run")
    })
    .await;
    assert!(!world.sandboxes.status(&world.environment).await.expect("known").is_running);
}

/// The most memory that this process had since the last reset, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn peak_after_reset() -> u64 {
    fs::write("/proc/self/clear_refs", "5").expect("the peak is forgotten");
    peak()
}
