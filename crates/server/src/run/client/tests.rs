use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::*;

/// A server whose first streams break off, and what it was asked.
#[derive(Default)]
struct Asked {
    posts: Vec<(String, Value)>,
    resumed_after: Vec<String>,
}

type Shared = Arc<Mutex<Asked>>;

/// A body of these frames that ends in order, or breaks off.
fn stream(frames: &'static str, breaks: bool) -> Response {
    let end = futures::stream::once(async {
        // What came before is sent first.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    });
    let parts = futures::stream::iter([Ok(frames)]).chain(end.take(usize::from(breaks)));
    ([("content-type", "text/event-stream")], Body::from_stream(parts)).into_response()
}

const FIRST: &str = "event: thread.created\nid: 1\ndata: {\"type\":\"thread.created\",\"thread\":{\"id\":\"thread_1\"}}\n\n\
     event: response.started\nid: 2\ndata: {\"type\":\"response.started\",\"threadId\":\"thread_1\"}\n\n";
const REST: &str = "event: stream.ready\ndata: {\"after\":2,\"threadId\":\"thread_1\"}\n\n: ping\n\n\
     id: 3\ndata: {\"type\":\"stream.completed\",\"run\":{\"status\":\"completed\"}}\n\n";

async fn create(State(asked): State<Shared>, headers: HeaderMap, axum::Json(body): axum::Json<Value>) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut asked = asked.lock().unwrap();
    asked.posts.push((key, body));
    // The first answer breaks off before anything was told, the second after the first events.
    stream(if asked.posts.len() == 1 { "" } else { FIRST }, true)
}

async fn events(State(asked): State<Shared>, Path(thread): Path<String>, headers: HeaderMap) -> Response {
    assert_eq!(thread, "thread_1");
    assert_eq!(headers["accept"], "text/event-stream");
    asked.lock().unwrap().resumed_after.push(headers["last-event-id"].to_str().unwrap().to_owned());
    stream(REST, false)
}

async fn serve(router: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn task() -> Task {
    Task { content: "go".into(), thread: None, environment: None, agent: None, model: Some("m".into()) }
}

#[tokio::test]
async fn a_run_is_followed_over_broken_connections_without_gap_or_repetition() {
    let asked = Shared::default();
    let router = Router::new()
        .route("/v1/threads", post(create))
        .route("/v1/threads/{id}/events", get(events))
        .with_state(asked.clone());
    let client = Client::new(serve(router).await, SecretString::from("tb_1")).unwrap();
    let mut following = client.start(task());
    let (mut seen, mut troubles) = (Vec::new(), 0);
    loop {
        match following.next().await.unwrap() {
            Followed::Event { data, .. } => seen.push(serde_json::from_str::<Value>(&data).unwrap()["type"].clone()),
            Followed::Trouble(_) => troubles += 1,
            Followed::End => break,
        }
    }
    assert_eq!(seen, ["thread.created", "response.started", "stream.completed"]);
    assert_eq!(troubles, 2);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.posts.len(), 2);
    assert_eq!(asked.posts[0], asked.posts[1], "the same request under the same key");
    assert_eq!(asked.posts[0].1, json!({"content": "go", "stream": true, "agentConfig": {"model": "m"}}));
    assert_eq!(asked.resumed_after, ["2"]);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let refuse =
        || async { (StatusCode::NOT_FOUND, axum::Json(json!({"error": "Not Found", "message": "Agent a not found"}))) };
    let url = serve(Router::new().route("/v1/threads", post(refuse))).await;
    let mut following = Client::new(url, SecretString::from("tb_1")).unwrap().start(task());
    let Err(err) = following.next().await else { panic!("it was refused") };
    assert_eq!((err.to_string(), err.code()), ("Agent a not found (404)".to_owned(), 1));
}

#[tokio::test]
async fn without_a_server_it_says_so_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let mut following = Client::new(url, SecretString::from("tb_1")).unwrap().start(task());
    let err = loop {
        if let Err(err) = following.next().await {
            break err;
        }
    };
    assert_eq!(err.code(), 3);
    assert!(err.to_string().starts_with("cannot reach the server at http://127.0.0.1:"), "{err}");
}
