//! A model back end that misbehaves: each run ends in the right state, with a sentence, and says what it waits for.

use domain::{
    event::{Event, LogLevel},
    run::Outcome,
};
use scripted_claude::{Block, Fault, Reply};

use crate::world::{World, bash};

fn failed(outcome: &Outcome) -> (&str, &str) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("fails: {other:?}"),
    }
}

async fn warnings(world: &World) -> Vec<String> {
    world
        .events()
        .await
        .into_iter()
        .filter_map(|event| match event.event {
            Event::Log { level: LogLevel::Warning, message, .. } => Some(message),
            _ => None,
        })
        .collect()
}

/// Runs one message against the replies in turn.
async fn play(replies: Vec<Reply>) -> (World, Outcome) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let world = World::new(move |_| {
        let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        replies.get(at).or(replies.last()).cloned().unwrap_or_default()
    })
    .await;
    let server = world.server("node_a").await;
    let outcome = world.ask("go").await;
    server.stop_soft().await;
    (world, outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_model_is_waited_for_and_the_wait_is_shown() {
    let (world, outcome) = play(vec![Reply::status(529), Reply::status(429), Reply::text("here I am")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "here I am".into() });
    assert_eq!(warnings(&world).await.len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_breaks_off_is_asked_for_again_and_said_so() {
    let broken =
        Reply::text("half").and(Block::text("of it")).with_fault(Fault { truncate_after: Some(6), ..Fault::default() });
    let (world, outcome) = play(vec![broken, Reply::text("whole")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "whole".into() });
    assert_eq!(warnings(&world).await.len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_fails_the_run_with_the_back_ends_own_sentence() {
    let fault = Fault { status: Some(401), message: Some("invalid x-api-key".into()), ..Fault::default() };
    let (world, outcome) = play(vec![Reply::default().with_fault(fault)]).await;
    let (code, message) = failed(&outcome);
    assert_eq!(code, "model_error");
    assert!(message.contains("invalid x-api-key"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_failure_and_does_not_poison_the_thread() {
    let refusal = Reply { stop_reason: Some("refusal".into()), ..Reply::text("I") };
    let (world, outcome) = play(vec![refusal, Reply::text("gladly")]).await;
    assert_eq!(failed(&outcome).0, "refusal");
    let server = world.server("node_a").await;
    assert_eq!(world.ask("something else").await, Outcome::Completed { content: "gladly".into() });
    let last = world.claude.requests().pop().expect("was asked").json();
    assert_eq!(last["messages"].as_array().map(Vec::len), Some(1), "{last:#}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cut_off_at_the_output_limit_is_not_made() {
    let cut = Reply { stop_reason: Some("max_tokens".into()), ..bash("echo no > /workspace/made") };
    let (world, outcome) = play(vec![cut, Reply::text("smaller then")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "smaller then".into() });
    assert_eq!(world.file("made"), None);
    let calls = world.finished_calls().await;
    assert!(calls[0].result.as_ref().is_some_and(|result| result.is_error && result.text.contains("not made")));
    let asked: Vec<_> = world.claude.requests().iter().map(|request| request.json()["max_tokens"].clone()).collect();
    assert!(asked[1].as_u64() > asked[0].as_u64(), "the limit is raised: {asked:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_reply_is_asked_to_say_something() {
    let (world, outcome) = play(vec![bash("true"), Reply::default(), Reply::text("it worked")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "it worked".into() });
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_reply_is_sent_back_unchanged() {
    let block = serde_json::json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}});
    let searching = Block::Raw { block: block.as_object().cloned().expect("an object") };
    let paused = Reply { stop_reason: Some("pause_turn".into()), ..Reply::text("searching").and(searching) };
    let (world, outcome) = play(vec![paused, Reply::text("found")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "found".into() });
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stop_reason_runs_nothing_and_answers_its_calls() {
    let odd = Reply { stop_reason: Some("moonrise".into()), ..bash("echo no > /workspace/made") };
    let (world, outcome) = play(vec![odd, Reply::text("on we go")]).await;
    assert_eq!(failed(&outcome).0, "unknown_stop_reason");
    assert_eq!(world.file("made"), None);
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go on").await, Outcome::Completed { content: "on we go".into() });
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_no_json_becomes_an_error_result_that_quotes_it() {
    let call = Block::ToolUse {
        name: "Bash".into(),
        input: serde_json::json!({}),
        id: None,
        input_text: Some(r#"{"command": "ec"#.into()),
    };
    let (world, outcome) = play(vec![Reply::default().and(call), Reply::text("I see")]).await;
    assert_eq!(outcome, Outcome::Completed { content: "I see".into() });
    let told = world.claude.requests().pop().expect("was asked").asked.expect("was taken").last_result_text();
    assert!(told.contains("not valid JSON") && told.contains(r#"{"command": "ec"#), "{told}");
    world.end().await;
}
