//! kill -9 of the server, at the worst moment and at any.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rand::RngExt;
use scripted_claude::{Block, Fault, Reply};
use serde_json::json;
use system_tests::{Frame, World, assert_complete, durable, eventually};

/// How long a started server may take to bring a run to its end that has nothing more to wait for.
const RESUME_LIMIT: Duration = Duration::from_secs(5);

fn bash(command: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command }))
}

/// Asserts that what was seen before the crash and what was read after it are the whole log.
async fn assert_halves_make_the_whole(world: &World, thread: &str, seen: &[Frame]) -> Vec<Frame> {
    let (mut halves, last) = durable(seen);
    let second = world.follow(thread, last).await.rest().await;
    halves.extend(second.iter().filter(|frame| frame.is_durable()).map(|frame| frame.raw.clone()));
    let log = world.log_of(thread).await;
    assert_complete(&log);
    assert_eq!(halves.concat(), log.iter().map(|frame| frame.raw.as_str()).collect::<String>());
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_kill_minus_nine_in_the_middle_of_a_tool_call() {
    let mut world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    let replies = [
        bash("echo begun > /workspace/begun; sleep 3; echo done >> /workspace/count")
            .after(Block::text("I will wait.")),
        Reply::text("I am through."),
    ];
    let mut stream = world.send(&thread, &replies).await;
    let mut seen = stream.until(|frame| frame.event == "response.item.created").await;
    eventually("the call has begun", Duration::from_secs(30), async || {
        world.file(&environment, "begun").await.is_some()
    })
    .await;
    world.kill();
    seen.extend(stream.rest().await);
    assert!(stream.is_broken() && !seen.iter().any(|frame| frame.event == "stream.completed"));

    world.start_again().await;
    let (status, took) = world.settled(&thread, RESUME_LIMIT).await;
    assert_eq!(status, "completed", "after {took:?}");

    let requests = world.claude.requests();
    assert_eq!(requests.len(), 2, "each turn was asked once");
    let asked = requests[1].asked.as_ref().expect("it was accepted");
    let told = asked.last_results().next().expect("the call was answered");
    assert!(told.is_error && told.text.contains("interrupted"), "{told:?}");

    let log = assert_halves_make_the_whole(&world, &thread, &seen).await;
    let last = log.last().expect("there is a log");
    assert_eq!((last.event.as_str(), &last.data["run"]["status"]), ("stream.completed", &json!("completed")));
    let content =
        log.iter().find(|frame| frame.event == "response.completed").map(|frame| &frame.data["response"]["content"]);
    assert_eq!(content, Some(&json!("I am through.")));
    // The command may have gone on beside the crash; then it did its work once.
    let container = world.container();
    eventually("the command is over", Duration::from_secs(10), async || container.commands().is_empty()).await;
    assert!(matches!(world.file(&environment, "count").await.as_deref(), None | Some("done\n")));
    world.finish().await;
}

/// One round: a thread with a run of several turns, a kill at a random moment, and what is true afterwards.
struct Round {
    lost: usize,
    doubled: usize,
    resumed_after: Duration,
}

async fn killed_once(world: &mut World, environment: &str, number: usize) -> Round {
    const CALLS: usize = 6;
    let slow = |reply: Reply| reply.with_fault(Fault { delta_delay_ms: 2, ..Fault::default() });
    let thread = world.thread(environment).await;
    let mut replies: Vec<Reply> = (0..CALLS)
        .map(|call| {
            slow(bash(&format!("echo {call} >> /workspace/round-{number}")).after(Block::text("Another line follows.")))
        })
        .collect();
    replies.push(slow(Reply::text("All lines are written, and this is the end of it.")));

    let moment = Duration::from_millis(rand::rng().random_range(0..450));
    let mut seen = Vec::new();
    let sent = Instant::now();
    let message = system_tests::message(&replies);
    let accepted = tokio::time::timeout(moment, world.try_send(&thread, &message)).await;
    let mut stream = match accepted {
        Ok(stream) => Some(stream.expect("the server lives")),
        Err(_) => None,
    };
    if let Some(stream) = &mut stream {
        while let Some(left) = moment.checked_sub(sent.elapsed())
            && let Ok(Some(frame)) = tokio::time::timeout(left, stream.next()).await
        {
            seen.push(frame);
        }
    }
    world.kill();
    if let Some(stream) = &mut stream {
        // What had been sent before is still in the socket.
        seen.extend(stream.rest().await);
    }
    world.start_again().await;
    let began = Instant::now();
    let (status, _) = world.settled(&thread, Duration::from_secs(20)).await;
    let resumed_after = began.elapsed();
    if stream.is_none() && status == "active" {
        // It was killed before it had accepted anything.
        return Round { lost: 0, doubled: 0, resumed_after };
    }
    assert_eq!(status, "completed", "round {number}, killed after {moment:?}");

    let log = assert_halves_make_the_whole(world, &thread, &seen).await;
    let (kept, _) = durable(&seen);
    let all: HashSet<&str> = log.iter().map(|frame| frame.raw.as_str()).collect();
    let lost = kept.iter().filter(|frame| !all.contains(frame.as_str())).count();
    let written = world.file(environment, &format!("round-{number}")).await.unwrap_or_default();
    let lines: Vec<&str> = written.lines().collect();
    let distinct: HashSet<&str> = lines.iter().copied().collect();
    // Each call was asked for once, and has one answer.
    let answers =
        log.iter().filter(|frame| frame.event == "response.item.completed" && !frame.data["item"]["id"].is_null());
    assert_eq!(answers.count(), CALLS, "round {number}");
    Round { lost, doubled: lines.len() - distinct.len(), resumed_after }
}

/// `ATELIER_TEST_KILLS` sets how many times; for many, use `cargo test`, which sets no limit of time.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_moments_loses_and_repeats_nothing() {
    let kills = std::env::var("ATELIER_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(15);
    let mut world = World::start().await;
    let environment = world.environment(false).await;
    // The first container takes longer than the rest of a run.
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let (mut lost, mut doubled, mut resumed) = (0, 0, Vec::new());
    for number in 0..kills {
        let round = killed_once(&mut world, &environment, number).await;
        lost += round.lost;
        doubled += round.doubled;
        resumed.push(round.resumed_after.as_millis() as u64);
    }
    resumed.sort_unstable();
    let at = |share: usize| resumed.get((resumed.len() * share / 100).min(resumed.len() - 1)).copied();
    let (p50, p99) = (at(50), at(99));
    let is_well = lost == 0 && doubled == 0;
    let report = json!({
        "test": "kill_minus_nine", "n": kills, "lost": lost, "dup": doubled, "p50": p50, "p99": p99, "pass": is_well,
    });
    println!("{report}");
    assert!(is_well, "{report}");
    assert!(p99 <= Some(RESUME_LIMIT.as_millis() as u64), "{report}");
    world.finish().await;
}
