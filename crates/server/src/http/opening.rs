//! A connection that must begin to talk in time.
//!
//! The server tells HTTP/1 and HTTP/2 apart by the first bytes, and its own limit for the headers begins only after them:
//! who sends nothing, or a part of HTTP/2's preface, would be waited for without an end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails with `TimedOut` where the first bytes do not tell in time what is spoken.
pub(super) struct Opening<S> {
    stream: S,
    /// `None` once it is known.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come.
    seen: usize,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, deadline: Some(Box::pin(sleep(within))), seen: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(deadline) = &mut this.deadline else { return Pin::new(&mut this.stream).poll_read(cx, buffer) };
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let new = &buffer.filled()[before..];
        let expected = &PREFACE[this.seen..];
        let same = new.iter().zip(expected).take_while(|(new, expected)| new == expected).count();
        this.seen += same;
        if same < new.len() || this.seen == PREFACE.len() {
            this.deadline = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn after(sent: &[u8]) -> (Opening<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (mut client, server) = duplex(64);
        client.write_all(sent).await.unwrap();
        let mut opening = Opening::new(server, Duration::from_millis(20));
        opening.read_exact(&mut vec![0; sent.len()]).await.unwrap();
        (opening, client)
    }

    #[tokio::test]
    async fn who_does_not_begin_to_talk_is_not_waited_for() {
        for unclear in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (mut opening, _client) = after(unclear).await;
            assert_eq!(opening.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{unclear:?}");
        }
        for clear in [&b"G"[..], b"PO", b"PRI * HTTP/1", PREFACE] {
            assert!(after(clear).await.0.deadline.is_none(), "{clear:?}");
        }
    }
}
