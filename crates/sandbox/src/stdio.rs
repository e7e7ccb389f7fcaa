//! A command's input and output, as one stream of bytes in each direction: for a program that is spoken to.
//!
//! It lives as long as whoever holds this: dropping it kills the command's whole process tree, and so does the end of
//! this server, since the daemon sees the connection go. What the command writes to its standard error is no part of what
//! it says; the end of it is kept, for when somebody asks why it ended.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use guest_protocol::{Exit, Kind, Reply};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Process,
    frames::{Frames, fill},
    guest,
    slot::InUse,
};

/// What is kept of the standard error, in bytes.
const MAX_LAST_WORDS: usize = 4096;

/// Reads what a command writes and writes what it reads. Shutting it down ends the command's input.
#[derive(Debug)]
pub struct Stdio {
    frames: Frames,
    /// What is left of the output that came last.
    data: Bytes,
    has_ended: bool,
    last_words: LastWords,
    _in_use: InUse,
}

/// How a command ended, as far as is known, and what it wrote to its standard error before. Outlives its [`Stdio`].
#[derive(Debug, Clone, Default)]
pub struct LastWords(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    stderr: VecDeque<u8>,
    exit: Option<Exit>,
}

impl LastWords {
    /// Gives the end of the standard error, as text.
    pub fn stderr(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = words.stderr.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// Gives how the command ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).exit
    }

    fn hear(&self, bytes: &[u8]) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.stderr.extend(&bytes[bytes.len().saturating_sub(MAX_LAST_WORDS)..]);
        let too_many = words.stderr.len().saturating_sub(MAX_LAST_WORDS);
        words.stderr.drain(..too_many);
    }

    fn end(&self, exit: Exit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).exit = Some(exit);
    }
}

impl Process {
    /// Gives the command's input and output as a stream. The command must have been started with `stdin`.
    pub fn into_stdio(self) -> Stdio {
        let (connection, in_use) = self.into_parts();
        Stdio {
            frames: Frames::new(connection),
            data: Bytes::new(),
            has_ended: false,
            last_words: LastWords::default(),
            _in_use: in_use,
        }
    }
}

impl Stdio {
    /// Gives what will be known of the command's end.
    pub fn last_words(&self) -> LastWords {
        self.last_words.clone()
    }
}

impl AsyncRead for Stdio {
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
                Kind::Stdout => this.data = frame.body,
                Kind::Stderr => this.last_words.hear(&frame.body),
                _ => match guest::reply(&frame) {
                    Ok(Reply::Exited { exit }) => {
                        this.last_words.end(exit);
                        this.has_ended = true;
                    }
                    _ => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                },
            }
        }
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.frames.poll_write(cx, Kind::Stdin, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_end(cx, Kind::StdinEnd)
    }
}
