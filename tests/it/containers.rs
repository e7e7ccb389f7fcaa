//! The container is cattle, the workspace is not.

use std::time::Duration;

use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_removed_in_the_middle_of_a_call_is_a_tool_error_and_the_run_goes_on() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    let bash = |command: &str| Reply::tool("Bash", json!({ "command": command }));
    let replies = [
        bash("mkdir -p deep/er && echo kept > deep/er/file && echo home > ~/note && sleep 90"),
        bash("cat deep/er/file ~/note"),
        Reply::text("I went on."),
    ];
    let mut stream = world.send(&thread, &replies).await;
    eventually("the call has begun", Duration::from_secs(30), async || {
        world.file(&environment, "deep/er/file").await.is_some()
            && world
                .containers()
                .iter()
                .any(|container| container.commands().iter().any(|line| line.contains("sleep 90")))
    })
    .await;
    let container = world.container();
    container.remove();
    let frames = stream.rest().await;
    assert_eq!(frames.last().map(|frame| &frame.data["run"]["status"]), Some(&json!("completed")), "{frames:#?}");
    assert_ne!(world.container(), container, "there is a new one");

    let requests = world.claude.requests();
    let results: Vec<_> = requests.last().and_then(|request| request.asked.clone()).expect("asked").results;
    assert_eq!(results.len(), 2);
    assert!(results[0].is_error && !results[0].text.trim().is_empty(), "the model is told: {results:?}");
    assert_eq!((results[1].text.as_str(), results[1].is_error), ("kept\nhome", false));
    assert_eq!(world.file(&environment, "deep/er/file").await.as_deref(), Some("kept\n"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_agent_are_read_while_its_container_runs_and_after_it_is_gone() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "printf 'a b' > 'ü #?.txt'; ln -s /etc/passwd outside; ln -s 'ü #?.txt' inside").await;
    for _ in 0..2 {
        assert_eq!(world.file(&environment, "%C3%BC%20%23%3F.txt").await.as_deref(), Some("a b"));
        assert_eq!(world.file(&environment, "inside").await.as_deref(), Some("a b"));
        let path = format!("/v1/environments/{environment}/files/download/outside");
        let answer = world.call(reqwest::Method::GET, &path, None).await;
        assert!((400..500).contains(&answer.status) && !answer.text.contains("root:"), "{answer:?}");
        world.post(&format!("/v1/environments/{environment}/stop"), json!({})).await;
        assert_eq!(world.containers().iter().filter(|container| !container.commands().is_empty()).count(), 0);
    }
    world.finish().await;
}
