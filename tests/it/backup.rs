//! Everything of an installation in one file, and back on an empty machine.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Job, World};

async fn steps(world: &World, thread: &str) -> Value {
    world.get(&format!("/v1/threads/{thread}/steps")).await["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_installation_has_every_thread_file_step_and_secret_and_goes_on() {
    let world = World::start().await;
    let body = json!({ "name": "kept", "secrets": [{ "key": "TOKEN", "value": "a-secret-value" }] });
    let made = world.post("/v1/environments", body).await;
    let environment = made["environment"]["id"].as_str().expect("an id").to_owned();
    let thread = world.thread(&environment).await;
    world.bash(&thread, "echo one > file; ln -s file link; chmod 750 file; truncate -s 1M hole").await;
    world.bash(&thread, "echo two >> file; printf %s \"$TOKEN\" | sha256sum > ~/sum").await;
    let (log, seen) = (world.log_of(&thread).await, steps(&world, &thread).await);
    assert_eq!(seen.as_array().map(Vec::len), Some(2), "{seen:#}");

    // While the server runs, and somebody works.
    let job = Job::new(&world, &environment, "job", 10).await.after("sleep 0.1; ");
    drop(world.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
    let file = world.data().with_file_name("backup");
    let run = |arguments: &[&str]| {
        let output = world.client(arguments).output().expect("atelier runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (file_text, data) = (file.to_str().expect("a path"), world.data());
    let data = data.to_str().expect("a path");
    let (code, said) = run(&["backup", file_text, "--data-dir", data]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    let (code, said) = run(&["backup", file_text, "--data-dir", data]);
    assert!(code == Some(1) && said.contains("is there already"), "{said}");
    let (code, said) = run(&["restore", file_text, "--data-dir", data]);
    assert!(code == Some(1) && said.contains("a server runs on"), "{said}");
    world.settled(&job.thread, Duration::from_secs(60)).await;
    let counted = job.count(&world).await;
    assert_eq!(counted.lost + counted.doubled + counted.stuck, 0, "a backup disturbs nobody: {counted:?}");

    let restored = World::restored(&file, &world.key).await;
    assert_eq!(
        restored.log_of(&thread).await.iter().map(|frame| &frame.raw).collect::<Vec<_>>(),
        log.iter().map(|frame| &frame.raw).collect::<Vec<_>>()
    );
    assert_eq!(steps(&restored, &thread).await, seen);
    assert_eq!(restored.file(&environment, "file").await.as_deref(), Some("one\ntwo\n"));
    let modes = "stat -c '%a %s %N' file hole link; printf %s \"$TOKEN\" | sha256sum | cmp - ~/sum && echo same";
    let (text, is_error) = restored.bash(&thread, modes).await;
    let said = "750 8 'file'\n644 1048576 'hole'\n777 4 'link' -> 'file'\nsame";
    assert_eq!((text.as_str(), is_error), (said, false));
    // The run that was under way goes on with what it had, or was over.
    restored.settled(&job.thread, Duration::from_secs(90)).await;
    assert_eq!(restored.status(&job.thread).await, "completed");
    // The history is there too: back to the first step, and the bytes are those of then.
    let step = seen.as_array().into_iter().flatten().min_by_key(|step| step["createdAt"].to_string()).expect("a step");
    let path = format!("/v1/threads/{thread}/steps/{}/revert", step["id"].as_str().expect("an id"));
    let answer = restored.call(Method::POST, &path, Some(json!({}))).await;
    assert!(answer.status < 300, "{answer:?}");
    restored.finish().await;
    world.finish().await;
}
