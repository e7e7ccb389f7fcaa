//! Reading what is left of a body that nobody wants any more.
//!
//! A server that answers and closes while a client still sends cuts the client off before it reads the answer: what says
//! "too large" or "no such environment" arrives as a broken pipe. So the rest of a body is read after its reader has
//! dropped it, up to a bound of bytes and of time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::Request,
    http::header,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{runtime::Handle, time::timeout};

const DRAIN_BYTES: usize = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Sees to it that the rest of the request's body is read, whoever drops it. A client that asks before it sends
/// (`Expect`) has sent nothing that could be cut off.
pub(crate) fn drain_body(request: Request) -> Request {
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::from_stream(Drained(Some(body.into_data_stream()))))
}

/// The chunks of a body; none when it has ended.
struct Drained(Option<BodyDataStream>);

impl Stream for Drained {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(chunks) = &mut self.0 else { return Poll::Ready(None) };
        let next = chunks.poll_next_unpin(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        next
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        // Without a runtime the connection is gone too.
        if let Some(chunks) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(DRAIN_TIME, read(chunks)));
        }
    }
}

async fn read(mut chunks: BodyDataStream) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(chunk)) = chunks.next().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}
