//! Cancelling: whatever a command does, nothing of it is left within two seconds.

use std::time::{Duration, Instant};

use sandbox::{Exit, Sandbox};

use crate::world::{World, bash, eventually, processes, run};

const LIMIT: Duration = Duration::from_secs(2);

/// Scripts that try to outlive their cancellation. Each makes `/tmp/up` when it is where it wants to be.
const FUGITIVES: [(&str, &str); 9] = [
    ("sleep", "touch /tmp/up; sleep 1000"),
    ("nohup", "nohup sleep 1000 >/dev/null 2>&1 & touch /tmp/up; sleep 1000"),
    ("setsid", "setsid sleep 1000 & setsid setsid sleep 1000 & sleep 0.1; touch /tmp/up; sleep 1000"),
    ("double fork", "(setsid bash -c 'sleep 1000 & disown' &) ; sleep 0.1; touch /tmp/up; sleep 1000"),
    ("trapped TERM", "trap '' TERM INT HUP; touch /tmp/up; while true; do sleep 1; done"),
    (
        "cleared environment",
        "env -i setsid bash -c 'trap \"\" TERM; sleep 1000' & sleep 0.1; touch /tmp/up; sleep 1000",
    ),
    ("stopped supervisor", "kill -STOP $PPID; touch /tmp/up; sleep 1000"),
    ("killed supervisor", "setsid sleep 1000 & (trap '' TERM; sleep 1000) & touch /tmp/up; kill -9 $PPID; sleep 1000"),
    ("respawning", "f() { trap 'f & f &' TERM; touch /tmp/up; while true; do sleep 0.05; done; }; f & f & wait"),
];

async fn is_up(sandbox: &Sandbox) {
    eventually(Duration::from_secs(10), async || run(sandbox, "test -e /tmp/up").await.1 == Exit::Code(0)).await;
}

#[tokio::test]
async fn a_cancelled_command_leaves_nothing_however_it_hides() {
    let world = World::new().await;
    let sandbox = world.open().await;
    assert_eq!(processes(&sandbox).await, 0);
    for (name, script) in FUGITIVES {
        for how in ["kill", "drop", "group"] {
            let process = sandbox.spawn(bash(script)).await.expect("starts");
            is_up(&sandbox).await;
            assert!(processes(&sandbox).await > 0, "{name}");
            let started = Instant::now();
            match how {
                "kill" => assert_eq!(process.kill().await.expect("killed"), Exit::Killed, "{name}"),
                "drop" => drop(process),
                _ => assert!(sandbox.kill_group("run_test").await.expect("kills") >= 1, "{name}"),
            }
            if how != "drop" {
                assert!(started.elapsed() < LIMIT, "{name}, {how}: {:?}", started.elapsed());
            }
            eventually(LIMIT, async || processes(&sandbox).await == 0).await;
            println!("{name}, {how}: {:?}", started.elapsed());
            run(&sandbox, "rm /tmp/up").await;
        }
    }
}

#[tokio::test]
async fn many_cancellations_at_random_leave_nothing() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let cancelled = (0..120u64).map(|number| {
        let sandbox = sandbox.clone();
        async move {
            let (name, script) = FUGITIVES[number as usize % FUGITIVES.len()];
            let process = sandbox.spawn(bash(script)).await.expect("starts");
            // Spread over what a command does in its first moments; the numbers are arbitrary and always the same.
            tokio::time::sleep(Duration::from_millis(number * 7919 % 150)).await;
            match number % 2 {
                0 => drop(process),
                _ => assert!(matches!(process.kill().await, Ok(Exit::Killed | Exit::Signal(9))), "{name}"),
            }
        }
    });
    futures::StreamExt::for_each_concurrent(futures::stream::iter(cancelled), 8, |cancelled| cancelled).await;
    eventually(LIMIT, async || processes(&sandbox).await == 0).await;
    let (open, _) = run(&sandbox, "ls /proc/1/fd | wc -l").await;
    assert!(open.trim().parse::<u32>().expect("a number") < 30, "{open}");
}

#[tokio::test]
async fn a_command_that_kills_everything_ends_and_the_sandbox_goes_on() {
    let world = World::new().await;
    let sandbox = world.open().await;
    // Often: the spare supervisor is killed as well, and for a moment it still looks as if it waited for an order.
    for _ in 0..50 {
        let (_, exit) = run(&sandbox, "kill -9 -1; exit 0").await;
        assert!(matches!(exit, Exit::Code(0) | Exit::Signal(9)), "{exit:?}");
        assert_eq!(run(&sandbox, "echo alive").await.0, "alive\n");
    }
}

