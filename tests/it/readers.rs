//! Those who watch: they leave, come back, come twice, and the run does not notice.

use std::time::Duration;

use rand::RngExt;
use reqwest::Method;
use scripted_claude::{Block, Reply};
use serde_json::json;
use system_tests::{World, assert_complete, durable, message};

fn long_run() -> Vec<Reply> {
    let call =
        |n| Reply::tool("Bash", json!({ "command": format!("echo {n}") })).after(Block::text("On it goes. ".repeat(5)));
    let mut replies: Vec<Reply> = (0..5).map(call).collect();
    replies.push(Reply::text("That was all."));
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_cancel_the_run() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    let mut stream = world.send(&thread, &long_run()).await;
    stream.until(|frame| frame.event == "response.item.created").await;
    drop(stream);
    let (status, _) = world.settled(&thread, Duration::from_secs(30)).await;
    assert_eq!(status, "completed");
    let messages = world.get(&format!("/v1/threads/{thread}/messages")).await;
    assert_eq!(messages["data"][1]["content"], "That was all.");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_anywhere_and_resumed_is_the_whole_stream() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    let mut first = world.send(&thread, &long_run()).await;
    // While it runs: read a random part, leave, come back, until it is over.
    let (mut kept, mut last, mut cuts) = (Vec::new(), 0, 0);
    loop {
        let mut stream = world.follow(&thread, last).await;
        let length = rand::rng().random_range(1..8);
        let mut part = Vec::new();
        while part.len() < length
            && let Some(frame) = stream.next().await
        {
            part.push(frame);
        }
        let (frames, number) = durable(&part);
        kept.extend(frames);
        last = last.max(number);
        cuts += 1;
        if part.iter().any(|frame| frame.event == "stream.completed") {
            break;
        }
    }
    assert!(cuts > 5, "it was cut: {cuts}");
    let live = first.rest().await;
    let log = world.log_of(&thread).await;
    assert_complete(&log);
    let whole: String = log.iter().map(|frame| frame.raw.as_str()).collect();
    assert_eq!(durable(&live).0.concat(), whole, "who stayed has seen the same");
    assert_eq!(kept.concat(), whole, "who was cut {cuts} times has seen the same");
    // Afterwards, after each number: what follows, and nothing else.
    for after in 0..=last {
        let rest = world.follow(&thread, after).await.rest().await;
        assert!(rest.iter().filter(|frame| frame.is_durable()).all(|frame| whole.contains(&frame.raw)));
        assert_eq!(
            rest.iter().filter_map(|frame| frame.id).collect::<Vec<_>>(),
            (after + 1..=last).collect::<Vec<_>>()
        );
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_messages_at_once_one_is_refused() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    for _ in 0..5 {
        world.claude.pause();
        let body = json!({ "content": message(&[Reply::text("one")]), "stream": false });
        let path = format!("/v1/threads/{thread}/messages");
        let send = || world.call(Method::POST, &path, Some(body.clone()));
        let (a, b, c) = futures::join!(send(), send(), send());
        let mut statuses = [a.status, b.status, c.status];
        statuses.sort_unstable();
        assert!(statuses[0] < 300 && statuses[1..] == [409, 409], "{statuses:?}");
        for refused in [a, b, c].iter().filter(|answer| answer.status == 409) {
            assert_eq!(refused.json()["error"], "Conflict");
        }
        world.claude.resume();
        world.settled(&thread, Duration::from_secs(10)).await;
    }
    let messages = world.get(&format!("/v1/threads/{thread}/messages")).await;
    assert_eq!(messages["total_count"], 10, "five were accepted, each has an answer");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_add_up_to_the_items_that_repeat_them() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    let text = "A line\u{2028}separator, a next\u{85}line, and an emoji \u{1f600}. ".repeat(20);
    let frames = world.run(&thread, &[Reply::text(&text)]).await;
    let said = |frames: &[system_tests::Frame], kind: &str| -> Vec<String> {
        let of_kind = frames.iter().filter(|frame| frame.event == kind);
        of_kind.map(|frame| frame.data["delta"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let deltas = said(&frames, "response.content_part.delta");
    assert!(deltas.len() > 3, "it came in pieces");
    let completed = frames.iter().find(|frame| frame.event == "response.completed").expect("it completes");
    assert_eq!(completed.data["response"]["content"], text);
    assert_eq!(deltas.concat(), text);
    for frame in &frames {
        assert!(!frame.raw.contains(['\u{2028}', '\u{2029}', '\u{85}']), "some clients take these for line ends");
        assert_eq!(frame.data["type"].as_str(), Some(frame.event.as_str()));
    }
    world.finish().await;
}
