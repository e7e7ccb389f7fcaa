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

use bytes::{Buf, Bytes, BytesMut};
use guest_protocol::{Kind, MAX_DATA, decode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::io::poll_read_buf;

use crate::{guest::Connection, slot::InUse};

/// A connection to a port. Shutting it down ends the sending side only; dropping it closes both.
///
/// Holds one frame in each direction at most: what is not read here waits where it comes from.
#[derive(Debug)]
pub struct Forward {
    stream: UnixStream,
    /// What came and is no whole frame yet.
    incoming: BytesMut,
    /// What is left of the frame that came last.
    data: Bytes,
    /// What is left of the frame that is being sent.
    outgoing: BytesMut,
    has_ended: bool,
    is_ending: bool,
    _in_use: InUse,
}

impl Forward {
    pub(crate) fn new(connection: Connection, in_use: InUse) -> Self {
        let (stream, incoming) = connection.into_parts();
        Self {
            stream,
            incoming,
            data: Bytes::new(),
            outgoing: BytesMut::new(),
            has_ended: false,
            is_ending: false,
            _in_use: in_use,
        }
    }

    /// Sends what is left of the frame under way.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.has_remaining() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outgoing.advance(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn frame(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(&header(kind, body.len()).map_err(io::Error::other)?);
        self.outgoing.extend_from_slice(body);
        Ok(())
    }
}

impl AsyncRead for Forward {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.data.has_remaining() {
                let part = this.data.split_to(this.data.len().min(buffer.remaining()));
                buffer.put_slice(&part);
                return Poll::Ready(Ok(()));
            }
            if this.has_ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let nonsense = |err| io::Error::new(io::ErrorKind::InvalidData, err);
            match decode(&mut this.incoming).map_err(nonsense)? {
                Some(frame) if frame.kind == Kind::Data => this.data = frame.body,
                Some(frame) if frame.kind == Kind::End => this.has_ended = true,
                Some(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                None if ready!(poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.incoming))? == 0 => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => {}
            }
        }
    }
}

impl AsyncWrite for Forward {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_ending {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_send(cx))?;
        let bytes = &bytes[..bytes.len().min(MAX_DATA)];
        // A frame without a body would be no error and say nothing.
        if !bytes.is_empty() {
            this.frame(Kind::Data, bytes)?;
        }
        // What does not leave at once leaves with the next call.
        match this.poll_send(cx) {
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.is_ending {
            self.is_ending = true;
            self.frame(Kind::End, &[])?;
        }
        self.poll_send(cx)
    }
}
