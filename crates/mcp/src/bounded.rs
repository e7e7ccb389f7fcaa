//! A reader that ends when a line grows too long.
//!
//! Messages of a process are lines. One that never ends would fill our memory, and one that is merely dropped would leave
//! whoever waits for it waiting: so the connection is over, and it is known why.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts the bytes since the last end of a line.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    inner: S,
    max: usize,
    since_newline: usize,
    why: Arc<OnceLock<String>>,
}

impl<S> Bounded<S> {
    /// `why` is set when a line was too long.
    pub(crate) fn new(inner: S, max: usize, why: Arc<OnceLock<String>>) -> Self {
        Self { inner, max, since_newline: 0, why }
    }

    fn count(&mut self, read: &[u8]) -> io::Result<()> {
        for (n, part) in read.split(|&byte| byte == b'\n').enumerate() {
            self.since_newline = if n == 0 { self.since_newline + part.len() } else { part.len() };
            if self.since_newline > self.max {
                let why = self.why.get_or_init(|| format!("it sent a message of more than {} bytes", self.max));
                return Err(io::Error::new(io::ErrorKind::InvalidData, why.clone()));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let counted = self.count(&buffer.filled()[before..]);
        if counted.is_err() {
            // Whoever gets an error got nothing.
            buffer.set_filled(before);
        }
        Poll::Ready(counted)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_line_may_be_as_long_as_it_may_and_no_longer() {
        for (text, is_right) in [
            ("1234567890\n1234567890\n", true),
            ("1234567890", true),
            ("12345678901\n", false),
            ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", true),
            ("1\n12345678901", false),
        ] {
            let why = Arc::default();
            let mut bounded = Bounded::new(tokio_test_reader(text), 10, Arc::clone(&why));
            let mut read = String::new();
            assert_eq!(bounded.read_to_string(&mut read).await.is_ok(), is_right, "{text:?}");
            assert_eq!(why.get().is_some(), !is_right);
        }
    }

    /// Gives its text three bytes at a time.
    fn tokio_test_reader(text: &str) -> tokio::io::DuplexStream {
        let (mut write, read) = tokio::io::duplex(3);
        let text = text.to_owned();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut write, text.as_bytes()).await });
        read
    }
}
