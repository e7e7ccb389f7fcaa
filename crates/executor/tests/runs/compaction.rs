//! A window that gets full: the conversation goes on from a summary, nothing is done twice, and nothing is lost.

use std::collections::HashSet;

use domain::{
    event::{Event, Trigger},
    run::Outcome,
};
use scripted_claude::{Asked, Fault, Reply, ReplyUsage};
use serde_json::{Value, json};

use crate::{
    memory::without_markers,
    world::{World, bash},
};

const STEPS: usize = 10;

/// How many steps a text tells of: a summary says it, and a call is one.
fn done(text: &str) -> usize {
    let highest = |marker: &str| {
        let after = text.split(marker).skip(1);
        after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()).max()
    };
    highest("DONE=").unwrap_or(0).max(highest("echo step").map_or(0, |step| step + 1))
}

fn is_summary(asked: &Asked) -> bool {
    asked.tools.is_empty()
}

fn summary(asked: &Asked) -> Reply {
    Reply::text(format!("DONE={}", done(&asked.user_message)))
}

/// A job of ten steps, each a line in a file. The window is nearly full after every fourth.
fn job(asked: &Asked) -> Reply {
    if is_summary(asked) {
        return summary(asked);
    }
    let step = done(&asked.user_message) + asked.round;
    let reply = match step {
        STEPS.. => Reply::text("all done"),
        step => bash(&format!("echo step{step} >> /workspace/lines")),
    };
    Reply { usage: usage(200_000 * (asked.round as u64 + 1)), ..reply }
}

/// A prompt of so many tokens, from the cache: the default budget would not pay for much else.
fn usage(tokens: u64) -> ReplyUsage {
    ReplyUsage { input_tokens: Some(0), cache_read_input_tokens: Some(tokens), ..ReplyUsage::default() }
}

fn expected_lines() -> String {
    (0..STEPS).map(|step| format!("step{step}\n")).collect()
}

fn too_large() -> Reply {
    Reply::default().with_fault(Fault { status: Some(413), ..Fault::default() })
}

async fn compactions(world: &World) -> Vec<(Trigger, i64, i64)> {
    let events = world.events().await.into_iter();
    events
        .filter_map(|event| match event.event {
            Event::Compacted { trigger, pre_tokens, post_tokens } => Some((trigger, pre_tokens, post_tokens)),
            _ => None,
        })
        .collect()
}

/// The requests of the run's own turns.
fn turns(world: &World) -> Vec<Value> {
    let requests = world.claude.requests();
    requests
        .iter()
        .map(scripted_claude::Received::json)
        .filter(|json| json["tools"].is_array())
        .map(without_markers)
        .collect()
}

