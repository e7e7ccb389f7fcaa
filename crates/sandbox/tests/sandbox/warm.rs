//! Containers that wait: given to one environment each, with its files and its limits, and to no other.

use std::{collections::HashSet, process::Command, time::Duration};

use bollard::Docker;
use domain::{EnvironmentId, WorkspacePath, environment::ComputeProfile};
use sandbox::{Sandboxes, Spec};
use tokio::task::JoinHandle;

use crate::world::{World, eventually, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A world in which one container of each kind waits; `None` where this server may not mount.
async fn warm_world() -> Option<(World, JoinHandle<()>)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let world = World::with(|options| options.warm = 1).await;
    let sandboxes = world.sandboxes.clone();
    let keeper = tokio::spawn(async move { sandboxes.keep_warm().await });
    eventually(LIMIT, async || world.sandboxes.warm() >= 1).await;
    Some((world, keeper))
}

/// Ends the keeping, so that nothing is made while the world is taken apart.
async fn end(keeper: JoinHandle<()>) {
    keeper.abort();
    let _ = keeper.await;
}

/// Lists the ids of the containers that wait.
fn waiting(world: &World) -> HashSet<String> {
    let name = format!("name=atelier-{}.warm.", world.options.installation);
    let output = Command::new("docker").args(["ps", "-q", "--no-trunc", "--filter", &name]).output().expect("docker");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

async fn put(sandboxes: &Sandboxes, environment: &EnvironmentId, path: &str, content: &'static str) {
    let workspace = sandboxes.workspace(environment).expect("opens");
    let mut upload = workspace.upload(&WorkspacePath::parse(path).expect("valid")).await.expect("begins");
    upload.write(content.into()).await.expect("writes");
    upload.commit().await.expect("is there");
}

#[tokio::test]
async fn one_that_waits_gets_the_files_and_the_limits_of_its_environment_and_no_other() {
    let Some((world, keeper)) = warm_world().await else { return };
    put(&world.sandboxes, &world.environment, "before", "uploaded\n").await;
    let waited = waiting(&world);
    let lite = world.sandboxes.limits_of(Some(ComputeProfile::Lite));
    let spec = Spec { limits: Some(lite), ..world.spec() };
    let began = std::time::Instant::now();
    let sandbox = world.sandboxes.open(&spec).await.expect("opens");
    assert_eq!(run(&sandbox, "echo first").await.0, "first\n");
    println!("{{\"test\": \"warm\", \"first_call_ms\": {}}}", began.elapsed().as_millis());
    assert!(waited.contains(sandbox.container()), "it waited");
    assert_eq!(run(&sandbox, "cat before; pwd; echo x > made; echo x > ~/made").await.0, "uploaded\n/workspace\n");
    let root = world.options.data_dir.join("environments").join(world.environment.as_str());
    assert!(
        root.join("workspace/made").exists() && root.join("home/made").exists(),
        "they are the environment's files"
    );
    // Skills can be put into it like into any other, and only be read there.
    let file =
        domain::skill::SkillFile { path: "f".into(), content: b"skill\n".into(), language: None, is_executable: false };
    world.sandboxes.put_skill(&spec, "a-1", vec![file]).await.expect("is put");
    let said =
        run(&sandbox, "cat /skills/a-1/f; { echo x > /skills/a-1/f || touch /skills/b || echo kept; } 2>/dev/null")
            .await
            .0;
    assert_eq!(said, "skill\nkept\n");
    let engine = Docker::connect_with_defaults().expect("an engine");
    let host = engine.inspect_container(sandbox.container(), None).await.expect("is there").host_config.expect("known");
    assert_eq!((host.memory, host.pids_limit), (Some(lite.memory_bytes as i64), Some(i64::from(lite.pids))));
    let status = world.sandboxes.status(&world.environment).await.expect("known");
    assert_eq!(
        (status.container.as_deref(), status.memory_limit_bytes),
        (Some(sandbox.container()), Some(lite.memory_bytes))
    );

    // Another environment has another container, and nothing of the first.
    eventually(LIMIT, async || !waiting(&world).is_empty() && world.sandboxes.warm() >= 1).await;
    let other = Spec { environment: EnvironmentId::generate(), ..world.spec() };
    let second = world.sandboxes.open(&other).await.expect("opens");
    assert_ne!(second.container(), sandbox.container());
    assert_eq!(
        run(&second, "ls -A /workspace ~").await.0,
        "/root:\n\n/workspace:\n".replace("/root", &home(&second).await)
    );

    // Another process takes it as it is, and one that is stopped comes back with all it had.
    run(&sandbox, "echo installed > /opt/tool").await;
    let process = Sandboxes::connect(world.options.clone()).await.expect("an engine");
    assert_eq!(process.open(&spec).await.expect("adopts").container(), sandbox.container());
    engine.stop_container(sandbox.container(), None).await.expect("stops");
    assert!(sandbox.read_file("/workspace/made", 0, 1).await.is_err());
    let again = world.sandboxes.open(&spec).await.expect("opens");
    assert_eq!(again.container(), sandbox.container());
    assert_eq!(run(&again, "cat before /opt/tool ~/made").await.0, "uploaded\ninstalled\nx\n");

    // With other limits it is made anew; the files stay.
    let rebuilt = world.sandboxes.open(&Spec { limits: None, ..spec.clone() }).await.expect("opens");
    assert_ne!(rebuilt.container(), sandbox.container());
    assert_eq!(run(&rebuilt, "cat before ~/made").await.0, "uploaded\nx\n");
    end(keeper).await;
}

async fn home(sandbox: &sandbox::Sandbox) -> String {
    run(sandbox, "echo ~").await.0.trim().to_owned()
}

#[tokio::test]
async fn those_of_a_process_that_is_gone_are_removed_and_those_of_environments_are_not() {
    let Some((world, keeper)) = warm_world().await else { return };
    let kept = world.open().await;
    eventually(LIMIT, async || world.sandboxes.warm() >= 1).await;
    end(keeper).await;
    let waited = waiting(&world);
    assert!(!waited.is_empty());
    let wanted = HashSet::from([world.environment.clone()]);
    // Our own are let alone.
    assert_eq!(world.sandboxes.reconcile(&wanted).await.expect("reconciles").removed, Vec::<String>::new());
    assert_eq!(waiting(&world), waited);
    let next = Sandboxes::connect(world.options.clone()).await.expect("an engine");
    let removed: HashSet<String> = next.reconcile(&wanted).await.expect("reconciles").removed.into_iter().collect();
    assert_eq!(removed, waited);
    assert_eq!(run(&kept, "echo x > file; cat file").await.0, "x\n", "its bay is still there");
    let bays = std::fs::read_dir(world.options.data_dir.join("bays")).expect("lists").count();
    assert_eq!(bays, 1, "the others went with their containers");
}
