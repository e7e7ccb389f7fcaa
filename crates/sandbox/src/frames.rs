//! A conversation with a daemon that goes on as a stream: its frames as they come, and bytes sent as frames.
//!
//! Holds one frame in each direction at most: what is not read waits where it comes from, and what cannot leave yet keeps
//! the sender waiting.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use guest_protocol::{Frame, Kind, MAX_DATA, decode, header};
use tokio::{
    io::{AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::io::poll_read_buf;

use crate::guest::Connection;

#[derive(Debug)]
pub(crate) struct Frames {
    stream: UnixStream,
    /// What came and is no whole frame yet.
    incoming: BytesMut,
    /// What is left of the frame that is being sent.
    outgoing: BytesMut,
    is_ending: bool,
}

impl Frames {
    pub(crate) fn new(connection: Connection) -> Self {
        let (stream, incoming) = connection.into_parts();
        Self { stream, incoming, outgoing: BytesMut::new(), is_ending: false }
    }

    /// Gives the next frame.
    ///
    /// # Errors
    /// `InvalidData`; `ConnectionReset` for an end of the connection: one that is meant is told by a frame.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Frame>> {
        loop {
            let nonsense = |err| io::Error::new(io::ErrorKind::InvalidData, err);
            if let Some(frame) = decode(&mut self.incoming).map_err(nonsense)? {
                return Poll::Ready(Ok(frame));
            }
            if ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
    }

    /// Sends some of `bytes` as a frame of this kind, and gives how many.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, kind: Kind, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_ending {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_flush(cx))?;
        let bytes = &bytes[..bytes.len().min(MAX_DATA)];
        // A frame without a body would be no error and say nothing.
        if !bytes.is_empty() {
            self.frame(kind, bytes)?;
        }
        // What does not leave at once leaves with the next call.
        match self.poll_flush(cx) {
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Sends what is left of the frame under way.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.has_remaining() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outgoing.advance(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the sending side with a frame of this kind.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>, kind: Kind) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        if !self.is_ending {
            self.is_ending = true;
            self.frame(kind, &[])?;
        }
        self.poll_flush(cx)
    }

    fn frame(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(&header(kind, body.len()).map_err(io::Error::other)?);
        self.outgoing.extend_from_slice(body);
        Ok(())
    }
}

/// Moves as much of `data` as there is room for.
pub(crate) fn fill(buffer: &mut ReadBuf<'_>, data: &mut Bytes) {
    let part = data.split_to(data.len().min(buffer.remaining()));
    buffer.put_slice(&part);
}
