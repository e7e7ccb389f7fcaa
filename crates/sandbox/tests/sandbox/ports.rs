//! Ports: what listens is listed, and can be connected to, without any network.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use sandbox::{Error, Exit, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::world::{World, bash, eventually, run};

/// Answers each connection with what it sent, once it has ended its side.
const MIRROR: &str = r#"exec -a mirror python3 -c '
import socket, threading
server = socket.create_server(("127.0.0.1", 7001))
def answer(peer):
    with peer:
        while chunk := peer.recv(65536): peer.sendall(chunk)
while True: threading.Thread(target=answer, args=[server.accept()[0]], daemon=True).start()
'"#;

async fn serve(sandbox: &Sandbox, script: &str, port: u16) {
    sandbox.start_background(bash(script), "/tmp/server.log").await.expect("starts");
    eventually(Duration::from_secs(30), async || {
        sandbox.ports().await.expect("lists").iter().any(|listed| listed.port == port)
    })
    .await;
}

#[tokio::test]
async fn a_port_is_listed_while_something_listens_on_it() {
    let world = World::new().await;
    let sandbox = world.open().await;
    assert_eq!(sandbox.ports().await.expect("lists"), Vec::new());
    serve(&sandbox, "exec python3 -m http.server 8000", 8000).await;
    serve(&sandbox, MIRROR, 7001).await;
    let ports = sandbox.ports().await.expect("lists");
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [7001, 8000]);
    assert!(ports.iter().all(|port| port.pid.is_some()), "{ports:?}");
    assert!(ports[1].process.as_deref().is_some_and(|name| name.starts_with("python3")), "{ports:?}");
    // As after a restart of the server: the container is not known, and found all the same.
    let restarted = sandbox::Sandboxes::connect(world.options.clone()).await.expect("an engine");
    let running = restarted.running(&world.environment).await.expect("found");
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].ports().await.expect("lists"), ports);
    run(&sandbox, "pkill -f [h]ttp.server").await;
    eventually(Duration::from_secs(30), async || sandbox.ports().await.expect("lists").len() == 1).await;
    assert!(matches!(sandbox.connect(8000).await, Err(Error::NotListening)));
}

#[tokio::test]
async fn a_connection_carries_both_directions_and_ends_them_apart() {
    let world = World::new().await;
    let sandbox = world.open().await;
    serve(&sandbox, MIRROR, 7001).await;
    let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n / 7) as u8).collect();
    let (mut reading, mut writing) = tokio::io::split(sandbox.connect(7001).await.expect("connects"));
    let mut got = Vec::new();
    let (written, read) = tokio::join!(
        async {
            writing.write_all(&sent).await?;
            writing.shutdown().await
        },
        reading.read_to_end(&mut got)
    );
    written.expect("sent");
    assert_eq!(read.expect("read to the end"), sent.len());
    assert!(got == sent, "what came back is what was sent");
    drop((reading, writing));
    // Nothing of it is left in the daemon.
    eventually(Duration::from_secs(10), async || {
        let (open, _) = run(&sandbox, "ls /proc/1/fd | wc -l").await;
        open.trim().parse::<u32>().expect("a number") < 20
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_who_writes() {
    let world = World::new().await;
    let sandbox = world.open().await;
    serve(&sandbox, MIRROR, 7001).await;
    let mut stream = sandbox.connect(7001).await.expect("connects");
    let block = vec![7; 65_536];
    let mut sent = 0u64;
    // The mirror stops reading when nobody takes what it sends.
    while let Ok(written) = timeout(Duration::from_secs(2), stream.write_all(&block)).await {
        written.expect("open");
        sent += block.len() as u64;
        assert!(sent < 64_000_000, "nothing holds the writer up");
    }
    // Others are not held up by it.
    let mut other = sandbox.connect(7001).await.expect("connects");
    other.write_all(b"hello").await.expect("sent");
    other.shutdown().await.expect("ended");
    let mut got = Vec::new();
    other.read_to_end(&mut got).await.expect("read");
    assert_eq!(got, b"hello");
    // And the daemon holds nothing of it but its blocks.
    let (status, _) = run(&sandbox, "grep VmRSS /proc/1/status").await;
    let kib: u64 = status.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    assert!(kib < 10_000, "{status}");
}

#[tokio::test]
async fn connections_are_bounded_and_given_back() {
    let world = World::new().await;
    let sandbox = world.open().await;
    serve(&sandbox, MIRROR, 7001).await;
    let connects = futures::stream::iter((0..264).map(|_| sandbox.connect(7001))).buffer_unordered(16);
    let (mut open, refused): (Vec<_>, Vec<_>) = connects.collect::<Vec<_>>().await.into_iter().partition(Result::is_ok);
    assert_eq!((open.len(), refused.len()), (256, 8));
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::Other { .. }))), "{refused:?}");
    // Commands are not connections: they go on.
    assert_eq!(run(&sandbox, "echo alive").await, ("alive\n".to_owned(), Exit::Code(0)));
    open.clear();
    eventually(Duration::from_secs(10), async || sandbox.connect(7001).await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_is_killed_ends_its_connections() {
    let world = World::new().await;
    let sandbox = world.open().await;
    serve(&sandbox, MIRROR, 7001).await;
    let mut stream = sandbox.connect(7001).await.expect("connects");
    stream.write_all(b"x").await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("read"), b'x');
    run(&sandbox, "pkill -9 -f 7001").await;
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("ends");
    assert!(rest.is_empty(), "{ended:?}");
    assert!(matches!(sandbox.connect(7001).await, Err(Error::NotListening)));
    // The container itself going away is told too.
    serve(&sandbox, MIRROR, 7001).await;
    let mut stream = sandbox.connect(7001).await.expect("connects");
    world.sandboxes.stop(&world.environment).await.expect("stops");
    assert!(!matches!(timeout(Duration::from_secs(10), stream.read(&mut [0; 8])).await.expect("ends"), Ok(1..)));
    assert!(matches!(sandbox.connect(7001).await, Err(Error::Gone)));
    assert!(world.sandboxes.running(&world.environment).await.expect("asked").is_empty());
}

#[tokio::test]
async fn an_open_connection_is_use() {
    let world = World::with(|options| options.idle_stop = Duration::from_millis(100)).await;
    let sandbox = world.open().await;
    serve(&sandbox, MIRROR, 7001).await;
    let stream = sandbox.connect(7001).await.expect("connects");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let wanted = HashSet::from([world.environment.clone()]);
    assert_eq!(world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped, []);
    // Another server on the same engine sees it as well.
    let other = sandbox::Sandboxes::connect(world.options.clone()).await.expect("an engine");
    other.reconcile(&wanted).await.expect("reconciles");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(other.reconcile(&wanted).await.expect("reconciles").stopped, []);
    drop(stream);
    // What listens is a background command, which counts for eight times as long.
    eventually(Duration::from_secs(30), async || {
        let stopped = world.sandboxes.reconcile(&wanted).await.expect("reconciles").stopped;
        tokio::time::sleep(Duration::from_millis(200)).await;
        stopped == [world.environment.clone()]
    })
    .await;
}
