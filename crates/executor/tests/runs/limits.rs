//! The budget guard: a run ends at its limit, says which, leaves nothing running, and the thread can go on.

use domain::{
    MicroUsd,
    event::Event,
    limits::Limits,
    run::{Outcome, RunOptions},
};
use scripted_claude::{Fault, Reply};

use crate::world::{World, bash};

fn limited(limits: Limits) -> RunOptions {
    RunOptions { limits, ..RunOptions::default() }
}

fn code(outcome: &Outcome) -> &str {
    outcome.reason()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_at_each_of_its_limits_with_its_own_word() {
    let world = World::new(|_| bash("true")).await;
    let server = world.server("node_a").await;
    for (limits, word) in [
        (Limits { max_cost: Some(MicroUsd(1)), ..Limits::default() }, "budget"),
        (Limits { max_turns: Some(2), ..Limits::default() }, "max_turns"),
        (Limits { max_tokens: Some(1), ..Limits::default() }, "max_tokens"),
    ] {
        let started = world.send_with("go", limited(limits)).await;
        let outcome = world.outcome(&started.run_id).await;
        assert_eq!(code(&outcome), word, "{outcome:?}");
    }
    let turns = world.claude.requests().len();
    assert_eq!(turns, 1 + 2 + 1, "checked before each call to the model");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_limit_ends_a_tool_with_all_its_processes_and_the_thread_goes_on() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "long" => bash("trap '' TERM; setsid sleep 931 & sleep 932"),
        _ => Reply::text("still here"),
    })
    .await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    let limits = Limits { max_duration_ms: Some(1_500), ..Limits::default() };
    let began_at = std::time::Instant::now();
    let started = world.send_with("long", limited(limits)).await;
    let outcome = world.outcome(&started.run_id).await;
    let took = began_at.elapsed();
    assert_eq!(code(&outcome), "timeout");
    assert!(
        took > std::time::Duration::from_millis(1_400) && took < std::time::Duration::from_millis(3_500),
        "{took:?}"
    );
    let calls = world.finished_calls().await;
    assert!(calls.iter().all(|call| call.result.as_ref().is_some_and(|result| result.is_error)), "{calls:?}");
    assert_eq!(world.ask("hello?").await, Outcome::Completed { content: "still here".into() });
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_limit_ends_a_model_that_says_nothing() {
    let world =
        World::new(|_| Reply::text("…").with_fault(Fault { hold: Some("never".into()), ..Fault::default() })).await;
    let server = world.server("node_a").await;
    let limits = Limits { max_duration_ms: Some(300), ..Limits::default() };
    let started = world.send_with("think", limited(limits)).await;
    assert_eq!(code(&world.outcome(&started.run_id).await), "timeout");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threads_limit_counts_all_its_runs() {
    let world = World::new(|_| Reply::text("one turn")).await;
    let (store, project) = (world.store(), &world.database.project);
    let limit = |thread: &mut domain::thread::Thread| thread.limits.max_turns = Some(2);
    store.update_thread(project, &world.thread, limit).await.expect("changes");
    let server = world.server("node_a").await;
    for _ in 0..2 {
        assert_eq!(world.ask("go").await, Outcome::Completed { content: "one turn".into() });
    }
    let outcome = world.ask("go").await;
    assert_eq!(code(&outcome), "max_turns");
    assert!(matches!(&outcome, Outcome::Failed { message, .. } if message.contains("thread")), "{outcome:?}");
    assert_eq!(world.claude.requests().len(), 2);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_at_its_limit_goes_on_from_there() {
    let world = World::new(|asked| match asked.user_text.contains("Go on from where it stood") {
        true => Reply::text("finished"),
        false => bash("echo step >> /workspace/steps"),
    })
    .await;
    let server = world.server("node_a").await;
    let limits = Limits { max_turns: Some(1), ..Limits::default() };
    let started = world.send_with("go", limited(limits)).await;
    assert_eq!(code(&world.outcome(&started.run_id).await), "max_turns");
    let next = world.store().continue_thread(&world.database.project, &world.thread).await.expect("goes on");
    assert_eq!(world.outcome(&next.run_id).await, Outcome::Completed { content: "finished".into() });
    assert_eq!(world.file("steps").as_deref(), Some("step\n"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_model_is_replaced_for_the_rest_of_the_run_and_that_is_said() {
    let world = World::new(|asked| match (asked.model.as_str(), asked.round) {
        ("claude-haiku-4-5", 0) => bash("true"),
        ("claude-haiku-4-5", _) => Reply::text("by the other one"),
        _ => Reply::status(529),
    })
    .await;
    let server = world.server_with("node_a", |options| options.fallback_model = Some("claude-haiku-4-5".into())).await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: "by the other one".into() });
    let changes = world.events().await.iter().filter(|e| matches!(e.event, Event::ModelChanged { .. })).count();
    assert_eq!(changes, 1);
    let last = world.claude.requests().pop().expect("was asked").json();
    assert_eq!(last["model"], "claude-haiku-4-5");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_limit_is_neither_retried_nor_asked_of_another_model() {
    let fault = Fault {
        status: Some(429),
        error_code: Some("enforced_spend_limit_reached".into()),
        message: Some("no more money".into()),
        ..Fault::default()
    };
    let world = World::new(move |_| Reply::default().with_fault(fault.clone())).await;
    let server = world.server_with("node_a", |options| options.fallback_model = Some("claude-haiku-4-5".into())).await;
    let outcome = world.ask("go").await;
    assert_eq!(code(&outcome), "spend_limit", "{outcome:?}");
    assert_eq!(world.claude.requests().len(), 1);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_taken_up_again_stays_with_the_model_it_had_gone_over_to() {
    let world = World::new(|asked| match (asked.model.as_str(), asked.round) {
        ("claude-haiku-4-5", 0) => bash("until [ -e /workspace/go ]; do sleep 0.05; done"),
        ("claude-haiku-4-5", _) => Reply::text("by the other one"),
        _ => Reply::status(529),
    })
    .await;
    let fallback = |options: &mut executor::Options| options.fallback_model = Some("claude-haiku-4-5".into());
    let server = world.server_with("node_a", fallback).await;
    let started = world.send("go").await;
    world.wait_for(|events| events.iter().find(|e| matches!(e.event, Event::ItemStarted { .. })).map(|_| ())).await;
    let of_its_own = |world: &World| {
        let requests = world.claude.requests();
        requests.iter().filter(|request| request.json()["model"] != "claude-haiku-4-5").count()
    };
    let before = of_its_own(&world);
    assert!(before > 0);
    server.kill();
    std::fs::write(world.path("go"), "").expect("writes");
    let server = world.server_with("node_a", fallback).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "by the other one".into() });
    assert_eq!(of_its_own(&world), before, "its own model was not asked again");
    // The thread's next run begins with its own again.
    world.ask("more").await;
    assert!(of_its_own(&world) > before);
    server.stop_soft().await;
    world.end().await;
}
