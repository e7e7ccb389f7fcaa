//! Containers come, change and go; files stay.

use std::{collections::HashSet, time::Duration};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder},
};
use domain::{EnvironmentId, environment::ComputeProfile};
use sandbox::{Error, Exit, Limits, Sandboxes, Sizes, Spec};

use crate::world::{World, bash, eventually, finish, run};

async fn engine() -> Docker {
    Docker::connect_with_defaults().expect("an engine").negotiate_version().await.expect("an engine")
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_leaves_no_container_behind() {
    let world = World::new().await;
    world.open().await;
    // Given up in another moment each time: while the image is looked up, the container made, started, asked.
    let mut environments = Vec::new();
    for milliseconds in (0..40).step_by(2) {
        let spec = Spec { environment: EnvironmentId::generate(), ..world.spec() };
        let given_up = tokio::time::timeout(Duration::from_millis(milliseconds), world.sandboxes.open(&spec)).await;
        world.sandboxes.remove(&spec.environment).await.expect("removes");
        environments.push((spec.environment, given_up.is_err()));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (nth, (environment, is_given_up)) in environments.iter().enumerate() {
        let status = world.sandboxes.status(environment).await.expect("known");
        assert_eq!(status.container, None, "after {} ms, given up: {is_given_up}", 2 * nth);
    }
    assert!(environments.iter().any(|(_, is_given_up)| *is_given_up));
}

#[tokio::test]
async fn concurrent_opens_share_one_container() {
    let world = World::new().await;
    let spec = world.spec();
    assert!(world.sandboxes.find(&world.environment).await.is_none());
    let opened = futures::future::join_all((0..8).map(|_| world.sandboxes.open(&spec))).await;
    let containers: HashSet<String> =
        opened.into_iter().map(|sandbox| sandbox.expect("opens").container().to_owned()).collect();
    assert_eq!(containers.len(), 1);
    let status = world.sandboxes.status(&world.environment).await.expect("known");
    assert!(status.is_running && status.started_at.is_some() && status.last_used_at.is_some());
    assert_eq!(status.memory_limit_bytes, Some(world.options.sizes.standard.memory_bytes));
    assert!(status.memory_bytes.is_some_and(|bytes| bytes > 0) && status.cpu_time.is_some());
    assert!(world.sandboxes.stop(&world.environment).await.expect("stops"));
    assert!(!world.sandboxes.stop(&world.environment).await.expect("nothing to stop"));
    assert!(!world.sandboxes.status(&world.environment).await.expect("known").is_running);
}

#[tokio::test]
async fn a_changed_spec_rebuilds_the_container_and_keeps_the_files() {
    let world = World::new().await;
    let sandbox = world.open().await;
    run(&sandbox, "echo kept > file; echo kept > ~/file; echo lost > /tmp/file").await;
    let spec = Spec { env: vec![("A".to_owned(), "1".to_owned())], ..world.spec() };
    let rebuilt = world.sandboxes.open(&spec).await.expect("opens");
    assert_ne!(rebuilt.container(), sandbox.container());
    assert_eq!(run(&rebuilt, "cat file ~/file; ls /tmp/file; echo $A").await.0.matches("kept\n").count(), 2);
    assert!(matches!(sandbox.spawn(bash("true")).await, Ok(_) | Err(Error::Gone)));
    // Another process with the same wish takes it as it is.
    let other = Sandboxes::connect(world.options.clone()).await.expect("an engine");
    assert_eq!(other.open(&spec).await.expect("adopts").container(), rebuilt.container());
}

#[tokio::test]
async fn a_container_killed_in_the_middle_is_gone_and_can_be_opened_again() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut process = sandbox.spawn(bash("echo begun; sleep 1000")).await.expect("starts");
    assert_eq!(process.next().await.expect("lives").expect("output").bytes, "begun\n");
    engine().await.kill_container(sandbox.container(), None).await.expect("killed");
    assert!(matches!(process.next().await, Err(Error::Gone)));
    assert!(matches!(sandbox.read_file("/etc/passwd", 0, 1).await, Err(Error::Gone)));
    assert!(world.sandboxes.find(&world.environment).await.is_none());
    let sandbox = world.open().await;
    assert_eq!(run(&sandbox, "echo again").await, ("again\n".to_owned(), Exit::Code(0)));
}

#[tokio::test]
async fn a_container_whose_daemon_was_replaced_is_rebuilt() {
    let world = World::new().await;
    let sandbox = world.open().await;
    // What a hostile program would do: a socket that leads to the host's engine, as a link.
    run(&sandbox, "cd /run/atelier && rm guestd.sock && ln -s /var/run/docker.sock guestd.sock").await;
    assert!(matches!(sandbox.spawn(bash("true")).await, Err(Error::Gone)));
    let rebuilt = world.open().await;
    assert_ne!(rebuilt.container(), sandbox.container());
    assert_eq!(run(&rebuilt, "echo fine").await.0, "fine\n");
    // One that answers everything with noise.
    let script = "cd /run/atelier && rm guestd.sock && (python3 -c \"
import socket
s = socket.socket(socket.AF_UNIX); s.bind('guestd.sock'); s.listen(8); open('/tmp/up', 'w')
while True: s.accept()[0].sendall(b'\\xff' * 100000)\" &) ; until test -e /tmp/up; do sleep 0.01; done";
    run(&rebuilt, script).await;
    assert!(rebuilt.spawn(bash("true")).await.is_err());
}

#[tokio::test]
async fn a_missing_image_and_a_failing_start_say_what_is_wrong() {
    let world = World::with(|options| options.images = vec!["no-such-*".to_owned()]).await;
    let spec = Spec { image: Some("no-such-image:1".to_owned()), ..world.spec() };
    assert!(matches!(world.sandboxes.open(&spec).await, Err(Error::NoImage(name)) if name == "no-such-image:1"));

    let broken = World::with(|options| options.guestd = "/bin/false".into()).await;
    let failed = broken.sandboxes.open(&broken.spec()).await;
    assert!(matches!(failed, Err(Error::StartFailed { .. })), "{failed:?}");
    assert!(!broken.sandboxes.status(&broken.environment).await.expect("known").is_running);
}

#[tokio::test]
async fn only_images_that_the_operator_names_are_used() {
    let world = World::new().await;
    // It is there, under a name that does not say so.
    let id = engine().await.inspect_image(&world.options.image).await.expect("is there").id.expect("known");
    for image in [id.as_str(), "postgres:17", "docker.io/library/atelier-workspace:latest"] {
        let spec = Spec { image: Some(image.to_owned()), ..world.spec() };
        let refused = world.sandboxes.open(&spec).await;
        assert!(matches!(&refused, Err(Error::ImageRefused(name)) if name == image), "{refused:?}");
    }
    let named = Spec { image: Some(world.options.image.clone()), ..world.spec() };
    world.sandboxes.open(&named).await.expect("the default may be named");
}

#[tokio::test]
async fn a_computer_has_what_the_operator_gives_its_size_and_no_more() {
    let limits = |mib: u64, cpus: f64, pids| Limits { memory_bytes: mib << 20, cpus, pids, ..Limits::default() };
    let sizes = Sizes {
        lite: limits(64, 0.25, 50),
        standard: limits(96, 0.5, 60),
        power: limits(128, 0.75, 70),
        desktop: limits(160, 1.0, 80),
    };
    let world = World::with(|options| options.sizes = sizes).await;
    let mut held = Vec::new();
    for (profile, expected) in [
        (Some(ComputeProfile::Lite), sizes.lite),
        (None, sizes.standard),
        (Some(ComputeProfile::Power), sizes.power),
        (Some(ComputeProfile::Desktop), sizes.desktop),
    ] {
        assert_eq!(world.sandboxes.limits_of(profile), expected, "{profile:?}");
        let spec = Spec { limits: Some(expected), ..world.spec() };
        let sandbox = world.sandboxes.open(&spec).await.expect("opens");
        let engine = engine().await.inspect_container(sandbox.container(), None).await.expect("is there");
        let host = engine.host_config.expect("known");
        held.push((host.memory, host.memory_swap, host.nano_cpus, host.pids_limit));
        let status = world.sandboxes.status(&world.environment).await.expect("known");
        assert_eq!(status.memory_limit_bytes, Some(expected.memory_bytes));
    }
    let told = |limits: Limits| {
        let memory = Some(limits.memory_bytes as i64);
        (memory, memory, Some((limits.cpus * 1e9) as i64), Some(i64::from(limits.pids)))
    };
    assert_eq!(held, [sizes.lite, sizes.standard, sizes.power, sizes.desktop].map(told));
}

#[tokio::test]
async fn a_daemon_that_never_answers_is_given_up_with_its_last_words() {
    let scripts = tempfile::tempdir().expect("a directory");
    let script = scripts.path().join("guestd");
    std::fs::write(&script, "#!/bin/sh\necho not today >&2\nexec sleep 1000\n").expect("writes");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("sets");
    let world = World::with(|options| {
        options.guestd = script;
        options.start_deadline = Duration::from_secs(1);
    })
    .await;
    let failed = world.sandboxes.open(&world.spec()).await;
    assert!(matches!(failed, Err(Error::StartFailed { log, .. }) if log == "not today\n"));
}

#[tokio::test]
async fn an_unprivileged_user_has_a_home_and_owns_its_files() {
    if !rustix::process::geteuid().is_root() {
        // Then every other test is this one.
        return;
    }
    let world = World::with(|options| options.user = "1234:1234".to_owned()).await;
    let sandbox = world.open().await;
    let (output, exit) =
        run(&sandbox, "set -e; id -u; cd; pwd; echo x > a; echo x > /workspace/a; stat -c %u a /workspace/a").await;
    assert_eq!((output.as_str(), exit), ("1234\n/home/agent\n1234\n1234\n", Exit::Code(0)));
    assert!(sandbox.write_file("/workspace/b", b"x").await.expect("writes").created);
    assert!(matches!(sandbox.read_file("/etc/shadow", 0, 1).await, Err(Error::PermissionDenied(_))));
}

#[tokio::test]
async fn stopping_gives_commands_a_moment_and_not_more() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let _polite = sandbox
        .spawn(bash("trap 'echo bye > /workspace/bye; exit' TERM; while true; do sleep 0.05; done"))
        .await
        .expect("starts");
    let _stubborn = sandbox.spawn(bash("trap '' TERM; touch /workspace/up; sleep 1000")).await.expect("starts");
    eventually(Duration::from_secs(5), async || sandbox.read_file("/workspace/up", 0, 1).await.is_ok()).await;
    let started = std::time::Instant::now();
    assert!(world.sandboxes.stop(&world.environment).await.expect("stops"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let workspace = world.sandboxes.workspace(&world.environment).expect("opens");
    let path = domain::WorkspacePath::parse("bye").expect("valid");
    assert!(workspace.open_file(&path).await.is_ok());
}

#[tokio::test]
async fn a_long_data_directory_is_no_problem() {
    let world = World::with(|options| options.data_dir = options.data_dir.join("long/".repeat(40))).await;
    let sandbox = world.open().await;
    assert_eq!(run(&sandbox, "echo here").await.0, "here\n");
}

#[tokio::test]
async fn removing_an_environment_removes_its_files_too() {
    let world = World::new().await;
    let sandbox = world.open().await;
    run(&sandbox, "mkdir -p a/b; echo x > a/b/c; chmod 000 a").await;
    world.sandboxes.remove(&world.environment).await.expect("removes");
    assert!(!world.options.data_dir.join("environments").join(world.environment.as_str()).exists());
    assert!(matches!(sandbox.spawn(bash("true")).await, Err(Error::Gone)));
}

#[tokio::test]
async fn the_reconciler_removes_orphans_of_ours_and_nothing_else() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let engine = engine().await;
    let plant = async |name: &str, installation: &str| {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let labels = [("atelier.installation", installation), ("atelier.environment", "env_orphan")];
        let body = ContainerCreateBody {
            image: Some(world.options.image.clone()),
            cmd: Some(vec!["sleep".to_owned(), "1000".to_owned()]),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..Default::default()
        };
        let id = engine.create_container(Some(options), body).await.expect("creates").id;
        engine.start_container(&id, None).await.expect("starts");
        id
    };
    let orphan = plant(&format!("orphan-{}", world.options.installation), &world.options.installation).await;
    let foreign = plant(&format!("foreign-{}", std::process::id()), "somebody-else").await;

    let wanted = HashSet::from([world.environment.clone()]);
    let done = world.sandboxes.reconcile(&wanted).await.expect("reconciles");
    assert_eq!((done.removed, done.stopped), (vec![orphan.clone()], Vec::<EnvironmentId>::new()));
    assert!(engine.inspect_container(&orphan, None).await.is_err());
    assert_eq!(run(&sandbox, "echo untouched").await.0, "untouched\n");

    let is_there = engine.inspect_container(&foreign, None).await.is_ok();
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    engine.remove_container(&foreign, Some(force)).await.expect("removes");
    assert!(is_there);
}

#[tokio::test]
async fn an_idle_container_is_stopped_and_comes_back_as_it_was() {
    let world = World::with(|options| options.idle_stop = Duration::from_millis(300)).await;
    let sandbox = world.open().await;
    run(&sandbox, "echo installed > /opt/tool").await;
    let wanted = HashSet::from([world.environment.clone()]);

    // Longer than idle, and in use.
    let mut busy = sandbox.spawn(bash("sleep 1; echo done")).await.expect("starts");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped, []);
    assert_eq!(finish(&mut busy).await.0, "done\n");
    drop(busy);

    // Background work keeps it up for longer.
    sandbox.start_background(bash("sleep 1000"), "/tmp/out").await.expect("starts");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped, []);

    eventually(Duration::from_secs(10), async || {
        world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped == [world.environment.clone()]
    })
    .await;
    assert!(world.sandboxes.find(&world.environment).await.is_none());
    assert_eq!(run(&world.open().await, "cat /opt/tool").await.0, "installed\n");
}

#[tokio::test]
async fn the_report_is_about_this_engine() {
    let world = World::new().await;
    let report = world.sandboxes.report().await;
    let engine = report.engine.expect("answers");
    assert!(!engine.version.is_empty() && !engine.runtime.is_empty() && matches!(engine.cgroup_version, 1 | 2));
    assert!(report.default_image && report.seccomp);
    assert_eq!(report.disk, sandbox::DiskEnforcement::Watchdog);
}
