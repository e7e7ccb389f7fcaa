//! When each exchange passed, for measuring what a client does between a reply's last byte and its next request.
//!
//! Taken here, and not by a proxy in between, because a proxy would add to what it measures.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::Body;
use futures::StreamExt;

use crate::Asked;

/// One exchange with the messages route.
#[derive(Debug, Clone)]
pub struct Timing {
    /// What the user said last; tells conversations apart where each says something else.
    pub user_text: String,
    /// Rounds of tool results since then.
    pub round: usize,
    /// When the request's headers had come in.
    pub headers_at: Instant,
    /// When its whole body had.
    pub body_at: Instant,
    /// When each piece of the reply went to the socket: one piece for each frame of a reply with delays, else one in all.
    pub sent_at: Vec<Instant>,
}

#[derive(Default)]
pub(crate) struct Timings(Arc<Mutex<Vec<Timing>>>);

impl Timings {
    pub(crate) fn all(&self) -> Vec<Timing> {
        self.0.lock().expect("nothing panics while holding the lock").clone()
    }

    /// Notes a request and gives its place.
    pub(crate) fn note(&self, asked: &Asked, headers_at: Instant, body_at: Instant) -> usize {
        let timing =
            Timing { user_text: asked.user_text.clone(), round: asked.round, headers_at, body_at, sent_at: Vec::new() };
        let mut all = self.0.lock().expect("nothing panics while holding the lock");
        all.push(timing);
        all.len() - 1
    }

    /// Notes the pieces of the reply to the request at this place as `body` is sent.
    pub(crate) fn watch(&self, at: usize, body: Body) -> Body {
        let timings = self.0.clone();
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            timings.lock().expect("nothing panics while holding the lock")[at].sent_at.push(Instant::now());
        }))
    }
}
