//! The link and its token: who is let in, by what, and for how long.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use secrecy::ExposeSecret;

use crate::world::{Link, PORT, World, eventually};

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

fn with_token(link: &Link, path: &str) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{path}{mark}atelier_preview={}", link.token.expose_secret())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_changes_the_token_for_a_cookie_and_a_tool_sends_it() {
    let world = World::start().await;
    let link = world.link(PORT).await;
    let at = |path: &str| world.client.get(format!("http://{}{path}", world.address));
    let host = world.host(&link);

    let opened = at(&with_token(&link, "/seen?a=1")).header("host", &host).header("accept", BROWSER).send().await;
    let opened = opened.expect("an answer");
    assert_eq!(
        (opened.status().as_u16(), &opened.headers()["location"]),
        (303, &"/seen?a=1".parse().expect("a value"))
    );
    let cookie = opened.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.starts_with(&link.cookie()) && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(!cookie.contains("Domain"), "{cookie}");
    // A path that could be taken for a host is none.
    let opened = at(&with_token(&link, "//evil.example/")).header("host", &host).header("accept", BROWSER).send().await;
    assert_eq!(opened.expect("an answer").headers()["location"], "/.//evil.example/");

    let seen = at(&with_token(&link, "/seen?a=1")).header("host", &host).send().await.expect("an answer");
    let seen = seen.text().await.expect("text");
    assert!(seen.contains("/seen?a=1") && !seen.contains(link.token.expose_secret()), "{seen}");

    // The address for tools, by whatever name; a browser is led away from it.
    let prefix = format!("/{}/{}", link.preview.id.label(), link.token.expose_secret());
    let seen = at(&format!("{prefix}/seen?a=1")).send().await.expect("an answer");
    assert_eq!(seen.headers()["content-security-policy"], "sandbox");
    let seen = seen.text().await.expect("text");
    assert!(seen.contains("localhost:5000") && !seen.contains(link.token.expose_secret()), "{seen}");
    let redirected = at(&format!("{prefix}/redirect")).send().await.expect("an answer");
    assert_eq!(redirected.headers()["location"], format!("http://{}{prefix}/seen?x=1", world.address));
    let led = at(&format!("{prefix}/seen?a=1")).header("accept", BROWSER).send().await.expect("an answer");
    assert_eq!(led.status(), 303);
    assert_eq!(led.headers()["location"], format!("http://{host}{}", with_token(&link, "/seen?a=1")));
    let fetched = at(&format!("{prefix}/")).header("sec-fetch-mode", "no-cors").send().await.expect("an answer");
    assert_eq!(fetched.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_opens_nothing_is_answered_alike() {
    let world = World::start().await;
    let (link, revoked) = (world.link(PORT).await, world.link(PORT).await);
    world.revoke(&revoked).await;
    let expired = world.link_with(PORT, false, Duration::from_millis(1)).await;
    let wrong = Link { preview: link.preview.clone(), token: expired.token.clone() };
    let unknown = Link {
        preview: domain::preview::Preview { id: domain::PreviewId::generate(), ..link.preview.clone() },
        token: link.token.clone(),
    };
    let mut answers = Vec::new();
    for link in [&revoked, &expired, &wrong, &unknown] {
        let response = world.get(link, "/").await;
        assert_eq!(response.status(), 404);
        let mut headers = response.headers().clone();
        headers.remove("date");
        answers.push((headers, response.text().await.expect("text")));
    }
    for (path, host) in
        [("/", world.host(&link)), ("/", "localhost".to_owned()), ("/preview-1/x/", "localhost".to_owned())]
    {
        let response = world.client.get(format!("http://{}{path}", world.address)).header("host", host).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 404);
        let mut headers = response.headers().clone();
        headers.remove("date");
        answers.push((headers, response.text().await.expect("text")));
    }
    assert_eq!(answers.len(), 7);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    // The wrong token did not harm the right one.
    assert_eq!(world.get(&link, "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_what_is_open_on_every_server() {
    let world = World::start().await;
    let (link, other_link) = (world.link(PORT).await, world.link(PORT).await);
    let servers = [world.address, world.another_server().await];
    let mut streams = Vec::new();
    for at in servers {
        let response = world.request_at(at, Method::GET, &link, "/events?after=never").send().await.expect("an answer");
        let mut events = response.bytes_stream();
        assert!(events.next().await.expect("a part").is_ok());
        streams.push(events);
    }
    let kept = world.get(&other_link, "/events?after=never").await;
    let mut kept = kept.bytes_stream();
    assert!(kept.next().await.expect("a part").is_ok());

    world.revoke(&link).await;
    let began = Instant::now();
    for events in &mut streams {
        let ended = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("it is ended");
        assert!(ended.expect("no clean end").is_err());
    }
    println!("ended after {:?}", began.elapsed());
    for at in servers {
        let refused = world.request_at(at, Method::GET, &link, "/").send().await.expect("an answer");
        assert_eq!(refused.status(), 404);
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), kept.next()).await.is_err(), "another preview goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_over_and_so_is_what_is_open_through_it() {
    let world = World::start().await;
    let link = world.link_with(PORT, false, Duration::from_secs(4)).await;
    let mut events = world.get(&link, "/events?after=never").await.bytes_stream();
    assert!(events.next().await.expect("a part").is_ok());
    let ended = tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("it is ended");
    assert!(ended.expect("no clean end").is_err());
    assert_eq!(world.get(&link, "/").await.status(), 404);
    let link = world.link(PORT).await;
    assert_eq!(world.get(&link, "/").await.status(), 200);
    // With its environment all of it goes.
    world.database.store.delete_environment(&world.database.project, &world.environment, false).await.expect("deleted");
    eventually("the preview is over", async || world.get(&link, "/").await.status() == 404).await;
}
