//! An environment's two containers: its own, and the one for runs without its network.

use std::{collections::HashSet, time::Duration};

use sandbox::{Error, Network, Sandbox, Sandboxes, Spec};

use crate::world::{World, bash, eventually, finish, processes, run};

/// Opens both. Where no rules can be set the first has internet unfiltered: nothing here uses it.
async fn both(world: &World) -> (Sandbox, Sandbox) {
    let open = world.sandboxes.open(&Spec { network: Network::Open, ..world.spec() }).await.expect("opens");
    let offline = world.sandboxes.open(&Spec { network: Network::Withheld, ..world.spec() }).await.expect("opens");
    (open, offline)
}

async fn world() -> World {
    World::with(|options| options.allow_unfiltered_egress = true).await
}

#[tokio::test]
async fn a_run_without_network_leaves_the_container_of_others_alone() {
    let world = world().await;
    let (open, offline) = both(&world).await;
    let waits = sandbox::Command { stdin: true, ..bash("echo begun; read line; echo $line") };
    let mut busy = open.spawn(waits).await.expect("starts");
    assert_eq!(busy.next().await.expect("lives").expect("output").bytes, "begun\n");
    // Each is opened again beside the other, and neither is rebuilt.
    let (open_again, offline_again) = both(&world).await;
    assert_eq!((open_again.container(), offline_again.container()), (open.container(), offline.container()));
    assert_ne!(open.container(), offline.container());
    assert_eq!(run(&offline, "ls /sys/class/net").await.0, "lo\n");
    assert_eq!(run(&open, "ls /sys/class/net | sort").await.0, "eth0\nlo\n");

    run(&offline, "echo mine > mine; echo home > ~/mine").await;
    assert_eq!(run(&open, "cat mine ~/mine").await.0, "mine\nhome\n");
    busy.write_stdin(b"undisturbed\n").await.expect("takes it");
    assert_eq!(finish(&mut busy).await.0, "undisturbed\n");
    assert_eq!(world.sandboxes.find(&world.environment).await.expect("runs").container(), open.container());
    assert_eq!(
        world.sandboxes.status(&world.environment).await.expect("known").container.as_deref(),
        Some(open.container())
    );

    assert!(world.sandboxes.stop(&world.environment).await.expect("stops"));
    for sandbox in [&open, &offline] {
        assert!(matches!(sandbox.spawn(bash("true")).await, Err(Error::Gone)));
    }
    both(&world).await;
    world.sandboxes.remove(&world.environment).await.expect("removes");
    assert!(!world.options.data_dir.join("environments").join(world.environment.as_str()).exists());
    assert_eq!(world.sandboxes.stop_all().await.expect("stops"), 0);
}

#[tokio::test]
async fn a_group_is_killed_in_every_container_also_after_a_restart() {
    let world = world().await;
    let (open, offline) = both(&world).await;
    for sandbox in [&open, &offline] {
        sandbox.start_background(bash("setsid sleep 1000 & sleep 1000"), "/tmp/out").await.expect("starts");
        eventually(Duration::from_secs(5), async || processes(sandbox).await >= 3).await;
    }
    let restarted = Sandboxes::connect(world.options.clone()).await.expect("an engine");
    assert_eq!(restarted.kill_group(&world.environment, "run_other").await.expect("asks"), 0);
    assert_eq!(restarted.kill_group(&world.environment, "run_test").await.expect("kills"), 2);
    for sandbox in [&open, &offline] {
        assert_eq!(processes(sandbox).await, 0);
        sandbox.start_background(bash("sleep 1000"), "/tmp/out").await.expect("starts");
    }
    // By one that knows them, too.
    assert_eq!(world.sandboxes.kill_group(&world.environment, "run_test").await.expect("kills"), 2);

    // Nothing is started for it.
    world.sandboxes.stop(&world.environment).await.expect("stops");
    for sandboxes in [&world.sandboxes, &restarted] {
        assert_eq!(sandboxes.kill_group(&world.environment, "run_test").await.expect("asks"), 0);
        assert!(!sandboxes.status(&world.environment).await.expect("known").is_running);
    }
}

#[tokio::test]
async fn both_containers_are_stopped_when_idle_and_removed_when_unwanted() {
    let world = World::with(|options| {
        options.allow_unfiltered_egress = true;
        options.idle_stop = Duration::from_millis(300);
    })
    .await;
    let (open, offline) = both(&world).await;
    let wanted = HashSet::from([world.environment.clone()]);
    let mut stopped = 0;
    eventually(Duration::from_secs(10), async || {
        stopped += world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped.len();
        stopped == 2
    })
    .await;
    // A server that has not opened them does not take them for new.
    let restarted = Sandboxes::connect(world.options.clone()).await.expect("an engine");
    let removed = restarted.reconcile(&HashSet::new()).await.expect("reconciles").removed;
    let both = HashSet::from([open.container().to_owned(), offline.container().to_owned()]);
    assert_eq!(removed.into_iter().collect::<HashSet<_>>(), both);
}
