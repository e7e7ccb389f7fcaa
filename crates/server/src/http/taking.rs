//! A client must take what it asked for.
//!
//! One that stops reading would hold its connection, what was made for it and what is to be sent for ever. Two clocks see
//! it. Over HTTP/1 the kernel takes no more bytes: [`Writing`] sees that, whatever is sent. Over HTTP/2 one response may
//! stand still while the connection lives (pings are answered by a client's library, and its window for the response stays
//! shut), and of that only the body knows: it is not asked for more. [`Bodies`] sees that. In both cases the connection is
//! cut; who was in the middle of a stream goes on after the last `id:` that it has.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Bytes a second that a client may be slow with: for a large piece it has longer.
const SLOWEST: u64 = 16 * 1024;

/// How often the bodies of a connection are looked at, at most.
const LOOK: Duration = Duration::from_secs(5);

/// A stream that fails with `TimedOut` where nothing can be written for too long.
pub(super) struct Writing<S> {
    stream: S,
    within: Duration,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Writing<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, deadline: None }
    }

    /// Passes on what a write came to, unless it waits for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.deadline = None;
            return wrote;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.within)));
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Writing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Writing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The bodies of one connection that are being sent.
pub(super) struct Bodies {
    began: Instant,
    within: Duration,
    /// For each until when it must be asked for more, in milliseconds since `began`; 0 while it is not waited for.
    open: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Bodies {
    pub(super) fn new(within: Duration) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), within, open: Mutex::default() })
    }

    /// Watches over a body from now on.
    pub(super) fn watch<B>(self: &Arc<Self>, body: B) -> Taken<B> {
        let deadline = Arc::new(AtomicU64::new(self.deadline(0)));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|body| body.strong_count() > 0);
        open.push(Arc::downgrade(&deadline));
        drop(open);
        Taken { body, deadline, bodies: self.clone() }
    }

    /// Waits until a client has not taken what was made for it.
    pub(super) async fn stalled(&self) {
        loop {
            sleep((self.within / 4).clamp(Duration::from_millis(10), LOOK)).await;
            let now = self.now();
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|body| body.strong_count() > 0);
            let is_late = |body: &Weak<AtomicU64>| {
                let deadline = body.upgrade().map_or(0, |deadline| deadline.load(Ordering::Relaxed));
                deadline > 0 && deadline < now
            };
            if open.iter().any(is_late) {
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Gives until when a piece of so many bytes must be taken.
    fn deadline(&self, bytes: u64) -> u64 {
        let within = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        self.now().saturating_add(within).saturating_add(bytes.saturating_mul(1000) / SLOWEST).max(1)
    }
}

/// A body that notes when it is asked for more.
pub(super) struct Taken<B> {
    body: B,
    deadline: Arc<AtomicU64>,
    bodies: Arc<Bodies>,
}

impl<B: Body<Data: hyper::body::Buf> + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let deadline = match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| hyper::body::Buf::remaining(data) as u64);
                self.bodies.deadline(bytes)
            }
            // It has nothing to give, or is at its end: nobody is waited for.
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
        };
        self.deadline.store(deadline, Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
