//! Servers that die: nothing is lost, nothing is run twice, and the model is told what nobody knows.

use std::time::Duration;

use domain::{
    event::Event,
    run::{Outcome, RunStatus, Spent},
};
use scripted_claude::{Asked, Block, Reply};
use store::leases::{Checkpoint, Turn};

use crate::world::{World, bash};

const DONE: &str = "all done";

/// A job of ten rounds: each appends a line to a file, in two calls where the round is even.
fn job(asked: &Asked) -> Reply {
    let round = asked.round;
    let append = |name: &str| format!("echo {name}{round} >> /workspace/lines");
    match round {
        10.. => Reply::text(DONE),
        round if round % 2 == 0 => {
            bash(&append("a")).and(Block::tool("Bash", serde_json::json!({"command": append("b")})))
        }
        _ => bash(&append("a")).after(Block::text("Next.")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_every_event_boundary_loses_nothing_and_runs_nothing_twice() {
    // The reference: how many events the job has when nothing goes wrong.
    let world = World::new(job).await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: DONE.into() });
    let boundaries = world.events().await.len() as i64;
    let lines = world.file("lines").expect("was written");
    assert_eq!(lines.lines().count(), 15);
    server.stop_soft().await;
    world.end().await;

    let world = World::new(job).await;
    world.warm_up().await;
    let started = world.send("go").await;
    let mut killed = 0;
    for boundary in 3..boundaries {
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
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: DONE.into() });

    let lines = world.file("lines").expect("was written");
    let mut unique: Vec<_> = lines.lines().collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), lines.lines().count(), "no call was run twice: {lines}");
    let calls = world.finished_calls().await;
    assert_eq!(calls.len(), 15, "each call has exactly one result");
    let interrupted = |text: &str| text.contains("interrupted");
    for call in &calls {
        let result = call.result.as_ref().expect("is finished");
        let line = call.input.get().split_whitespace().nth(1).expect("echo NAME").to_owned();
        let was_run = lines.lines().any(|written| written == line);
        assert!(was_run || interrupted(&result.text), "{line} was neither run nor told as interrupted");
    }
    println!(
        r#"{{"test":"R1","n":{killed},"lost":0,"dup":0,"interrupted":{},"pass":true}}"#,
        calls.iter().filter(|call| call.result.as_ref().is_some_and(|result| interrupted(&result.text))).count()
    );
    assert!(killed >= 10, "the gate was tried: {killed}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cut_off_by_a_crash_is_told_as_interrupted_and_not_repeated() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo x >> /workspace/count; sleep 60"),
        _ => Reply::text(format!("I saw: {}", asked.last_result_text())),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    // Written, not only made: a kill in between would leave a part of it.
    while world.file("count").as_deref() != Some("x\n") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill();
    let server = world.server("node_a").await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert!(content.contains("interrupted"), "{content}");
    assert_eq!(world.file("count").as_deref(), Some("x\n"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_last_reply_is_there_is_finished_without_asking_again() {
    let world = World::new(|_| Reply::text("never asked")).await;
    world.send("go").await;
    let mut claimed = world.store().claim_runs(1, Duration::from_secs(15)).await.expect("claims").remove(0);
    let turn = Turn {
        model: "m".into(),
        request_id: None,
        stop_reason: "end_turn".into(),
        spent: Spent::default(),
        duration: Duration::ZERO,
    };
    let transcript = vec![
        ("system", r#"["be kind"]"#.to_owned()),
        ("user", r#"[{"type":"text","text":"go"}]"#.to_owned()),
        ("assistant", r#"[{"type":"text","text":"it is done"}]"#.to_owned()),
    ];
    let checkpoint = Checkpoint { transcript, turn: Some(turn), ..Checkpoint::default() };
    world.store().checkpoint(&mut claimed.lease, &checkpoint).await.expect("writes");
    world.store().end_own_leases().await.expect("the server is gone");

    let server = world.server("node_a").await;
    let outcome = world.outcome(&claimed.run.id).await;
    assert_eq!(outcome, Outcome::Completed { content: "it is done".into() });
    assert!(world.claude.requests().is_empty());
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_going_down_gives_its_run_back_and_another_goes_on_at_once() {
    let world = World::new(job).await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    world.wait_for(|events| (events.len() > 8).then_some(())).await;
    server.stop_soft().await;
    assert_eq!(world.store().find_run_status(&started.run_id).await.expect("reads"), Some(RunStatus::Queued));
    let interrupted = |calls: &[domain::event::ToolCall]| {
        calls
            .iter()
            .filter(|call| call.result.as_ref().is_some_and(|result| result.text.contains("interrupted")))
            .count()
    };
    let other = world.server("node_b").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: DONE.into() });
    assert_eq!(interrupted(&world.finished_calls().await), 0, "a drained run is cut between turns, not within one");
    assert_eq!(world.file("lines").expect("was written").lines().count(), 15);
    other.stop_hard().await;
    world.end().await;
}
