//! Stop stops: the model's request, the tools and every process, and the thread goes on afterwards.

use std::time::{Duration, Instant};

use domain::run::{Outcome, RunStatus};
use scripted_claude::{Block, Fault, Reply};

use crate::world::{World, bash};

/// Gives the processes of the world's container, as the engine sees them.
fn processes(world: &World) -> Vec<String> {
    let listed = std::process::Command::new("docker")
        .args(["ps", "-q", "--filter", &format!("label=atelier.environment={}", world.environment)])
        .output()
        .expect("docker runs");
    let container = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    let top = std::process::Command::new("docker")
        .args(["top", &container, "-eo", "pid,args"])
        .output()
        .expect("docker runs");
    String::from_utf8_lossy(&top.stdout).lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_kills_every_process_within_two_seconds_and_the_thread_goes_on() {
    let spawn = "sleep 901 & nohup sleep 902 >/dev/null 2>&1 & setsid sleep 903 & (setsid sh -c 'sleep 904 & exit' &) ; \
                 (trap '' TERM INT HUP; while :; do sleep 905; done) & wait; sleep 906";
    let world = World::new(move |asked| match (asked.user_text.as_str(), asked.round) {
        ("go", 0) => bash(spawn).and(Block::tool("Read", serde_json::json!({"file_path": "/workspace/x"}))),
        ("go", _) => Reply::text("not reached"),
        _ => Reply::text("I am still here."),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    for sleep in 901..=905 {
        let sleep = format!("sleep {sleep}");
        while !processes(&world).iter().any(|line| line.contains(&sleep)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    let cancelled_at = Instant::now();
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("asks");
    // The server has a store of its own, so no hint reaches it: this is the way over the database.
    let outcome = world.outcome(&started.run_id).await;
    let took = cancelled_at.elapsed();
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let left: Vec<_> = processes(&world).into_iter().filter(|line| line.contains("sleep 90")).collect();
    assert!(left.is_empty(), "{left:?}");
    println!(r#"{{"test":"R14","n":1,"ms":{},"pass":true}}"#, took.as_millis());

    assert_eq!(world.ask("are you there?").await, Outcome::Completed { content: "I am still here.".into() });
    let calls = world.finished_calls().await;
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.result.as_ref().is_some_and(|result| result.is_error)));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_a_model_that_says_nothing_and_keeps_what_was_asked() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "think long" => Reply::text("…").with_fault(Fault { hold: Some("never".into()), ..Fault::default() }),
        text => Reply::text(text),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("think long").await;
    while world.claude.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("asks");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    assert_eq!(world.ask("and now?").await, Outcome::Completed { content: "and now?".into() });
    let last = world.claude.requests().pop().expect("was asked").json().to_string();
    assert!(last.contains("think long") && last.contains("stopped the run before you replied"), "{last}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_while_its_server_was_dead_is_not_taken_up_again() {
    let world = World::new(|_| bash("sleep 60")).await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    world.wait_for(|events| (events.len() >= 4).then_some(())).await;
    server.kill();
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("asks");
    let requests = world.claude.requests().len();
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    assert_eq!(world.store().find_run_status(&started.run_id).await.expect("reads"), Some(RunStatus::Cancelled));
    assert_eq!(world.claude.requests().len(), requests, "the model was not asked again");
    server.stop_soft().await;
    world.end().await;
}
