//! Talks to the `guestd` of one container.
//!
//! The peer is hostile until proven otherwise: whatever runs in the container can replace the daemon or its socket. So the
//! socket is opened without following links (one to a socket of this host would have us speak to *that*), frames are
//! capped by the protocol, and no wait is without an end.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use bytes::BytesMut;
use guest_protocol::{Failure, FailureCode, Frame, Kind, MAX_DATA, Pong, Reply, Request, decode, encode, header};
use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use crate::Error;

/// The socket's name in the run directory.
pub(crate) const SOCKET: &str = "guestd.sock";

/// How long the daemon may take to answer what needs no work.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

const DIAL_LIMIT: Duration = Duration::from_secs(3);

/// The way to a container's daemon: its run directory, held open.
#[derive(Debug)]
pub(crate) struct Guest {
    run: OwnedFd,
}

impl Guest {
    pub(crate) fn new(run: &Path) -> io::Result<Self> {
        Ok(Self {
            run: open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?,
        })
    }

    /// Connects and sends the request.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Connection, Error> {
        let frame = encode(Kind::Request, request).map_err(|_| Error::TooLarge("the command".to_owned()))?;
        let stream = self.dial().await.map_err(|err| match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => Error::Gone,
            // Ours to mend, such as too many open files: it says nothing about the container.
            _ => Error::other("cannot connect to guestd", err),
        })?;
        let mut connection = Connection { stream, buffer: BytesMut::new() };
        connection.write(&frame).await?;
        Ok(connection)
    }

    /// Asks how the daemon is. `Gone` when it does not answer within `limit`, or not with sense.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<Pong, Error> {
        let ping = async {
            match self.ask(&Request::Ping).await?.reply(limit).await {
                Ok(Reply::Pong(pong)) => Ok(pong),
                Ok(_) | Err(_) => Err(Error::Gone),
            }
        };
        timeout(limit, ping).await.unwrap_or(Err(Error::Gone))
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let started = Instant::now();
        loop {
            let socket = openat(&self.run, SOCKET, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            // By the open file: no link can come in between, and no data directory is too long for a socket address.
            match timeout(DIAL_LIMIT, UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))).await {
                // The daemon's queue is full. It empties it in an instant, unless it is not the daemon.
                Ok(Err(err)) if err.kind() == io::ErrorKind::WouldBlock && started.elapsed() < DIAL_LIMIT => {
                    sleep(Duration::from_millis(5)).await;
                }
                Ok(result) => return result,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

/// One request in progress. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Connection {
    /// Gives the next frame. Safe to drop and call again. `Gone` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) =
                decode(&mut self.buffer).map_err(|err| Error::other("guestd does not make sense", err))?
            {
                return Ok(frame);
            }
            if self.buffer.capacity() - self.buffer.len() < MAX_DATA / 4 {
                self.buffer.reserve(2 * MAX_DATA);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Error::Gone),
            }
        }
    }

    /// Gives the next frame within `limit`.
    pub(crate) async fn frame_within(&mut self, limit: Duration) -> Result<Frame, Error> {
        timeout(limit, self.frame()).await.unwrap_or_else(|_| Err(Error::other("guestd does not answer", "timed out")))
    }

    /// Gives the next reply within `limit`, failures as errors about the thing they name.
    pub(crate) async fn reply(&mut self, limit: Duration) -> Result<Reply, Error> {
        self.frame_within(limit).await.and_then(|frame| reply(&frame))
    }

    pub(crate) async fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), Error> {
        for body in body.chunks(MAX_DATA) {
            let head = header(kind, body.len()).expect("a chunk is within the limit");
            let mut frame = Vec::with_capacity(head.len() + body.len());
            frame.extend_from_slice(&head);
            frame.extend_from_slice(body);
            self.write(&frame).await?;
        }
        Ok(())
    }

    /// Sends a frame without a body.
    pub(crate) async fn mark(&mut self, kind: Kind) -> Result<(), Error> {
        let head = header(kind, 0).expect("nothing is within the limit");
        self.write(&head).await
    }

    /// Gives the socket and what was read ahead from it.
    pub(crate) fn into_parts(self) -> (UnixStream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Ends the sending side: the daemon kills the command and says how it ended.
    pub(crate) async fn cancel(&mut self) {
        // Already closed by the other side: then the next read says so.
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match timeout(ANSWER_LIMIT, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Gone),
            Err(_) => Err(Error::other("guestd does not read", "timed out")),
        }
    }
}

/// Reads a reply, turning `Failed` into an error.
pub(crate) fn reply(frame: &Frame) -> Result<Reply, Error> {
    match frame.json(Kind::Reply).map_err(|err| Error::other("guestd does not make sense", err))? {
        Reply::Failed(failure) => Err(error(failure)),
        reply => Ok(reply),
    }
}

/// An answer to another question than was asked.
pub(crate) fn unexpected() -> Error {
    Error::other("guestd does not make sense", "unexpected reply")
}

fn error(Failure { code, message }: Failure) -> Error {
    // "what: why" as `guestd` puts it; the code already says why.
    let what = || message.rsplit_once(": ").map_or(message.as_str(), |(what, _)| what).to_owned();
    match code {
        FailureCode::NotFound => Error::NotFound(what()),
        FailureCode::IsDirectory => Error::IsDirectory(what()),
        FailureCode::NotADirectory => Error::NotADirectory(what()),
        FailureCode::PermissionDenied => Error::PermissionDenied(what()),
        FailureCode::TooLarge => Error::TooLarge(what()),
        FailureCode::DiskFull => Error::DiskFull,
        FailureCode::Exhausted => {
            Error::other("the container is out of processes, memory, open files or connections", message)
        }
        FailureCode::Refused => Error::NotListening,
        FailureCode::Other => Error::other("the container refuses", message),
    }
}
