//! Stop stops: whatever a command did to live on.

use std::time::Duration;

use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually};

/// Commands that outlive a naive kill. Each holds the word by which it is found.
const STUBBORN: [(&str, &str); 6] = [
    ("sleep", "sleep 90001"),
    ("nohup", "nohup sleep 90002 >/dev/null 2>&1 & sleep 90003"),
    ("setsid", "setsid -f sleep 90004 </dev/null >/dev/null 2>&1; setsid --wait sleep 90005"),
    (
        "double fork",
        "( ( sleep 90006 & ) & ); python3 -c 'import os,time\nif os.fork()==0:\n os.setsid()\n if os.fork()==0:\n  time.sleep(90007)\n os._exit(0)\ntime.sleep(90008)'",
    ),
    ("trap", "trap '' TERM INT HUP QUIT; while :; do sleep 90009; done"),
    ("children without end", "for n in 1 2 3 4 5 6 7 8; do (trap '' TERM; while :; do sleep 0.01; done) & done; wait"),
];

#[tokio::test(flavor = "multi_thread")]
async fn stop_really_stops() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "true").await;
    let container = world.container();
    for (name, command) in STUBBORN {
        let replies = [Reply::tool("Bash", json!({ "command": command })), Reply::text("It went on.")];
        let mut stream = world.send(&thread, &replies).await;
        eventually("the command runs", Duration::from_secs(10), async || {
            container
                .commands()
                .iter()
                .any(|line| line.split_whitespace().any(|word| word == "sleep" || word == "python3"))
        })
        .await;
        let cancelled = world.post(&format!("/v1/threads/{thread}/cancel"), json!({})).await;
        assert_eq!(cancelled["cancelled"], true, "{name}");
        let mut left = Vec::new();
        let took = eventually(&format!("{name}: every process is gone"), Duration::from_secs(2), async || {
            left = container.commands();
            left.is_empty()
        })
        .await;
        println!("{name}: gone after {took:?}");
        let frames = stream.rest().await;
        let last = frames.last().expect("the stream ends");
        assert_eq!(
            (last.event.as_str(), &last.data["run"]["status"]),
            ("stream.completed", &json!("cancelled")),
            "{name}"
        );
        assert!(!frames.iter().any(|frame| frame.event == "stream.error"), "{name}: cancelling is no error");
        assert_eq!(world.status(&thread).await, "cancelled", "{name}");
        // Nothing that was killed comes back, and the thread goes on.
        assert_eq!(world.bash(&thread, "echo here").await, ("here".to_owned(), false), "{name}");
        assert_eq!(container.commands(), Vec::<String>::new(), "{name}");
        assert_eq!(world.container(), container, "{name}: the container stays");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_the_model_thinks_ends_the_run_at_once() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    world.claude.pause();
    let mut stream = world.send(&thread, &[Reply::text("too late")]).await;
    world.claude.wait_for_requests(1).await;
    world.post(&format!("/v1/threads/{thread}/cancel"), json!({})).await;
    let frames = tokio::time::timeout(Duration::from_secs(2), stream.rest()).await.expect("it ends within 2 s");
    assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("cancelled")));
    world.claude.resume();
    let answer = world.call(reqwest::Method::POST, &format!("/v1/threads/{thread}/cancel"), None).await;
    assert_eq!((answer.status, answer.json()["error"].clone()), (400, json!("Bad Request")));
    let frames = world.run(&thread, &[Reply::text("again")]).await;
    assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("completed")));
    world.finish().await;
}
