//! A client that follows a thread's log over whatever happens to its connection.

use crate::{Frames, durable};

/// What is needed to read streams; lives apart from its world, so that tasks may read while the server is killed.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
    pub(crate) key: String,
}

impl Reader {
    /// Follows a thread's log after a number; fails where the server does not answer or refuses it.
    pub async fn follow(&self, thread: &str, after: i64) -> reqwest::Result<Frames> {
        let request = self.client.get(format!("{}/v1/threads/{thread}/events?stream=true", self.base));
        let response = request.bearer_auth(&self.key).header("Last-Event-ID", after).send().await?;
        Ok(Frames::new(response.error_for_status()?))
    }
}

/// Reads one thread's log in parts, and keeps of each what a client may keep.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    thread: String,
    /// The log as far as it was read, byte for byte.
    pub kept: String,
    /// The number after which it goes on.
    pub last: i64,
    /// The run's end was read.
    pub is_over: bool,
}

impl Follower {
    pub fn new(reader: Reader, thread: &str) -> Self {
        Self { reader, thread: thread.to_owned(), kept: String::new(), last: 0, is_over: false }
    }

    /// Reads up to `most` frames, then leaves. Fails where there is no stream to be had now.
    pub async fn read(&mut self, most: usize) -> reqwest::Result<()> {
        let mut stream = self.reader.follow(&self.thread, self.last).await?;
        let mut part = Vec::new();
        while part.len() < most
            && let Some(frame) = stream.next().await
        {
            let is_end = frame.event == "stream.completed";
            part.push(frame);
            if is_end {
                self.is_over = true;
                break;
            }
        }
        let (kept, last) = durable(&part);
        self.kept.push_str(&kept.concat());
        self.last = self.last.max(last);
        Ok(())
    }
}
