//! Commands: output, input, ends.

use std::time::{Duration, Instant};

use sandbox::{Command, Error, Exit};

use crate::world::{World, bash, eventually, finish, run};

#[tokio::test]
async fn a_command_runs_in_the_workspace_and_its_outputs_are_apart() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut process = sandbox.spawn(bash("pwd; echo $HOME >&2; exit 3")).await.expect("starts");
    let home = if world.options.user.starts_with("0:") { "/root\n" } else { "/home/agent\n" };
    assert_eq!(finish(&mut process).await, ("/workspace\n".to_owned(), home.to_owned(), Exit::Code(3)));
    assert_eq!(process.next().await.expect("still known"), None);
}

#[tokio::test]
async fn a_command_sees_its_environment_directory_and_group() {
    let world = World::new().await;
    let sandbox = world
        .sandboxes
        .open(&sandbox::Spec { env: vec![("A".into(), "1".into())], ..world.spec() })
        .await
        .expect("opens");
    let command = Command {
        cwd: "/tmp".to_owned(),
        env: vec![("B".to_owned(), "2 3".to_owned())],
        ..bash(r#"echo "$PWD $A $B"; test "$$" = "$(ps -o pgid= -p $$ | tr -d ' ')" && echo own group"#)
    };
    let mut process = sandbox.spawn(command).await.expect("starts");
    assert_eq!(finish(&mut process).await.0, "/tmp 1 2 3\nown group\n");
}

#[tokio::test]
async fn a_program_or_directory_that_is_not_there_is_named() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let command = Command { argv: vec!["no-such-program".to_owned()], ..bash("") };
    assert!(matches!(sandbox.spawn(command).await, Err(Error::NotFound(what)) if what == "no-such-program"));
    let command = Command { cwd: "/no/such/directory".to_owned(), ..bash("true") };
    assert!(matches!(sandbox.spawn(command).await, Err(Error::NotFound(what)) if what == "/no/such/directory"));
    assert_eq!(run(&sandbox, "kill -SEGV $$").await.1, Exit::Signal(11));
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole_while_an_unread_command_waits() {
    let world = World::new().await;
    let sandbox = world.open().await;
    // What nobody reads stays where it is: the writer stops after what the pipe and the socket hold.
    let script = "i=0; while true; do head -c 65536 /dev/zero; i=$((i+1)); echo $i > /tmp/written; done";
    let slow = sandbox.spawn(bash(script)).await.expect("starts");
    let written = async || run(&sandbox, "cat /tmp/written").await.0.trim().parse::<u64>().unwrap_or(0);
    let mut last = 0;
    eventually(Duration::from_secs(20), async || {
        let now = written().await;
        let is_stuck = now > 0 && now == std::mem::replace(&mut last, now);
        tokio::time::sleep(Duration::from_millis(100)).await;
        is_stuck
    })
    .await;
    assert!(last * 65536 < 4 * 1024 * 1024, "{last} blocks were written though nobody read");

    let started = Instant::now();
    let mut process = sandbox.spawn(bash("head -c 100000000 /dev/zero")).await.expect("starts");
    let mut bytes = 0;
    while let Some(chunk) = process.next().await.expect("lives") {
        bytes += chunk.bytes.len();
    }
    println!("100 MB of output in {:?}", started.elapsed());
    assert_eq!((bytes, process.exit()), (100_000_000, Some(Exit::Code(0))));
    assert_eq!(slow.kill().await.expect("killed"), Exit::Killed);
}

#[tokio::test]
async fn the_last_output_is_not_lost_on_a_slow_reader() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut process = sandbox.spawn(bash("head -c 1000000 /dev/zero; sleep 100 & echo end")).await.expect("starts");
    let mut output = Vec::new();
    while let Some(chunk) = process.next().await.expect("lives") {
        tokio::time::sleep(Duration::from_millis(40)).await;
        output.extend_from_slice(&chunk.bytes);
    }
    assert_eq!((output.len(), output.ends_with(b"end\n")), (1_000_004, true));
}

#[tokio::test]
async fn input_reaches_the_command_and_ends_when_told() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let mut process =
        sandbox.spawn(Command { stdin: true, ..bash("read line; echo \"got $line\"; wc -c") }).await.expect("starts");
    process.write_stdin(b"hello\n").await.expect("writes");
    assert_eq!(process.next().await.expect("lives").expect("output").bytes, "got hello\n");
    process.write_stdin(&vec![b'x'; 1_000_000]).await.expect("writes");
    process.close_stdin().await.expect("closes");
    assert_eq!(finish(&mut process).await.0, "1000000\n");
    // Without input the command reads an end at once instead of waiting.
    assert_eq!(run(&sandbox, "cat; echo end").await.0, "end\n");
}

#[tokio::test]
async fn a_timeout_ends_the_whole_tree_and_keeps_what_was_said() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let script = "trap '' TERM; echo begun; (trap '' TERM; sleep 1000) & sleep 1000; sleep 1000";
    let started = Instant::now();
    let command = Command { timeout: Some(Duration::from_millis(300)), ..bash(script) };
    let mut process = sandbox.spawn(command).await.expect("starts");
    assert_eq!(finish(&mut process).await, ("begun\n".to_owned(), String::new(), Exit::TimedOut));
    assert!(started.elapsed() < Duration::from_millis(2300), "{:?}", started.elapsed());
    assert_eq!(run(&sandbox, "pgrep sleep").await.1, Exit::Code(1));
}

#[tokio::test]
async fn a_server_left_in_the_background_lives_on_and_may_write() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let started = Instant::now();
    let script = "(while echo line; do sleep 0.01; done; touch /tmp/broken) & echo $! > /tmp/pid; echo up";
    let mut process = sandbox.spawn(bash(script)).await.expect("starts");
    let (output, _, exit) = finish(&mut process).await;
    assert!(output.contains("up\n") && exit == Exit::Code(0));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(process);
    // Longer than its pipe would last if nobody emptied it is not needed: a closed pipe breaks the next line.
    let (output, _) = run(&sandbox, "sleep 0.3; ls /tmp/broken; kill -0 $(cat /tmp/pid) && echo alive").await;
    assert!(output.contains("alive"), "{output}");
    assert_eq!(sandbox.kill_group("run_test").await.expect("kills"), 1);
    assert_eq!(run(&sandbox, "kill -0 $(cat /tmp/pid)").await.1, Exit::Code(1));
}