fn failure_code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { code, .. } => code,
        other => panic!("fails: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_is_summarised_and_the_work_goes_on_where_it_stopped() {
    let world = World::new(job).await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("ten steps, please").await, Outcome::Completed { content: "all done".into() });
    server.stop_soft().await;
    assert_eq!(world.file("lines").expect("was written"), expected_lines());
    let compactions = compactions(&world).await;
    assert_eq!(compactions.len(), 2, "{compactions:?}");
    for (trigger, pre_tokens, post_tokens) in compactions {
        assert_eq!(trigger, Trigger::Auto);
        assert!(pre_tokens >= 800_000 && post_tokens < 10_000, "{pre_tokens} {post_tokens}");
    }

    let requests = turns(&world);
    assert_eq!(requests.len(), STEPS + 1);
    let mut restarts = 0;
    for pair in requests.windows(2) {
        assert_eq!((&pair[0]["system"], &pair[0]["tools"]), (&pair[1]["system"], &pair[1]["tools"]));
        let (before, after) =
            (pair[0]["messages"].as_array().expect("a list"), pair[1]["messages"].as_array().expect("a list"));
        if after.len() > before.len() {
            assert_eq!(before.as_slice(), &after[..before.len()], "between compactions history is only appended to");
        } else {
            restarts += 1;
            assert_eq!(after.len(), 1);
            let told = after[0].to_string();
            assert!(told.contains("DONE=") && told.contains("ten steps, please"), "{told}");
        }
    }
    assert_eq!(restarts, 2);
    let run = world.store().list_runs(
        &world.database.project,
        &world.thread,
        None,
        store::messages::Order::NewestFirst,
        store::Page::ALL,
    );
    let run = run.await.expect("reads").items.remove(0);
    assert_eq!(run.turns as usize, STEPS + 1 + 2, "a summary is a turn");
    assert!(run.spent.cost.0 > 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_every_event_boundary_around_a_compaction_repeats_no_step() {
    let world = World::new(job).await;
    world.warm_up().await;
    let started = world.send("ten steps, please").await;
    let mut killed = 0;
    for boundary in 3.. {
        let server = world.server("node_a").await;
        let is_over = world
            .wait_for(|events| {
                let is_over = events.iter().any(|event| matches!(event.event, Event::RunFinished { .. }));
                (is_over || events.len() as i64 >= boundary + killed).then_some(is_over)
            })
            .await;
        server.kill();
        if is_over {
            break;
        }
        killed += 1;
    }
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "all done".into() });
    server.stop_soft().await;
    // Every kill may have come before the step's command did anything: then there is no file.
    let lines = world.file("lines").unwrap_or_default();
    let unique: HashSet<_> = lines.lines().collect();
    assert_eq!(unique.len(), lines.lines().count(), "no step was done twice: {lines}");
    let calls = world.finished_calls().await;
    assert_eq!(calls.len(), STEPS, "each step was asked for once, whatever was summarised");
    for call in &calls {
        let result = call.result.as_ref().expect("is finished");
        let step = call.input.get().split_whitespace().nth(1).expect("echo STEP");
        assert!(
            unique.contains(step) || result.text.contains("interrupted"),
            "{step} was neither done nor told as cut off"
        );
    }
    assert!(!compactions(&world).await.is_empty());
    assert!(killed >= 10, "{killed}");
    // A message is given to the model once, however often the run was taken up.
    for request in turns(&world) {
        let text = request["messages"].to_string();
        assert_eq!(text.matches("ten steps, please").count(), 1, "{text}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_is_made_smaller_once() {
    let world = World::new(|asked| match () {
        () if is_summary(asked) => summary(asked),
        () if asked.round >= 3 => too_large(),
        () => match done(&asked.user_message) + asked.round {
            5.. => Reply::text("all done"),
            step => bash(&format!("echo step{step} >> /workspace/lines")),
        },
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("five steps").await, Outcome::Completed { content: "all done".into() });
    assert_eq!(world.file("lines").expect("was written").lines().count(), 5);
    assert_eq!(compactions(&world).await.len(), 1);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_full_in_the_middle_of_a_reply_is_summarised_and_the_cut_call_is_not_made() {
    let world = World::new(|asked| match () {
        () if is_summary(asked) => Reply::text("Something was begun."),
        () if asked.user_message.contains("Something was begun.") => Reply::text("and is done"),
        () => Reply { stop_reason: Some("model_context_window_exceeded".into()), ..bash("echo no > /workspace/made") },
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: "and is done".into() });
    assert_eq!(world.file("made"), None);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_fails_ends_the_run_only_where_nothing_fits_any_more() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        _ if is_summary(asked) && !asked.user_message.contains("summary works") => too_large(),
        _ if is_summary(asked) => Reply::text("What was before."),
        ("nearly full", 0) => Reply { usage: usage(900_000), ..bash("true") },
        ("nearly full", _) => Reply::text("went on"),
        ("full", 0) => bash("true"),
        ("full", _) => too_large(),
        _ => Reply::text("hello again"),
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("nearly full").await, Outcome::Completed { content: "went on".into() });
    assert_eq!(failure_code(&world.ask("full").await), "context_window_exceeded");
    assert_eq!(compactions(&world).await, []);
    assert_eq!(world.ask("summary works").await, Outcome::Completed { content: "hello again".into() });
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_request_a_conversation_is_summarised_or_cleared_and_goes_on() {
    let world = World::new(|asked| match () {
        () if is_summary(asked) => Reply::text("They spoke of cats."),
        () => Reply::text(format!("heard: {}", asked.user_text)),
    })
    .await;
    let (store, project, thread) = (world.store(), &world.database.project, &world.thread);
    assert!(matches!(store.start_compaction(project, thread, None, None).await, Err(store::Error::State(_))));
    let server = world.server("node_a").await;
    world.ask("cats").await;
    let started =
        store.start_compaction(project, thread, Some("mind the whiskers".into()), None).await.expect("starts");
    assert!(matches!(store.clear_context(project, thread, 0).await, Err(store::Error::Busy)));
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: String::new() });
    let asked = world.claude.requests().pop().expect("was asked").json();
    assert!(asked["tools"].is_null() && asked["messages"].to_string().contains("mind the whiskers"), "{asked:#}");
    assert_eq!(store.find_context_usage(thread).await.expect("reads"), None);

    assert_eq!(world.ask("dogs").await, Outcome::Completed { content: "heard: dogs".into() });
    let request = turns(&world).pop().expect("was asked");
    let text = request["messages"].to_string();
    assert!(text.contains("They spoke of cats.") && text.contains("dogs") && !text.contains("heard: cats"), "{text}");
    assert!(store.find_context_usage(thread).await.expect("reads").is_some());

    store.clear_context(project, thread, 1).await.expect("clears");
    world.ask("birds").await;
    let cleared = turns(&world).pop().expect("was asked");
    assert_eq!(cleared["system"], request["system"]);
    let text = cleared["messages"].to_string();
    assert!(text.contains("birds") && !text.contains("cats") && !text.contains("dogs"), "{text}");
    assert_eq!(compactions(&world).await.len(), 2);
    // What people see is as it was.
    let messages = store.list_messages(thread, store::messages::Order::OldestFirst, store::Page::ALL).await;
    assert_eq!(messages.expect("reads").items.len(), 6);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_fills_the_window_is_summarised_before_the_next_message_which_stays_whole() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        _ if is_summary(asked) => Reply::text("They greeted each other."),
        "hello" => Reply { usage: usage(900_000), ..Reply::text("hi") },
        text => Reply::text(text),
    })
    .await;
    let server = world.server("node_a").await;
    world.ask("hello").await;
    assert_eq!(world.ask("now this").await, Outcome::Completed { content: "now this".into() });
    let request = turns(&world).pop().expect("was asked");
    assert_eq!(request["messages"].as_array().map(Vec::len), Some(1));
    let blocks = request["messages"][0]["content"].as_array().expect("blocks");
    assert!(blocks[0]["text"].to_string().contains("They greeted each other."));
    assert_eq!(blocks.last().expect("is there")["text"], json!("now this"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_uses_up_the_budget_is_the_last_call() {
    let world = World::new(job).await;
    let server = world.server("node_a").await;
    // The window is nearly full after four replies; the summary is the fifth call.
    let limits = domain::limits::Limits { max_turns: Some(5), ..Default::default() };
    let options = domain::run::RunOptions { limits, ..Default::default() };
    let started = world.send_with("Do the job", options).await;
    let outcome = world.outcome(&started.run_id).await;
    assert_eq!(outcome.reason(), "max_turns", "{outcome:?}");
    assert_eq!(compactions(&world).await.len(), 1);
    assert_eq!((world.claude.requests().len(), turns(&world).len()), (5, 4));
    server.stop_soft().await;
    world.end().await;
}