#[tokio::test]
async fn killing_a_group_leaves_other_groups_alone() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut other = bash("touch /tmp/up; sleep 1000");
    other.group = "run_other".to_owned();
    let _ours = sandbox.spawn(bash("sleep 1000")).await.expect("starts");
    let task = sandbox.start_background(bash("sleep 1000"), "/tmp/out").await.expect("starts");
    let other = sandbox.spawn(other).await.expect("starts");
    is_up(&sandbox).await;
    assert_eq!(sandbox.kill_group("run_test").await.expect("kills"), 2);
    assert!(sandbox.background(&task).await.expect("known").expect("known").exit.is_some());
    assert_eq!(run(&sandbox, "pgrep -c sleep").await.0, "1\n");
    assert_eq!(other.kill().await.expect("killed"), Exit::Killed);
    assert_eq!(sandbox.kill_group("run_test").await.expect("kills"), 0);
}

#[tokio::test]
async fn a_command_that_takes_no_input_can_still_be_cancelled() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut process =
        sandbox.spawn(sandbox::Command { stdin: true, ..bash("touch /tmp/up; sleep 1000") }).await.expect("starts");
    is_up(&sandbox).await;
    // More than pipe and socket hold: the write waits, and is given up.
    let input = vec![0; 8_000_000];
    let waiting = tokio::time::timeout(Duration::from_millis(300), process.write_stdin(&input)).await;
    assert!(waiting.is_err());
    drop(process);
    eventually(LIMIT, async || run(&sandbox, "pgrep sleep").await.1 == Exit::Code(1)).await;
}

#[tokio::test]
async fn a_background_command_outlives_the_server_and_can_be_stopped() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let task = sandbox
        .start_background(bash("echo one; echo two >&2; sleep 1000"), "/workspace/logs/out.txt")
        .await
        .expect("starts");
    let container = sandbox.container().to_owned();
    // As after a crash of the server: another process finds the container and the task.
    let restarted = sandbox::Sandboxes::connect(world.options.clone()).await.expect("an engine");
    let sandbox = restarted.open(&world.spec()).await.expect("adopts");
    assert_eq!(sandbox.container(), container);
    eventually(LIMIT, async || sandbox.background(&task).await.expect("asked").expect("known").output_bytes == 8).await;
    assert_eq!(sandbox.read_file("/workspace/logs/out.txt", 0, 100).await.expect("reads").bytes, "one\ntwo\n");
    assert_eq!(sandbox.background(&task).await.expect("asked").expect("known").exit, None);
    assert!(sandbox.stop_background(&task).await.expect("stops"));
    assert_eq!(sandbox.background(&task).await.expect("asked").expect("known").exit, Some(Exit::Killed));
    assert!(!sandbox.stop_background(&task).await.expect("asked"));
    assert_eq!(sandbox.background("task_99").await.expect("asked"), None);

    let task = sandbox.start_background(bash("exit 4"), "/workspace/logs/out.txt").await.expect("starts");
    eventually(LIMIT, async || {
        sandbox.background(&task).await.expect("asked").expect("known").exit == Some(Exit::Code(4))
    })
    .await;
}

#[tokio::test]
async fn a_background_command_that_fills_the_disk_is_ended() {
    let world = World::new().await;
    let sandbox = world.open().await;
    // The server's limit is too high for a test; the daemon takes any.
    let command = guest_protocol::Spawn {
        argv: vec!["yes".to_owned()],
        cwd: "/".to_owned(),
        env: Vec::new(),
        timeout_ms: None,
        group: "run_test".to_owned(),
        stdin: false,
    };
    let output = "/workspace/out".to_owned();
    let request = guest_protocol::Request::StartBackground { command, output, output_limit: 1_000_000 };
    let socket = world.options.data_dir.join("environments").join(world.environment.as_str()).join("run/guestd.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connects");
    let frame = guest_protocol::encode(guest_protocol::Kind::Request, &request).expect("short");
    std::io::Write::write_all(&mut stream, &frame).expect("writes");
    std::io::Read::read_to_end(&mut stream, &mut Vec::new()).expect("reads");
    eventually(LIMIT, async || {
        let task = sandbox.background("task_1").await.expect("asked").expect("known");
        task.exit == Some(Exit::Killed) && task.output_bytes == 1_000_000
    })
    .await;
    let end = sandbox.read_file("/workspace/out", 1_000_000, 1000).await.expect("reads");
    assert_eq!(end.bytes, "\n[killed: the output is over its limit of 1000000 bytes]\n");
}
