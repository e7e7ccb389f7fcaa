//! The daemon's side of a supervisor: starting one, handing it a command, hearing what it reports.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    process::{Command, Stdio},
};

use guest_protocol::{Kind, Spawn, encode};
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

use crate::report::{self, Report};

/// A supervisor process. Dropping this ends one that has no order yet.
pub(crate) struct Supervisor {
    pub(crate) pid: i32,
    control: UnixStream,
}

impl Supervisor {
    /// Starts a process that waits for an order. It is reaped by the daemon's reaper like everything else.
    pub(crate) fn spawn() -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new("/proc/self/exe")
            .arg("supervise")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { pid: child.id() as i32, control: UnixStream::from_std(ours)? })
    }

    /// Hands over the command and its standard input, output and error.
    pub(crate) async fn order(&mut self, spawn: &Spawn, stdio: &[OwnedFd; 3]) -> io::Result<()> {
        let frame = encode(Kind::Request, spawn).map_err(io::Error::other)?;
        let fds = stdio.each_ref().map(|fd| fd.as_fd());
        let sent = self
            .control
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                ancillary.push(SendAncillaryMessage::ScmRights(&fds));
                Ok(sendmsg(&self.control, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)?)
            })
            .await?;
        self.control.write_all(&frame[sent..]).await
    }

    /// Gives the next report, `None` when the supervisor has ended.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        let mut bytes = [0; report::LEN];
        self.control.read_exact(&mut bytes).await.ok()?;
        Report::from_bytes(bytes)
    }
}
