//! Streams over real sockets: what is flushed, what ends, and what a client that hangs up leaves behind.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Serves the app on a socket and sends one request to it.
async fn connect(app: &App, method: &str, path: &str, body: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = app.router.clone();
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut socket = TcpStream::connect(address).await.expect("connects");
    let (key, length) = (&app.key, body.len());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.expect("sends");
    socket
}

async fn read_until(socket: &mut TcpStream, needle: &str) -> String {
    let mut text = String::new();
    while !text.contains(needle) {
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).await.expect("reads");
        assert_ne!(read, 0, "the connection ended without {needle:?}: {text}");
        text.push_str(std::str::from_utf8(&chunk[..read]).expect("UTF-8"));
    }
    text
}

#[tokio::test]
async fn the_body_ends_after_the_last_event_and_the_connection_lives_on() {
    let app = App::start().await;
    let thread = app.thread().await;
    let path = format!("/v1/threads/{thread}/messages");
    let mut socket = connect(&app, "POST", &path, &json!({"content": "Hello"}).to_string()).await;
    let head = read_until(&mut socket, "response.created").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.to_lowercase().contains("transfer-encoding: chunked\r\n"), "{head}");
    work_off(&app.database.store, "done").await;
    let rest = read_until(&mut socket, "\r\n0\r\n\r\n").await;
    assert!(rest.contains("event: stream.completed\n"), "{rest}");
    socket.write_all(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sends");
    read_until(&mut socket, "HTTP/1.1 200 OK").await;
}

#[tokio::test]
async fn a_client_that_hangs_up_is_forgotten_and_its_run_goes_on() {
    let app = App::start_with(|settings| settings.heartbeat = Duration::from_millis(20)).await;
    let thread = app.thread().await;
    let path = format!("/threads/{thread}/messages");
    let mut socket = connect(&app, "POST", &path, &json!({"content": "Hello"}).to_string()).await;
    read_until(&mut socket, "response.created").await;
    let claimed = claim(&app.database.store).await;
    drop(socket);
    let id = thread.parse().expect("an id");
    let forgotten = async {
        while app.database.store.hub().is_watched(&id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), forgotten).await.expect("the stream ends with its client");
    let renewed = app.database.store.renew(&claimed.lease.renewal(), TTL).await.expect("the lease is good");
    assert!(!renewed.is_cancel_requested);
    finish(&app.database.store, &claimed, completed("done")).await;
    assert_eq!(app.get(&format!("/threads/{thread}/status")).await.ok()["status"], "completed");
}

#[tokio::test]
async fn a_stream_that_waits_has_sent_its_headers_and_its_greeting() {
    let app = App::start().await;
    let thread = app.thread().await;
    app.post(&format!("/threads/{thread}/messages"), json!({"content": "x", "stream": false})).await.ok();
    let path = format!("/threads/{thread}/events?stream=1&after=1");
    let mut socket = connect(&app, "GET", &path, "").await;
    let text = read_until(&mut socket, "stream.ready").await;
    assert!(text.contains("content-type: text/event-stream\r\n"), "{text}");
    app.post(&format!("/threads/{thread}/cancel"), json!({})).await.ok();
    read_until(&mut socket, "\r\n0\r\n\r\n").await;
}
