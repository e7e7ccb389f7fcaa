//! Streams as bytes: what a client may count on is told by the frames themselves, so they are kept as they came.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::Value;

/// Longer than the longest wait of a test between two frames, heartbeats included.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// One frame of a stream. Comments are not among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub id: Option<i64>,
    pub event: String,
    pub data: Value,
    /// The frame's bytes.
    pub raw: String,
}

impl Frame {
    fn parse(raw: &str) -> Option<Self> {
        let field = |name: &str| raw.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data = field("data")?;
        assert_eq!(raw.lines().filter(|line| line.starts_with("data")).count(), 1, "one data line a frame: {raw}");
        Some(Self {
            id: field("id").map(|id| id.parse().unwrap_or_else(|_| panic!("an id is a number: {raw}"))),
            event: field("event").unwrap_or_default().to_owned(),
            data: serde_json::from_str(data).unwrap_or_else(|err| panic!("{err}: {raw}")),
            raw: raw.to_owned(),
        })
    }

    /// Tells whether it is part of the thread's log; deltas and greetings are for those who watch now.
    pub fn is_durable(&self) -> bool {
        self.event != "stream.ready" && !self.event.ends_with(".delta")
    }
}

/// A stream being read.
pub struct Frames {
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    unread: Vec<u8>,
    is_broken: bool,
}

impl Frames {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { body: Box::pin(response.bytes_stream()), unread: Vec::new(), is_broken: false }
    }

    /// Gives the next frame; `None` at the end, also at one that the connection's loss made.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let raw: Vec<u8> = self.unread.drain(..end + 2).collect();
                match Frame::parse(std::str::from_utf8(&raw).expect("frames are UTF-8")) {
                    Some(frame) => return Some(frame),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(SILENCE_LIMIT, self.body.next()).await;
            match chunk.expect("a stream is never silent for so long") {
                Some(Ok(bytes)) => self.unread.extend_from_slice(&bytes),
                Some(Err(_)) => {
                    self.is_broken = true;
                    return None;
                }
                None => {
                    assert!(self.unread.is_empty(), "a body ends with a whole frame");
                    return None;
                }
            }
        }
    }

    /// Reads until a frame for which `wanted` holds, and gives all up to it.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let is_last = wanted(&frame);
            frames.push(frame);
            if is_last {
                return frames;
            }
        }
        panic!("the stream ended before the frame that was waited for: {frames:#?}");
    }

    /// Reads to the end.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Tells whether the connection was lost, and not ended.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }
}

/// Gives what a client keeps of a stream that broke: the log's frames up to the last that has a number, and that number.
///
/// One event may be several frames, of which the last has the number; a client resumes after what it has seen whole.
pub fn durable(frames: &[Frame]) -> (Vec<String>, i64) {
    let end = frames.iter().rposition(|frame| frame.id.is_some()).map_or(0, |last| last + 1);
    let kept = frames[..end].iter().filter(|frame| frame.is_durable()).map(|frame| frame.raw.clone()).collect();
    (kept, frames[..end].iter().rev().find_map(|frame| frame.id).unwrap_or(0))
}

/// Asserts that a thread's whole log has every number once, in order, and every call's beginning and end once.
pub fn assert_complete(log: &[Frame]) {
    let numbers: Vec<i64> = log.iter().filter_map(|frame| frame.id).collect();
    let wanted: Vec<i64> = (1..=numbers.len() as i64).collect();
    assert_eq!(numbers, wanted, "numbers are without gaps and repetitions");
    for kind in ["response.item.created", "response.item.completed"] {
        let mut ids: Vec<&str> = log
            .iter()
            .filter(|frame| frame.event == kind)
            .filter_map(|frame| frame.data["item"]["id"].as_str())
            .collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "each call has one {kind}");
    }
}
