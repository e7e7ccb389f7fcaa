//! kill -9 of the server at the worst moment: in the middle of a call.

use std::time::Duration;

use scripted_claude::{Block, Reply};
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
