//! A client of the public API that notes when things arrive.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

const CHUNK_BYTES: u64 = 256 * 1024;

/// A client with a key.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    pub key: String,
}

/// A message's run as its reader saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When the message was sent.
    pub sent_at: Instant,
    /// When the first byte of the stream came.
    pub first_byte_at: Instant,
    /// When each frame had come, and its event's name.
    pub frames: Vec<(Instant, String)>,
    pub ended_at: Instant,
}

impl Seen {
    /// When the frames of one kind came, in order.
    pub(crate) fn times<'a>(&'a self, event: &'a str) -> impl Iterator<Item = Instant> + 'a {
        self.frames.iter().filter(move |(_, name)| name == event).map(|(at, _)| *at)
    }
}

impl Client {
    pub(crate) fn new(url: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).tcp_nodelay(true).build()?;
        Ok(Self { http, url, key: String::new() })
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("{}/ready", self.url)).timeout(Duration::from_secs(5)).send().await;
        asked.is_ok_and(|response| response.status().is_success())
    }

    /// Makes an environment without network and gives its id.
    pub(crate) async fn environment(&self) -> anyhow::Result<String> {
        self.environment_with(json!({})).await
    }

    /// The same with more settings.
    pub(crate) async fn environment_with(&self, mut settings: Value) -> anyhow::Result<String> {
        settings["name"] = "bench".into();
        settings["internetAccess"] = false.into();
        id(&self.post("environments", settings).await?["environment"])
    }

    /// Makes a thread and gives its id.
    pub(crate) async fn thread(&self, environment: &str) -> anyhow::Result<String> {
        id(&self.post("threads", json!({ "environmentId": environment })).await?["thread"])
    }

    /// Sends a message and reads the stream to its end; an error where the run or a call of it failed.
    pub(crate) async fn run(&self, thread: &str, content: &str) -> anyhow::Result<Seen> {
        let request = self.request(&format!("threads/{thread}/messages"), json!({ "content": content }));
        let sent_at = Instant::now();
        let mut response = request.send().await?.error_for_status()?;
        let mut first_byte_at = None;
        let mut frames = Vec::new();
        let mut unread = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let at = Instant::now();
            first_byte_at.get_or_insert(at);
            unread.extend_from_slice(&chunk);
            while let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = unread.drain(..end + 2).collect();
                let frame = String::from_utf8_lossy(&frame);
                let Some(event) = frame.lines().find_map(|line| line.strip_prefix("event: ")) else { continue };
                ensure!(!frame.contains(r#""status":"failed""#), "a call failed: {frame}");
                ensure!(event != "response.failed", "the run failed: {frame}");
                frames.push((at, event.to_owned()));
            }
        }
        let first_byte_at = first_byte_at.context("the stream is empty")?;
        let seen = Seen { sent_at, first_byte_at, frames, ended_at: Instant::now() };
        ensure!(seen.times("response.completed").next().is_some(), "the run did not complete: {seen:?}");
        Ok(seen)
    }

    /// Uploads a file of `size` bytes and gives how long that took.
    pub(crate) async fn upload(&self, environment: &str, name: &str, size: u64) -> anyhow::Result<Duration> {
        const BOUNDARY: &str = "atelier-bench-boundary";
        let disposition = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
        let head = format!("--{BOUNDARY}\r\n{disposition}\r\n\r\n");
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = head.len() as u64 + size + tail.len() as u64;
        let chunk = Bytes::from(vec![7; CHUNK_BYTES as usize]);
        let chunks = (0..size)
            .step_by(CHUNK_BYTES as usize)
            .map(move |at| chunk.slice(..usize::try_from(CHUNK_BYTES.min(size - at)).unwrap_or(0)));
        let parts = std::iter::once(head.into()).chain(chunks).chain(std::iter::once(tail.into()));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(parts.map(Ok::<Bytes, std::io::Error>)));
        let request = self
            .http
            .post(format!("{}/v1/environments/{environment}/files/upload", self.url))
            .bearer_auth(&self.key)
            .header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .header("Content-Length", length)
            .body(body);
        let began_at = Instant::now();
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(began_at.elapsed())
    }

    /// Downloads a file of `size` bytes and gives how long that took.
    pub(crate) async fn download(&self, environment: &str, name: &str, size: u64) -> anyhow::Result<Duration> {
        let url = format!("{}/v1/environments/{environment}/files/download/{name}", self.url);
        let began_at = Instant::now();
        let mut response = self.http.get(url).bearer_auth(&self.key).send().await?.error_for_status()?;
        let mut read = 0;
        while let Some(chunk) = response.chunk().await? {
            read += chunk.len() as u64;
        }
        ensure!(read == size, "{read} bytes came");
        Ok(began_at.elapsed())
    }

    /// Starts an environment's container, opens a port of it and gives the address for tools.
    pub(crate) async fn preview(&self, environment: &str, port: u16) -> anyhow::Result<String> {
        self.post(&format!("environments/{environment}/start"), json!({})).await?;
        let made = self.post(&format!("environments/{environment}/previews"), json!({ "port": port })).await?;
        let url = made["preview"]["toolUrl"].as_str().with_context(|| format!("no address in {made}"))?;
        Ok(url.to_owned())
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        Ok(self.request(path, body).send().await?.error_for_status()?.json().await?)
    }

    fn request(&self, path: &str, body: Value) -> RequestBuilder {
        self.http.post(format!("{}/v1/{path}", self.url)).bearer_auth(&self.key).json(&body)
    }
}

fn id(made: &Value) -> anyhow::Result<String> {
    made["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {made}"))
}
