//! Bash: results, the working directory, time limits, cancelling.

use std::time::{Duration, Instant};

use domain::event::Detail;
use executor::tools::ToolError;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{RUN, World, eventually};

#[tokio::test]
async fn a_command_is_answered_in_these_words() {
    let world = World::new().await;
    for (command, expected) in [
        ("echo hi", "hi"),
        ("true", "(The command ended without output.)"),
        ("echo out; echo err >&2; echo out again", "out\nerr\nout again"),
        ("echo before; exit 3", "Exit code 3\nbefore"),
        ("false", "Exit code 1"),
        ("no-such-program", "Exit code 127\nbash: line 1: no-such-program: command not found"),
        ("kill -SEGV $$", "Exit code 139\nThe shell was ended by signal 11."),
        ("set -e; false; echo not reached", "Exit code 1"),
        ("true\n\nno-such-program", "Exit code 127\nbash: line 3: no-such-program: command not found"),
        ("cat", "(The command ended without output.)"),
        ("printf 'no newline'", "no newline"),
        ("echo \"$GREETING $TERM\"", "hello dumb"),
        ("cat <<'EOF'\nhere $document\nEOF", "here $document"),
        ("printf '\\e[31mred\\e[0m 10%%\\r100%%\\n'", "100%"),
        ("printf 'a\\0b\\377c'", "ab\u{fffd}c"),
        ("echo $#", "1"),
        ("x=set; export y=set; f() { :; }", "(The command ended without output.)"),
        ("echo \"[$x][$y]\"; type f 2>&1 | tail -1", "[][]\nbash: line 1: type: f: not found"),
    ] {
        assert_eq!(world.bash(command).await, expected, "{command}");
    }
    let text = world.bash("echo 'never closed").await;
    assert!(text.starts_with("Exit code 2\n") && text.contains("unexpected EOF"), "{text}");
}

#[tokio::test]
async fn wrong_input_is_answered_with_a_sentence() {
    let world = World::new().await;
    for (input, expected) in [
        (json!({}), "The input of Bash is not valid: missing field `command`. Nothing was done."),
        (json!({"command": "  "}), "command is empty."),
        (json!({"command": "a\0b"}), "command holds a NUL character."),
        (
            json!({"command": "x".repeat(100_001)}),
            "command is longer than 100000 bytes. Write it to a file with Write and run that.",
        ),
        (json!({"command": "x", "timeout": 0}), "timeout must be at least 1 millisecond."),
        (
            json!({"command": "x", "timeout": 600_001}),
            "timeout must be at most 600000 milliseconds. For longer work set run_in_background.",
        ),
        (
            json!({"command": "x", "timeout": 7_200_001, "run_in_background": true}),
            "timeout must be at most 7200000 milliseconds.",
        ),
        (
            json!({"command": "x", "timeout": "soon"}),
            "The input of Bash is not valid: expected a whole number that is not negative in `timeout`. Nothing was done.",
        ),
    ] {
        assert_eq!(world.said("Bash", input).await, format!("ERROR: {expected}"));
    }
    assert_eq!(
        world.said("BashOutput", json!({})).await,
        "ERROR: There is no tool named \"BashOutput\". The tools are: Bash, Edit, Glob, Grep, Read, TaskStop, TodoWrite, \
         WebFetch, Write."
    );
    assert_eq!(world.bash(&format!("echo {}", "x".repeat(99_000))).await.lines().next().unwrap().len(), 5000);
}

#[tokio::test]
async fn a_failed_command_is_an_error_result_with_its_exit_code() {
    let world = World::new().await;
    let outcome = world.call("Bash", json!({"command": "echo x; exit 7"})).await.unwrap();
    assert!(outcome.is_error);
    let detail = Detail::Command { command: "echo x; exit 7".into(), exit_code: Some(7), output: "x".into() };
    assert_eq!(outcome.detail, Some(detail));
    assert!(!world.call("Bash", json!({"command": "true"})).await.unwrap().is_error);
}

#[tokio::test]
async fn the_working_directory_stays_and_nothing_else() {
    let world = World::new().await;
    for (command, cwd) in [
        ("mkdir -p 'a b/c' && cd 'a b'", "/workspace/a b"),
        ("cd c; exit 4", "/workspace/a b/c"),
        ("(cd /)", "/workspace/a b/c"),
        ("cd /no-such-directory", "/workspace/a b/c"),
        ("set -e; cd ..; false", "/workspace/a b"),
        ("cd /usr; echo 'unclosed", "/workspace/a b"),
        ("cd c && exec true", "/workspace/a b"),
        ("cd /tmp && ln -s /usr link && cd link", "/usr"),
        ("cd /workspace; kill -9 $$", "/usr"),
        ("cd /workspace/a*", "/workspace/a b"),
    ] {
        world.bash(command).await;
        assert_eq!(world.bash("pwd").await, cwd, "after {command}");
    }
    assert_eq!(world.bash("mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; echo ok").await, "ok");
    assert_eq!(world.bash("pwd").await, "/workspace/a b");
    world.bash("mkdir /tmp/gone; cd /tmp/gone").await;
    world.bash("rmdir /tmp/gone").await;
    assert_eq!(
        world.bash("touch not-run").await,
        "ERROR: The working directory /tmp/gone does not exist any more. The command was not run. The working directory is \
         /workspace again."
    );
    assert_eq!(world.bash("pwd; ls").await, "/workspace\na b");
}

