//! What a client does, with as little as possible between the test and the bytes.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use scripted_claude::Reply;
use serde_json::{Value, json};

use crate::{Frame, Frames, World, eventually, script::message};

/// An answer that was read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub text: String,
}

impl Answer {
    /// Gives the body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {} {}", self.status, self.text))
    }
}

impl World {
    /// Begins a request with the world's key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(&self.key).timeout(Duration::from_secs(60))
    }

    /// Makes a request and gives whatever is answered.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, path);
        read(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    /// Gets what must be there.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert!(answer.status < 300, "GET {path}: {answer:?}");
        answer.json()
    }

    /// Posts what must be accepted.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.call(Method::POST, path, Some(body)).await;
        assert!(answer.status < 300, "POST {path}: {answer:?}");
        answer.json()
    }

    /// Makes an environment and gives its id.
    pub async fn environment(&self, has_internet: bool) -> String {
        let made = self.post("/v1/environments", json!({ "name": "test", "internetAccess": has_internet })).await;
        text(&made["environment"]["id"])
    }

    /// Makes a thread in an environment and gives its id.
    pub async fn thread(&self, environment: &str) -> String {
        text(&self.post("/v1/threads", json!({ "environmentId": environment })).await["thread"]["id"])
    }

    /// Sends a message that makes the model reply like this, and gives the stream.
    pub async fn send(&self, thread: &str, replies: &[Reply]) -> Frames {
        self.try_send(thread, &message(replies)).await.expect("the message is accepted")
    }

    /// Sends a message; fails where the server does not answer or refuses it.
    pub async fn try_send(&self, thread: &str, content: &str) -> reqwest::Result<Frames> {
        let request = self.client.post(self.url(&format!("/v1/threads/{thread}/messages"))).bearer_auth(&self.key);
        let response = request.json(&json!({ "content": content })).send().await?.error_for_status()?;
        Ok(Frames::new(response))
    }

    /// Sends a message and waits until its run is over.
    pub async fn run(&self, thread: &str, replies: &[Reply]) -> Vec<Frame> {
        let mut stream = self.send(thread, replies).await;
        let frames = stream.rest().await;
        assert!(!stream.is_broken(), "{frames:#?}");
        frames
    }

    /// Runs one command in a thread and gives what it put out, and whether the model was told of an error.
    pub async fn bash(&self, thread: &str, command: &str) -> (String, bool) {
        let call = Reply::tool("Bash", json!({ "command": command }));
        let replies = [call, Reply::text("done")];
        self.run(thread, &replies).await;
        // Not just the newest: other threads may ask at the same time.
        let (requests, message) = (self.claude.requests(), message(&replies));
        let mut asked = requests.iter().rev().filter_map(|request| request.asked.as_ref());
        let asked = asked.find(|asked| asked.user_text == message && !asked.results.is_empty());
        let asked = asked.expect("the model got the result");
        let result = asked.last_results().next().expect("a result");
        (result.text.clone(), result.is_error)
    }

    /// Follows a thread's log after a number, as one who reconnects.
    pub async fn follow(&self, thread: &str, after: i64) -> Frames {
        self.reader().follow(thread, after).await.expect("the log can be followed")
    }

    /// Reads a thread's whole log.
    pub async fn log_of(&self, thread: &str) -> Vec<Frame> {
        let mut log = self.follow(thread, 0).await.rest().await;
        log.retain(Frame::is_durable);
        log
    }

    /// Gives a thread's status.
    pub async fn status(&self, thread: &str) -> String {
        text(&self.get(&format!("/v1/threads/{thread}/status")).await["status"])
    }

    /// Waits until no run of the thread is under way, and gives its status and how long that took.
    pub async fn settled(&self, thread: &str, limit: Duration) -> (String, Duration) {
        let path = format!("/v1/threads/{thread}/status");
        let mut status = String::new();
        let took = eventually("the run is over", limit, async || {
            let answer = self.call(Method::GET, &path, None).await;
            // Without its database the server says so, and is asked again.
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            status = answer.json()["status"].as_str().unwrap_or("running").to_owned();
            status != "running"
        })
        .await;
        (status, took)
    }

    /// Uploads a file to the top of an environment.
    pub async fn upload(&self, environment: &str, name: &str, content: &str) -> Answer {
        let head = format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        let request = self.request(Method::POST, &format!("/v1/environments/{environment}/files/upload"));
        let request = request.header("content-type", "multipart/form-data; boundary=edge");
        read(request.body(format!("{head}{content}\r\n--edge--\r\n"))).await
    }

    /// Reads a file of an environment; `None` where there is none.
    pub async fn file(&self, environment: &str, path: &str) -> Option<String> {
        let path = format!("/v1/environments/{environment}/files/download/{path}");
        let answer = self.call(Method::GET, &path, None).await;
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
        (answer.status == 200).then_some(answer.text)
    }
}

/// Sends a request and reads the answer.
pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (status, content_type) = (response.status().as_u16(), content_type.to_owned());
    let bytes = response.bytes().await.expect("the answer is whole");
    Answer { status, content_type, text: String::from_utf8_lossy(&bytes).into_owned() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}")).to_owned()
}
