//! A container that ends in the middle.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, eventually};

fn kill(world: &World) {
    let name = format!("atelier-{}-{}", world.installation(), world.spec.environment);
    let killed = std::process::Command::new("docker").args(["rm", "-f", &name]).output().unwrap();
    assert!(killed.status.success(), "{killed:?}");
}

const RESTARTED: &str = "ERROR: The computer was restarted while this call ran. Processes that ran there are gone; files \
                         are kept. Whether the call had an effect is unknown: look before you repeat it.";

#[tokio::test]
async fn what_has_no_effect_is_done_again_on_a_fresh_computer() {
    let world = World::new().await;
    world.bash("echo kept > /workspace/file").await;
    for (name, input, expected) in [
        ("Read", json!({"file_path": "/workspace/file"}), "     1\tkept"),
        ("Glob", json!({"pattern": "f*"}), "/workspace/file"),
        ("Grep", json!({"pattern": "kept"}), "Found 1 file\n/workspace/file"),
        ("Write", json!({"file_path": "/workspace/new", "content": "x"}), "Created /workspace/new."),
    ] {
        kill(&world);
        assert_eq!(world.said(name, input).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_command_is_not_repeated_and_the_model_is_told() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let call = world.bash("echo once >> /workspace/count; sleep 4321");
    let killing = async {
        eventually(Duration::from_secs(10), async || sandbox.read_file("/workspace/count", 0, 1).await.is_ok()).await;
        kill(&world);
    };
    let (text, ()) = tokio::join!(call, killing);
    assert_eq!(text, RESTARTED);
    assert_eq!(world.bash("cat count").await, "once");
}
