//! Stopping: what is left, what goes on afterwards.

use std::time::Duration;

use reqwest::Method;
use scripted_claude::Reply;
use serde_json::json;
use system_tests::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_leaves_no_postgres_and_its_run_goes_on_at_the_next_start() {
    let mut world = World::with(&[("RUNS__DRAIN", "1s")]).await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    let call = Reply::tool("Bash", json!({ "command": "touch begun; sleep 60; touch ended" }));
    let mut stream = world.send(&thread, &[call, Reply::text("Went on.")]).await;
    eventually("the call has begun", Duration::from_secs(30), async || {
        world.file(&environment, "begun").await.is_some()
    })
    .await;
    assert!(world.processes().iter().any(|process| process.contains("postgres")), "there is one to be left");
    let status = world.stop().await;
    assert!(status.success(), "{status}");
    assert_eq!(world.processes(), Vec::<String>::new());
    let frames = stream.rest().await;
    assert!(!frames.iter().any(|frame| frame.event == "stream.completed"), "the run is not over");

    world.start_again().await;
    let (status, _) = world.settled(&thread, Duration::from_secs(5)).await;
    assert_eq!(status, "completed");
    assert_eq!(world.file(&environment, "ended").await, None);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_ends_a_running_server_and_its_containers_and_keeps_the_data() {
    let mut world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    world.bash(&thread, "echo kept > kept; (sleep 1000 >/dev/null 2>&1 &)").await;
    assert_eq!(world.containers().len(), 1);
    let mut down = world.atelier(&["down"]);
    let output = tokio::task::spawn_blocking(move || down.output()).await.expect("runs").expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.ended().await.success());
    assert_eq!(world.processes(), Vec::<String>::new());
    assert_eq!(world.containers(), Vec::new());

    world.start_again().await;
    assert_eq!(world.file(&environment, "kept").await.as_deref(), Some("kept\n"));
    assert_eq!(world.bash(&thread, "cat kept").await, ("kept".to_owned(), false));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_never_share_a_data_directory() {
    let world = World::start().await;
    let output = world.atelier(&["serve", "--listen", "127.0.0.1:0"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another server"), "{said}");
    assert_eq!(world.call(Method::GET, "/health", None).await.status, 200);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_beside_the_server_opens_it_until_it_is_revoked() {
    let mut world = World::start().await;
    let made = world.atelier(&["keys", "create", "--name", "second"]).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8(made.stdout).expect("text").trim().to_owned();
    assert!(key.starts_with("tb_"), "{key}");
    world.key.clone_from(&key);
    world.get("/v1/agents").await;
    let revoked = world.atelier(&["keys", "revoke", &key[..11]]).output().expect("runs");
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    eventually("the key is useless", Duration::from_secs(1), async || {
        world.call(Method::GET, "/v1/agents", None).await.status == 401
    })
    .await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_comes_back_and_the_run_is_not_lost() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    let call =
        Reply::tool("Bash", json!({ "command": "touch begun; until [ -e go ]; do sleep 0.05; done; echo went" }));
    let mut stream = world.send(&thread, &[call, Reply::text("Through.")]).await;
    eventually("the call has begun", Duration::from_secs(30), async || {
        world.file(&environment, "begun").await.is_some()
    })
    .await;
    let processes = world.processes();
    let postmaster = processes.iter().find(|process| process.contains("-D")).expect("a postmaster");
    let pid = postmaster.split(' ').next().expect("a pid").to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().expect("runs").success());
    let upload = format!("/v1/environments/{environment}/files/mkdir");
    eventually("the database is back", Duration::from_secs(10), async || {
        let answer = world.call(Method::POST, &upload, Some(json!({ "path": "go" }))).await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        assert!(!answer.text.contains(&*world.data().to_string_lossy()), "{answer:?}");
        answer.status == 200
    })
    .await;
    let (status, _) = world.settled(&thread, Duration::from_secs(20)).await;
    assert_eq!(status, "completed");
    stream.rest().await;
    let log = world.log_of(&thread).await;
    system_tests::assert_complete(&log);
    world.finish().await;
}
