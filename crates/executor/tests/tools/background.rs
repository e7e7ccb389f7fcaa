//! Commands in the background.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, eventually};

/// Gives the id and the file that an answer names.
fn named(text: &str) -> (String, String) {
    let id = text.split_once("as task ").expect("an id").1[..9].to_owned();
    (id.clone(), format!("/tmp/atelier-tasks/{id}.output"))
}

#[tokio::test]
async fn a_background_command_is_read_and_stopped() {
    let world = World::new().await;
    world.bash("mkdir sub && cd sub").await;
    let command = "echo at $PWD; echo oops >&2; sleep 4321";
    let text = world.said("Bash", json!({"command": command, "run_in_background": true})).await;
    let (id, file) = named(&text);
    assert_eq!(
        text,
        format!(
            "The command runs in the background as task {id}. Its output goes to {file}: read that with Read. End the \
             task with TaskStop."
        )
    );
    let expected = "     1\tat /workspace/sub\n     2\toops";
    eventually(Duration::from_secs(10), async || world.said("Read", json!({"file_path": file})).await == expected)
        .await;
    // Another run of the thread knows the task too.
    let other = world.another_run();
    let stopped = world.call_in(&other, "TaskStop", json!({"task_id": id})).await.unwrap();
    assert_eq!(stopped.to_text(), format!("Stopped task {id}."));
    assert_eq!(world.processes("sleep 4321").await, 0);
    assert_eq!(world.said("TaskStop", json!({"task_id": id})).await, format!("Task {id} had already ended."));
    assert_eq!(world.said("Read", json!({"file_path": file})).await, expected);
}

#[tokio::test]
async fn wrong_tasks_are_refused() {
    let world = World::new().await;
    for id in ["b00000000", "", "../../etc", "task_1"] {
        assert_eq!(
            world.said("TaskStop", json!({"task_id": id})).await,
            format!("ERROR: There is no background task {id:?}.")
        );
    }
    assert_eq!(
        world.said("TaskStop", json!({})).await,
        "ERROR: The input of TaskStop is not valid: missing field `task_id`. Nothing was done."
    );
}

#[tokio::test]
async fn a_task_of_an_earlier_life_of_the_container_is_over() {
    let world = World::new().await;
    let text = world.said("Bash", json!({"command": "sleep 4321", "run_in_background": true})).await;
    let (id, _) = named(&text);
    world.sandbox().await;
    let name = format!("atelier-{}-{}", world.installation(), world.spec.environment);
    let restarted = std::process::Command::new("docker").args(["restart", "-t", "0", &name]).output().unwrap();
    assert!(restarted.status.success(), "{restarted:?}");
    // A new task gets the old one's number from the daemon.
    eventually(Duration::from_secs(10), async || {
        world.said("Bash", json!({"command": "sleep 1234", "run_in_background": true})).await.contains("as task")
    })
    .await;
    assert_eq!(world.said("TaskStop", json!({"task_id": id})).await, format!("Task {id} had already ended."));
    assert!(world.processes("sleep 1234").await > 0);
}

#[tokio::test]
async fn a_background_command_has_the_time_limit_it_was_given() {
    let world = World::new().await;
    let input = json!({"command": "echo x; sleep 4321", "run_in_background": true, "timeout": 200});
    world.said("Bash", input).await;
    eventually(Duration::from_secs(10), async || world.processes("sleep 4321").await == 0).await;
}
