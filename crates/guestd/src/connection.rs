//! One connection of the host, as frames.

use std::{io, time::Duration};

use bytes::BytesMut;
use guest_protocol::{Frame, HEADER_LEN, Kind, MAX_DATA, Reply, decode, encode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

/// Splits a connection into its two directions.
pub(crate) fn split(stream: UnixStream) -> (Incoming, Outgoing) {
    let (reading, writing) = stream.into_split();
    (Incoming { stream: reading, buffer: BytesMut::new() }, Outgoing { stream: writing })
}

/// What the host sends.
pub(crate) struct Incoming {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl Incoming {
    /// Gives the next frame, `None` at the end. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = decode(&mut self.buffer).map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits until the host's sending side has ended, without reading what it sent before.
    ///
    /// For the time in which a command does not take its input: the frames behind it must wait, but not the news that
    /// nobody waits for the command any more. Polled, because readiness to read is also reported for unread frames.
    pub(crate) async fn closed(&self) {
        while let Ok(ready) = self.stream.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the host is told.
pub(crate) struct Outgoing {
    stream: OwnedWriteHalf,
}

impl Outgoing {
    pub(crate) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        self.stream.write_all(&encode(Kind::Reply, reply).map_err(io::Error::other)?).await
    }

    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.stream.write_all(&header(Kind::End, 0).map_err(io::Error::other)?).await
    }

    /// Sends the first `len` bytes of `block` in one write.
    pub(crate) async fn send(&mut self, kind: Kind, block: &mut Block, len: usize) -> io::Result<()> {
        block.0[..HEADER_LEN].copy_from_slice(&header(kind, len).map_err(io::Error::other)?);
        self.stream.write_all(&block.0[..HEADER_LEN + len]).await
    }
}

/// A buffer for one frame of raw bytes, with room for its header in front, so that no byte is moved between the read
/// that fetched it and the write that sends it.
pub(crate) struct Block(Vec<u8>);

impl Block {
    pub(crate) fn new() -> Self {
        Self(vec![0; HEADER_LEN + MAX_DATA])
    }

    /// The place for the bytes, [`MAX_DATA`] long.
    pub(crate) fn body(&mut self) -> &mut [u8] {
        &mut self.0[HEADER_LEN..]
    }
}
