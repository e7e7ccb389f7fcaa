//! Messages that find the thread busy, as the model sees them.

use domain::{
    event::Event,
    run::{Outcome, RunStatus},
};
use scripted_claude::{Fault, Reply};
use store::{
    queue::{Accepted, IfBusy},
    runs::NewRun,
};

use crate::world::{World, bash};

async fn send(world: &World, content: &str, if_busy: IfBusy) -> Accepted {
    let messages = vec![content.into()];
    let new = NewRun { messages, ..NewRun::default() };
    world.store().send(&world.database.project, &world.thread, new, if_busy).await.expect("is taken")
}

fn run_of(accepted: &Accepted) -> domain::RunId {
    let (Accepted::Started(run) | Accepted::Held(run) | Accepted::Steered(run, _)) = accepted;
    run.run_id.clone()
}

/// Waits until the model has been asked so often.
async fn asked(world: &World, times: usize) {
    while world.claude.requests().len() < times {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steered_message_reaches_the_model_with_its_next_turn_once() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("work", 0) => bash("while [ ! -e /workspace/go ]; do sleep 0.05; done"),
        ("mind the gap", 0) => bash("echo one"),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("work").await;
    asked(&world, 1).await;
    let steered = send(&world, "mind the gap", IfBusy::Steer).await;
    assert!(matches!(steered, Accepted::Steered(..)), "{steered:?}");
    let root = world.database.directory().join("data/environments").join(world.environment.as_str());
    while !root.join("workspace").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::write(root.join("workspace/go"), "").expect("writes");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
    let requests: Vec<_> =
        world.claude.requests().iter().map(|request| request.json()["messages"].to_string()).collect();
    let times: Vec<_> = requests.iter().map(|request| request.matches("mind the gap").count()).collect();
    assert_eq!(times, [0, 1, 1], "with the second request, and not twice");
    assert!(!world.store().has_active_run(&world.thread).await.expect("reads"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_steered_while_the_last_reply_was_written_keeps_the_run_going() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        text if text.contains("wait for this") => Reply::text("I did that too"),
        _ => Reply::text("done").with_fault(Fault { hold: Some("gate".into()), ..Fault::default() }),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("work").await;
    asked(&world, 1).await;
    send(&world, "wait for this", IfBusy::Steer).await;
    world.claude.release("gate");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "I did that too".into() });
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_taken_before_a_crash_is_not_given_twice_and_one_not_taken_is_not_lost() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("early note", 0) => bash("echo one"),
        ("early note", _) => Reply::text("…").with_fault(Fault { hold: Some("never".into()), ..Fault::default() }),
        _ => Reply::text("done"),
    })
    .await;
    world.warm_up().await;
    let started = world.send("work").await;
    // Before any server has it: it is given with the very first request.
    send(&world, "early note", IfBusy::Steer).await;
    let server = world.server("node_a").await;
    asked(&world, 2).await;
    send(&world, "late note", IfBusy::Steer).await;
    server.kill();
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
    let last = world.claude.requests().pop().expect("was asked").json()["messages"].to_string();
    for note in ["early note", "late note"] {
        assert_eq!(last.matches(note).count(), 1, "{note} in {last}");
    }
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_run_within_two_seconds_says_why_and_the_message_runs() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "long" => bash("trap '' TERM; setsid sleep 921 & sleep 922"),
        text => Reply::text(text),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("long").await;
    world.wait_for(|events| events.iter().any(|e| matches!(e.event, Event::ItemStarted { .. })).then_some(())).await;
    let began_at = std::time::Instant::now();
    let next = send(&world, "do this instead", IfBusy::Interrupt).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Interrupted);
    let took = began_at.elapsed();
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    let outcome = world.outcome(&run_of(&next)).await;
    assert_eq!(outcome, Outcome::Completed { content: "do this instead".into() });
    let calls = world.finished_calls().await;
    assert!(calls.iter().all(|call| call.result.as_ref().is_some_and(|result| result.is_error)), "{calls:?}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_stops_at_its_checkpoint_and_goes_on_where_it_stood() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo once >> /workspace/count; while [ ! -e /workspace/go ]; do sleep 0.05; done"),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    let run = world.send("work").await.run_id;
    while world.file("count").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (store, project) = (world.store(), &world.database.project);
    store.pause_run(project, &world.thread, &run).await.expect("asks");
    let root = world.database.directory().join("data/environments").join(world.environment.as_str());
    std::fs::write(root.join("workspace/go"), "").expect("writes");
    world.wait_for(|events| events.iter().any(|e| matches!(e.event, Event::RunPaused)).then_some(())).await;
    assert_eq!(store.find_run_status(&run).await.expect("reads"), Some(RunStatus::Paused));
    assert_eq!(world.claude.requests().len(), 1, "the model was not asked again");
    // A restart in between changes nothing.
    server.stop_soft().await;
    let server = world.server("node_b").await;
    store.resume_run(project, &world.thread, &run).await.expect("resumes");
    assert_eq!(world.outcome(&run).await, Outcome::Completed { content: "done".into() });
    assert_eq!(world.file("count").as_deref(), Some("once\n"));
    server.stop_soft().await;
    world.end().await;
}
