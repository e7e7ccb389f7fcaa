//! What goes wrong with the model, and what is told of it.

use std::time::Duration;

use scripted_claude::{Block, Fault, Reply, Script};
use serde_json::{Value, json};
use system_tests::{Frame, World, assert_complete};

/// What a run that failed says of it, in the three places where clients look.
fn failure(frames: &[Frame]) -> (String, String) {
    let find =
        |kind: &str| frames.iter().find(|frame| frame.event == kind).unwrap_or_else(|| panic!("{kind}: {frames:#?}"));
    let error = &find("stream.error").data;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (code, message) = (text(&error["code"]), text(&error["message"]));
    assert_eq!(error["error"], error["message"]);
    assert_eq!(find("response.failed").data["response"]["error"]["message"], error["message"]);
    assert_eq!(find("stream.completed").data["run"]["status"], "failed");
    assert!(
        message.len() > 10 && message.ends_with('.') && message.starts_with(char::is_uppercase),
        "a sentence: {message}"
    );
    (code, message)
}

fn logs(frames: &[Frame]) -> Vec<String> {
    let logs = frames.iter().filter(|frame| frame.event == "log");
    logs.map(|frame| frame.data["log"]["message"].as_str().unwrap_or_default().to_owned()).collect()
}

fn content(frames: &[Frame]) -> Option<&Value> {
    frames.iter().find(|frame| frame.event == "response.completed").map(|frame| &frame.data["response"]["content"])
}

/// Runs one message against these replies, in whatever order they are asked for.
async fn run(world: &World, replies: &[Reply]) -> (String, Vec<Frame>) {
    world.claude.set_script(Script::sequence(replies.to_vec()));
    let environment = world.get("/v1/environments/default").await;
    let thread = world.thread(environment["id"].as_str().expect("an id")).await;
    let mut stream = world.try_send(&thread, "Do something.").await.expect("the message is accepted");
    let frames = stream.rest().await;
    assert!(!stream.is_broken());
    let log = world.log_of(&thread).await;
    assert_complete(&log);
    (thread, frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_model_is_waited_for_and_the_wait_is_shown() {
    let world = World::start().await;
    let overloaded = Reply::status(529);
    let (thread, frames) = run(&world, &[overloaded.clone(), overloaded, Reply::text("Here I am.")]).await;
    assert_eq!(content(&frames), Some(&json!("Here I am.")));
    let waits = logs(&frames);
    assert_eq!(waits.len(), 2, "{waits:?}");
    assert!(waits.iter().all(|line| line.contains("Trying again")), "{waits:?}");
    assert_eq!(world.status(&thread).await, "completed");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_the_model_refuses_to_read_fails_the_run_and_the_thread_goes_on() {
    let world = World::start().await;
    let refused = Reply::status(400).with_fault(Fault {
        status: Some(400),
        message: Some("messages: something is wrong with them".into()),
        ..Fault::default()
    });
    let (thread, frames) = run(&world, &[refused, Reply::text("Better now.")]).await;
    let (code, message) = failure(&frames);
    assert_eq!(code, "model_error");
    assert!(message.contains("something is wrong with them"), "it says why: {message}");
    assert_eq!(world.status(&thread).await, "failed");
    let mut second = world.try_send(&thread, "And now?").await.expect("the thread is free");
    assert_eq!(content(&second.rest().await), Some(&json!("Better now.")));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_model_key_fails_the_run_without_showing_it() {
    let world = World::start().await;
    let (_, frames) = run(&world, &[Reply::status(401)]).await;
    let (code, message) = failure(&frames);
    assert_eq!(code, "model_error");
    assert!(!message.contains(&world.model_key));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_breaks_off_is_asked_for_again_and_counts_once() {
    let world = World::start().await;
    let text = "A long enough text to be broken in the middle of it, or a little later.";
    let broken = Reply::text(text).with_fault(Fault { truncate_after: Some(4), ..Fault::default() });
    let ended = Reply::text(text).with_fault(Fault { end_after: Some(4), ..Fault::default() });
    let garbled = Reply::text(text).with_fault(Fault { error_after: Some(3), ..Fault::default() });
    for fault in [broken, ended, garbled] {
        let (_, frames) = run(&world, &[fault, Reply::text(text)]).await;
        assert_eq!(content(&frames), Some(&json!(text)));
        let items = frames.iter().filter(|frame| frame.event == "response.item.completed");
        assert_eq!(items.count(), 1, "what broke off is not kept");
        assert!(!logs(&frames).is_empty(), "it is told");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_run_with_its_reason_and_the_thread_goes_on() {
    let world = World::start().await;
    let refusal = Reply { stop_reason: Some("refusal".into()), ..Reply::text("I") };
    let (thread, frames) = run(&world, &[refusal, Reply::text("Gladly.")]).await;
    assert_eq!(failure(&frames).0, "refusal");
    let mut second = world.try_send(&thread, "Something else, then.").await.expect("the thread is free");
    assert_eq!(content(&second.rest().await), Some(&json!("Gladly.")));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_cut_at_the_output_limit_goes_on_and_fails_only_when_it_never_ends() {
    let world = World::start().await;
    let cut = Reply { stop_reason: Some("max_tokens".into()), ..Reply::text("It begins") };
    let (_, frames) = run(&world, &[cut.clone(), Reply::text(" and ends.")]).await;
    assert_eq!(content(&frames), Some(&json!(" and ends.")));
    let (_, frames) = run(&world, std::slice::from_ref(&cut)).await;
    assert_eq!(failure(&frames).0, "reply_too_long");
    // A call that was cut is not made.
    let call = Block::tool("Bash", json!({ "command": "touch /workspace/made" }));
    let cut = Reply { stop_reason: Some("max_tokens".into()), blocks: vec![call], ..Reply::default() };
    let (thread, frames) = run(&world, &[cut, Reply::text("Then not.")]).await;
    assert_eq!(content(&frames), Some(&json!("Then not.")));
    let environment = world.get(&format!("/v1/threads/{thread}")).await["thread"]["environmentId"].clone();
    assert_eq!(world.file(environment.as_str().expect("an id"), "made").await, None);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_nobody_knows_and_input_that_is_no_json_are_told_to_the_model() {
    let world = World::start().await;
    let bad =
        Block::ToolUse { name: "Bash".into(), input: json!({}), id: None, input_text: Some("{\"command\": ".into()) };
    let replies = [
        Reply::tool("Teleport", json!({ "to": "the moon" })),
        Reply { blocks: vec![bad], ..Reply::default() },
        Reply::tool("Bash", json!({ "command": 5 })),
        Reply::text("I see."),
    ];
    let (_, frames) = run(&world, &replies).await;
    assert_eq!(content(&frames), Some(&json!("I see.")));
    let failed = frames
        .iter()
        .filter(|frame| frame.event == "response.item.completed" && frame.data["item"]["status"] == "failed");
    assert_eq!(failed.count(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_falls_silent_is_asked_again() {
    let world = World::with(&[("MODEL__SILENCE_LIMIT", "1s")]).await;
    let silent =
        Reply::text("Hm, let me think about it.").with_fault(Fault { silence_after: Some(3), ..Fault::default() });
    let began = std::time::Instant::now();
    let (_, frames) = run(&world, &[silent, Reply::text("Got it.")]).await;
    assert_eq!(content(&frames), Some(&json!("Got it.")));
    assert!(began.elapsed() < Duration::from_secs(15));
    world.finish().await;
}
