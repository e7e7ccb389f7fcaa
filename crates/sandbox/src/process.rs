//! A command that runs in a sandbox, as the server holds it.

use std::time::Duration;

use bytes::Bytes;
use guest_protocol::{Exit, Kind, Reply};
use tokio::time::{Instant, timeout};

use crate::{
    Error, Sandbox,
    guest::{Connection, reply, unexpected},
    slot::InUse,
};

/// A silent command is believed to run as long as its daemon answers; this often we ask.
const SILENCE: Duration = Duration::from_secs(20);

/// How much later than a command's own timeout its daemon may say so.
const TIMEOUT_SLACK: Duration = Duration::from_secs(15);

/// How long the daemon may take to kill a tree and say so.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// Which output a chunk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Some output, at most 64 KiB, in the order it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    pub bytes: Bytes,
}

/// A running command. Dropping it kills its whole process tree.
///
/// Output that is not taken stays in the command's pipe, and the command waits: reading slowly costs no memory.
#[derive(Debug)]
pub struct Process {
    sandbox: Sandbox,
    connection: Connection,
    exit: Option<Exit>,
    /// Beyond this the daemon is not believed any more.
    deadline: Option<Instant>,
    _in_use: InUse,
}

impl Process {
    pub(crate) fn new(sandbox: Sandbox, connection: Connection, timeout: Option<Duration>, in_use: InUse) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout.saturating_add(TIMEOUT_SLACK)));
        Self { sandbox, connection, exit: None, deadline, _in_use: in_use }
    }

    /// Gives the way to the command, and what keeps its container in use.
    pub(crate) fn into_parts(self) -> (Connection, InUse) {
        (self.connection, self._in_use)
    }

    /// Gives the next output, `None` once the command has ended and [`exit`](Self::exit) is known.
    ///
    /// The end is that of the command itself with its pipes drained, or 200 ms later when something it left running
    /// still holds them (`server &`); that lives on. Safe to drop and call again.
    ///
    /// # Errors
    /// `Gone` when the container ended meanwhile.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        while self.exit.is_none() {
            let frame = match timeout(SILENCE, self.connection.frame()).await {
                Ok(frame) => self.sandbox.note(frame)?,
                Err(_) => {
                    self.check().await?;
                    continue;
                }
            };
            let stream = match frame.kind {
                Kind::Stdout => Stream::Stdout,
                Kind::Stderr => Stream::Stderr,
                _ => match reply(&frame)? {
                    Reply::Exited { exit } => {
                        self.exit = Some(exit);
                        break;
                    }
                    _ => return Err(unexpected()),
                },
            };
            return Ok(Some(Chunk { stream, bytes: frame.body }));
        }
        Ok(None)
    }

    /// Tells how the command ended, once [`next`](Self::next) has given `None`.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Sends input. Waits while the command does not take it.
    ///
    /// # Errors
    /// `Other` when the command takes nothing for 30 s. Input that comes after the command closed its side is dropped.
    pub async fn write_stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sandbox.note(self.connection.send(Kind::Stdin, bytes).await)
    }

    /// Ends the input.
    pub async fn close_stdin(&mut self) -> Result<(), Error> {
        self.sandbox.note(self.connection.mark(Kind::StdinEnd).await)
    }

    /// Kills the whole process tree and returns when it is gone. Output not yet taken is dropped.
    ///
    /// Gives how the command ended: by this, or before it.
    pub async fn kill(mut self) -> Result<Exit, Error> {
        self.connection.cancel().await;
        let drained = async {
            while self.next().await?.is_some() {}
            self.exit.ok_or_else(unexpected)
        };
        timeout(KILL_LIMIT, drained)
            .await
            .unwrap_or_else(|_| Err(Error::other("the command does not end", "timed out")))
    }

    /// After a long silence: the command may be silent, its daemon may not.
    async fn check(&self) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Error::other("guestd does not end a command that has timed out", "timed out"));
        }
        self.sandbox.ping(SILENCE).await.map(drop)
    }
}
