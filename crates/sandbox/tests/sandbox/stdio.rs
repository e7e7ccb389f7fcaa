//! A command that is spoken to: both directions, its last words, and its end with whoever held it.

use std::time::Duration;

use sandbox::{Command, Exit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::world::{World, bash, eventually, run};

#[tokio::test]
async fn what_is_said_to_a_command_and_by_it_arrives_whole() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let command = Command { stdin: true, ..bash("echo ready >&2; cat; exit 4") };
    let stdio = sandbox.spawn(command).await.expect("starts").into_stdio();
    let last_words = stdio.last_words();
    let (mut read, mut write) = tokio::io::split(stdio);
    let sent = "y".repeat(300_000);
    let writing = async {
        write.write_all(sent.as_bytes()).await.expect("takes it");
        write.write_all(b"and more").await.expect("takes it");
        write.shutdown().await.expect("ends");
    };
    let mut said = String::new();
    let (_, read) = tokio::join!(writing, read.read_to_string(&mut said));
    read.expect("comes to an end");
    assert_eq!(said, format!("{sent}and more"));
    assert_eq!((last_words.exit(), last_words.stderr().as_str()), (Some(Exit::Code(4)), "ready"));
}

#[tokio::test]
async fn dropping_the_stream_kills_all_that_the_command_started() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let command =
        Command { stdin: true, ..bash("setsid sleep 908 & echo up; trap '' TERM; while :; do sleep 1; done") };
    let mut stdio = BufReader::new(sandbox.spawn(command).await.expect("starts").into_stdio());
    let mut line = String::new();
    stdio.read_line(&mut line).await.expect("says something");
    assert_eq!(line, "up\n");
    drop(stdio);
    eventually(Duration::from_secs(30), async || {
        let (left, _) = run(&sandbox, "pgrep -f 'sleep 90[8]' | wc -l").await;
        left.trim() == "0"
    })
    .await;
}