#[tokio::test]
async fn a_time_limit_ends_the_whole_tree() {
    let world = World::new().await;
    let started = Instant::now();
    let input = json!({"command": "echo begun; setsid sleep 4321 & sleep 4321", "timeout": 300});
    let outcome = world.call("Bash", input).await.unwrap();
    assert!(outcome.is_error);
    assert_eq!(outcome.to_text(), "Command timed out after 300ms\nbegun");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(world.processes("sleep 4321").await, 0);
}

#[tokio::test]
async fn a_server_left_behind_does_not_hold_the_call() {
    let world = World::new().await;
    for command in [
        "python3 -m http.server 8123 >/tmp/log 2>&1 & echo started",
        "nohup python3 -m http.server 8124 & sleep 0.1; echo started",
    ] {
        let started = Instant::now();
        let text = world.bash(command).await;
        assert!(text.contains("started"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(2), "{command}: {:?}", started.elapsed());
    }
    eventually(Duration::from_secs(10), async || {
        world.bash("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8123/").await == "200"
    })
    .await;
    assert_eq!(world.sandbox().await.kill_group(RUN).await.unwrap(), 2);
    assert_eq!(world.processes("http.server").await, 0);
}

#[tokio::test]
async fn cancelling_kills_the_tree_within_two_seconds() {
    let mut world = World::new().await;
    for command in [
        "touch /tmp/up; sleep 4321",
        "trap '' TERM INT; setsid sleep 4321 & nohup sleep 4321 & touch /tmp/up; while :; do sleep 1; done",
        "touch /tmp/up; yes",
        "touch /tmp/up; yes '' | tr '\\n' x",
    ] {
        world.stop = CancellationToken::new();
        let sandbox = world.sandbox().await;
        let call = world.call("Bash", json!({ "command": command }));
        let cancel = async {
            eventually(Duration::from_secs(10), async || sandbox.read_file("/tmp/up", 0, 1).await.is_ok()).await;
            world.stop.cancel();
            Instant::now()
        };
        let (result, cancelled_at) = tokio::join!(call, cancel);
        assert!(matches!(result, Err(ToolError::Stopped)), "{command}: {result:?}");
        println!("cancelled `{command}` in {:?}", cancelled_at.elapsed());
        assert!(cancelled_at.elapsed() < Duration::from_secs(2), "{command}: {:?}", cancelled_at.elapsed());
        for name in ["sleep 4321", "yes", "while :"] {
            assert_eq!(world.processes(name).await, 0, "{command}: {name}");
        }
        world.stop = CancellationToken::new();
        assert_eq!(world.bash("rm /tmp/up; echo alive").await, "alive");
    }
    world.stop.cancel();
    for name in ["Bash", "Read", "Glob", "Nonsense"] {
        assert!(matches!(world.call(name, json!({"command": "true"})).await, Err(ToolError::Stopped)));
    }
}

#[tokio::test]
async fn a_command_out_of_memory_is_said_to_be() {
    let limits = sandbox::Limits { memory_bytes: 128 * 1024 * 1024, ..sandbox::Limits::default() };
    let world = World::with(|_, spec| spec.limits = Some(limits)).await;
    let text = world.bash("python3 -c 'x = bytearray(400 * 1024 * 1024); print(len(x))'").await;
    assert!(
        text.starts_with("Exit code 137\nThe command was killed because the computer ran out of memory."),
        "{text}"
    );
    assert_eq!(world.bash("echo alive").await, "alive");
}

#[tokio::test]
async fn what_a_call_costs() {
    let world = World::new().await;
    world.bash("true").await;
    let sandbox = world.sandbox().await;
    let command = sandbox::Command {
        argv: ["bash", "-c", "echo x"].map(str::to_owned).to_vec(),
        group: RUN.to_owned(),
        ..sandbox::Command::default()
    };
    // In turns, so that what else the machine does falls on each alike.
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(world.bash("echo x").await, "x");
        times[0].push(started.elapsed());
        let started = Instant::now();
        let mut process = sandbox.spawn(command.clone()).await.unwrap();
        while process.next().await.unwrap().is_some() {}
        times[1].push(started.elapsed());
        let started = Instant::now();
        let output = std::process::Command::new("bash").args(["-c", "echo x"]).output().unwrap();
        assert_eq!(output.stdout, b"x\n");
        times[2].push(started.elapsed());
    }
    for (name, mut times) in ["Bash call", "spawn in the sandbox", "bash on the host"].into_iter().zip(times) {
        times.sort();
        println!("{name}: median {:?}, p95 {:?}", times[100], times[190]);
    }
}
