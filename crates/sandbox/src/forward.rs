//! A connection to a port of a container, as a stream of bytes.
//!
//! It goes through the daemon's socket, so it needs no network and reaches no other port. Beneath it are frames, since a
//! socket's end alone does not tell whether the other side had finished or was cut off: here an end without the daemon's
//! `End` is an error, as a reset connection is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use guest_protocol::Kind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    frames::{Frames, fill},
    guest::Connection,
    slot::InUse,
};

/// A connection to a port. Shutting it down ends the sending side only; dropping it closes both.
#[derive(Debug)]
pub struct Forward {
    frames: Frames,
    /// What is left of the frame that came last.
    data: Bytes,
    has_ended: bool,
    _in_use: InUse,
}

impl Forward {
    pub(crate) fn new(connection: Connection, in_use: InUse) -> Self {
        Self { frames: Frames::new(connection), data: Bytes::new(), has_ended: false, _in_use: in_use }
    }
}

impl AsyncRead for Forward {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.data.has_remaining() {
                fill(buffer, &mut this.data);
                return Poll::Ready(Ok(()));
            }
            if this.has_ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let frame = ready!(this.frames.poll_next(cx))?;
            match frame.kind {
                Kind::Data => this.data = frame.body,
                Kind::End => this.has_ended = true,
                _ => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
        }
    }
}

impl AsyncWrite for Forward {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.frames.poll_write(cx, Kind::Data, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_end(cx, Kind::End)
    }
}
