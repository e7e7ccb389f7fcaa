//! What an environment takes of the disk is watched.

use std::{fs, time::Duration};

use domain::WorkspacePath;
use sandbox::{Error, Exit, Limits, Spec};

use crate::world::{World, bash, eventually, finish, run};

const MIB: u64 = 1024 * 1024;

fn limited(world: &World, mib: u64) -> Spec {
    Spec { limits: Some(Limits { disk_bytes: mib * MIB, ..Limits::default() }), ..world.spec() }
}

/// Writes 4 MiB every tenth of a second, for as long as it is let.
const FILL: &str = "for n in $(seq 1000); do head -c 4194304 /dev/zero > $DIR/fill.$n; sleep 0.1; done";

#[tokio::test]
async fn what_fills_the_disk_is_ended_wherever_it_writes_and_what_makes_room_goes_on() {
    let world = World::new().await;
    let sandbox = world.sandboxes.open(&limited(&world, 40)).await.expect("opens");
    for directory in ["/workspace", "$HOME", "/var/tmp"] {
        let mut filler = sandbox.spawn(bash(&FILL.replace("$DIR", directory))).await.expect("starts");
        let filled = tokio::spawn(async move { finish(&mut filler).await.2 });
        let mut overruns = Vec::new();
        eventually(Duration::from_secs(60), async || {
            overruns.extend(world.sandboxes.watch_disks().await.expect("an engine"));
            filled.is_finished()
        })
        .await;
        assert_eq!(filled.await.expect("no panic"), Exit::OverDisk, "{directory}");
        let first = &overruns[0];
        assert!(first.used.bytes > first.used.limit && first.used.limit == 40 * MIB, "{first:?}");
        assert!(first.killed == 1 && !first.is_for_reserve, "{first:?}");

        // Still over the limit: what removes files is not ended, however often we look.
        let remover = format!("for n in $(seq 20); do sleep 0.1; done; rm -f {directory}/fill.*; echo removed");
        let mut remover = sandbox.spawn(bash(&remover)).await.expect("starts");
        let removed = tokio::spawn(async move { finish(&mut remover).await });
        let mut more = Vec::new();
        eventually(Duration::from_secs(60), async || {
            more.extend(world.sandboxes.watch_disks().await.expect("an engine"));
            removed.is_finished()
        })
        .await;
        let (stdout, _, exit) = removed.await.expect("no panic");
        assert_eq!((stdout.as_str(), exit), ("removed\n", Exit::Code(0)), "{directory}: {more:?}");
        let within = async || {
            world.sandboxes.watch_disks().await.expect("an engine");
            world.sandboxes.disk_bytes(&world.environment).is_some_and(|bytes| bytes < 40 * MIB)
        };
        eventually(Duration::from_secs(60), within).await;
    }
}

#[tokio::test]
async fn what_grows_most_is_ended_when_the_disk_is_nearly_full() {
    // No disk has as much.
    let world = World::with(|options| options.disk_reserve = u64::MAX).await;
    let sandbox = world.open().await;
    world.sandboxes.watch_disks().await.expect("an engine");
    let mut filler = sandbox.spawn(bash(&FILL.replace("$DIR", "/workspace"))).await.expect("starts");
    let filled = tokio::spawn(async move { finish(&mut filler).await.2 });
    let mut overruns = Vec::new();
    eventually(Duration::from_secs(60), async || {
        overruns.extend(world.sandboxes.watch_disks().await.expect("an engine"));
        filled.is_finished()
    })
    .await;
    assert_eq!(filled.await.expect("no panic"), Exit::OverDisk);
    assert!(overruns.iter().all(|overrun| overrun.is_for_reserve), "{overruns:?}");
    // An environment that does not grow is left alone.
    let mut quiet = sandbox.spawn(bash("sleep 1; echo unharmed")).await.expect("starts");
    let quiet = tokio::spawn(async move { finish(&mut quiet).await.0 });
    eventually(Duration::from_secs(60), async || {
        world.sandboxes.watch_disks().await.expect("an engine");
        quiet.is_finished()
    })
    .await;
    assert_eq!(quiet.await.expect("no panic"), "unharmed\n");
}

#[tokio::test]
async fn files_are_written_up_to_the_limit_and_not_beyond_whoever_writes_at_once() {
    let world = World::new().await;
    let (sandboxes, environment) = (&world.sandboxes, &world.environment);
    let chunk = bytes::Bytes::from(vec![7; MIB as usize]);
    // 20 writers of 1 MiB each where 10 fit.
    let writes = (0..20).map(async |n| {
        let workspace = sandboxes.writable(environment, 10 * MIB + MIB / 2).await?;
        let path: WorkspacePath = WorkspacePath::parse(&format!("f{n}")).expect("a path");
        let mut upload = workspace.upload(&path).await?;
        upload.write(chunk.clone()).await?;
        upload.commit().await
    });
    let results = futures::future::join_all(writes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(Error::DiskLimit))), "{results:?}");
    let root = sandboxes.directories(environment).expect("made").workspace;
    let names = fs::read_dir(root).expect("readable").count();
    assert_eq!(names, 10, "a refused file leaves nothing");
    // What somebody removed can be written again, once it has been looked.
    let sandbox = sandboxes.open(&limited(&world, 10)).await.expect("opens");
    run(&sandbox, "rm -f /workspace/*").await;
    eventually(Duration::from_secs(30), async || {
        sandboxes.watch_disks().await.expect("an engine");
        let workspace = sandboxes.writable(environment, 10 * MIB).await.expect("readable");
        let mut upload = workspace.upload(&WorkspacePath::parse("again").expect("a path")).await.expect("begins");
        upload.write(chunk.clone()).await.is_ok()
    })
    .await;
}
