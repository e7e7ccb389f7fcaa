//! What was received, for tests to look at and for a log file. Keys are in neither.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::Asked;

/// One request to the messages route.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: Instant,
    /// Without `x-api-key` and `authorization`.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What was made of it; `None` when it was refused.
    pub asked: Option<Asked>,
    /// The status it was answered with.
    pub status: u16,
}

impl Received {
    /// The body as JSON, `null` when it was none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

pub(crate) struct Recorder {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    keeps: bool,
    log: Option<Mutex<File>>,
}

impl Recorder {
    pub(crate) fn new(keeps: bool, log: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open the request log {}", path.display()))
        };
        let log = log.map(open).transpose()?.map(Mutex::new);
        Ok(Self { received: Mutex::default(), count: watch::Sender::new(0), keeps, log })
    }

    pub(crate) fn add(&self, headers: &HeaderMap, body: &Bytes, asked: Option<&Asked>, status: u16) {
        if self.keeps {
            let mut headers = headers.clone();
            headers.remove("x-api-key");
            headers.remove("authorization");
            let received = Received { at: Instant::now(), headers, body: body.clone(), asked: asked.cloned(), status };
            self.received.lock().expect("nothing panics while holding the lock").push(received);
        }
        if let Some(log) = &self.log {
            let shown: Map<String, Value> = headers
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "x-api-key" | "authorization"))
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").into()))
                .collect();
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let line = json!({ "status": status, "headers": shown, "body": body });
            // A full disk must not stop the conversation: the log is for looking.
            let _ = writeln!(log.lock().expect("nothing panics while holding the lock"), "{line}");
        }
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn all(&self) -> Vec<Received> {
        self.received.lock().expect("nothing panics while holding the lock").clone()
    }

    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
