//! An end to every wait of an exchange: when nothing moves for too long, and when its preview is over.
//!
//! All of it hangs on the connection inside, not on the parts of HTTP above: a body, a stream of events and a WebSocket
//! are the same here. Who serves the connection waits for [`Watch::over`] beside it and drops it then; so nobody needs to
//! read or write for it to end, and a client that takes nothing any more holds nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use sandbox::Forward;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How late it may be noticed that nothing moves, and that the patience has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why an exchange was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    Silent = 1,
    Over = 2,
}

/// What is known of an exchange's connection.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    moved_ms: AtomicU64,
    patience_ms: AtomicU64,
    cut: AtomicU8,
    over: CancellationToken,
}

impl Watch {
    /// `over` is cancelled when the preview is over, `patience` is how long nothing may move.
    pub(crate) fn new(patience: Duration, over: CancellationToken) -> Arc<Self> {
        let (moved_ms, cut) = (AtomicU64::new(0), AtomicU8::new(0));
        Arc::new(Self { began: Instant::now(), moved_ms, patience_ms: AtomicU64::new(millis(patience)), cut, over })
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        self.patience_ms.store(millis(patience), Ordering::Relaxed);
    }

    /// Tells whether, and why, we ended it.
    pub(crate) fn cut(&self) -> Option<Cut> {
        let cut = self.cut.load(Ordering::Acquire);
        [Cut::Silent, Cut::Over].into_iter().find(|known| *known as u8 == cut)
    }

    /// Waits until it is to be ended.
    pub(crate) async fn over(&self) {
        let cut = tokio::select! {
            () = self.over.cancelled() => Cut::Over,
            () = self.silent() => Cut::Silent,
        };
        self.cut.store(cut as u8, Ordering::Release);
    }

    async fn silent(&self) {
        loop {
            let moved = self.moved_ms.load(Ordering::Relaxed);
            let due = Duration::from_millis(moved.saturating_add(self.patience_ms.load(Ordering::Relaxed)));
            let (now, due) = (Instant::now(), self.began + due.min(Duration::from_secs(u64::from(u32::MAX))));
            if due <= now {
                return;
            }
            sleep_until(due.min(now + LOOK_EVERY)).await;
        }
    }

    fn moved(&self) {
        self.moved_ms.store(millis(self.began.elapsed()), Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The connection to what listens. Holds one of its preview's places.
pub(crate) struct Watched {
    forward: Forward,
    watch: Arc<Watch>,
    _place: OwnedSemaphorePermit,
}

impl Watched {
    pub(crate) fn new(forward: Forward, watch: Arc<Watch>, place: OwnedSemaphorePermit) -> Self {
        Self { forward, watch, _place: place }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.forward).poll_read(cx, buffer))?;
        self.watch.moved();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.forward).poll_write(cx, bytes))?;
        self.watch.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.forward).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.forward).poll_shutdown(cx)
    }
}

/// The body of an answer, whose end is no good one when we made it.
pub struct Answer {
    body: Incoming,
    watch: Arc<Watch>,
}

impl Answer {
    pub(crate) fn new(body: Incoming, watch: Arc<Watch>) -> Self {
        Self { body, watch }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(frame.map_err(Into::into))),
            // A dropped connection ends its body like one that has come to its end.
            None if self.watch.cut().is_some() => {
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
