//! Over real sockets: who takes nothing is cut, who is slow or has nothing to take is not.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, AtomicUsize},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::get};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    http::{Limits, serve_router},
    lifecycle::Lifecycle,
};

const WITHIN: Duration = Duration::from_millis(400);
const PIECE: usize = 16 * 1024;

/// What a test may wait for; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what the server has made and who is still served.
#[derive(Clone, Default)]
struct Counts {
    bytes: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves `/endless`, a stream as fast as it is taken, and `/quiet`, one that gives a byte and then long nothing.
async fn start(counts: &Counts) -> (std::net::SocketAddr, Lifecycle) {
    let endless = |counts: Counts| async move {
        counts.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(counts.open.clone());
        let pieces = futures::stream::unfold(open, move |open| {
            let bytes = counts.bytes.clone();
            async move {
                bytes.fetch_add(PIECE as u64, Ordering::SeqCst);
                Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PIECE])), open))
            }
        });
        axum::body::Body::from_stream(pieces)
    };
    let quiet = || async {
        let pieces = futures::stream::unfold(0, |n| async move {
            if n > 0 {
                sleep(WITHIN * 5).await;
            }
            (n < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"x")), n + 1))
        });
        axum::body::Body::from_stream(pieces)
    };
    let counted = counts.clone();
    let router = Router::new().route("/endless", get(move || endless(counted))).route("/quiet", get(quiet));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { header_timeout: PATIENCE, write_timeout: WITHIN, max_connections: 1000, has_http2: true };
    let lifecycle = Lifecycle::default();
    tokio::spawn(serve_router(listener, router, limits, lifecycle.clone()));
    (address, lifecycle)
}

async fn ask(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes()).await.unwrap();
    socket
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_http1_that_take_nothing_are_cut_and_cost_little() {
    let counts = Counts::default();
    let (address, _lifecycle) = start(&counts).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(ask(address, "/endless").await);
    }
    wait_for("all are served", || counts.bytes.load(Ordering::SeqCst) >= 20 * PIECE as u64).await;
    // One that reads is served all the while.
    let mut reader = ask(address, "/endless").await;
    let (read, stop) = (Arc::new(AtomicU64::new(0)), tokio_util::sync::CancellationToken::new());
    let (counted, stopped) = (read.clone(), stop.clone());
    let reading = tokio::spawn(async move {
        // A sender that was waiting goes on only when a good part of the kernel's buffers is free again: one that reads
        // little at a time looks as if it stood still.
        let mut chunk = vec![0; 1 << 20];
        while !stopped.is_cancelled() {
            let bytes = reader.read(&mut chunk).await.unwrap();
            assert_ne!(bytes, 0, "the reader is cut");
            counted.fetch_add(bytes as u64, Ordering::SeqCst);
            sleep(Duration::from_millis(5)).await;
        }
    });
    wait_for("the stalled ones are cut", || counts.open.load(Ordering::SeqCst) <= 1).await;
    let (made, had) = (counts.bytes.load(Ordering::SeqCst), read.load(Ordering::SeqCst));
    // Longer than it took to cut the others.
    sleep(WITHIN * 4).await;
    assert_eq!(counts.open.load(Ordering::SeqCst), 1, "the reader is still served");
    stop.cancel();
    reading.await.unwrap();
    assert!(read.load(Ordering::SeqCst) > had, "the reader goes on");
    // What lies in the kernel's buffers on both sides of a socket, and a piece or two here.
    let each = made.saturating_sub(had) / 21;
    assert!(each < 12 << 20, "{each} bytes were made for one that takes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_of_http2_that_is_not_taken_is_cut_though_the_connection_lives() {
    let counts = Counts::default();
    let (address, _lifecycle) = start(&counts).await;
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    // The connection is read from all the time, and answers pings; only this response is not.
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("http://here/endless").body(axum::body::Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    wait_for("it is served", || counts.bytes.load(Ordering::SeqCst) > 0).await;
    wait_for("it is cut", || counts.open.load(Ordering::SeqCst) == 0).await;
    assert!(counts.bytes.load(Ordering::SeqCst) < 8 << 20);
    drop(response);
    tokio::time::timeout(PATIENCE, connection).await.expect("the connection ends").unwrap().ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_nothing_to_take_is_waited_for() {
    let (address, _lifecycle) = start(&Counts::default()).await;
    let mut socket = ask(address, "/quiet").await;
    let mut text = String::new();
    while !text.ends_with("0\r\n\r\n") {
        let mut chunk = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut chunk)).await.expect("it goes on").unwrap();
        assert_ne!(read, 0, "cut after {text:?}");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    assert_eq!(text.matches("1\r\nx\r\n").count(), 2, "{text}");
}
