//! The layout of a frame and its limits; both sides use this and nothing else to read and write the socket.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// The version of the protocol, in every frame. Raise it with any change the other side could misread.
pub const VERSION: u8 = 2;

/// Bytes before the body.
pub const HEADER_LEN: usize = 6;

/// The longest JSON body, in bytes: holds the argument list and environment the kernel would take in practice.
pub const MAX_CONTROL: usize = 1024 * 1024;

/// The longest body of raw bytes: a pipe's default capacity, so one read of a full pipe is one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// How many connections to ports the guest holds at once; each costs it two buffers of [`MAX_DATA`].
pub const MAX_FORWARDS: usize = 256;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Request = 1,
    Reply = 2,
    Stdin = 3,
    StdinEnd = 4,
    Stdout = 5,
    Stderr = 6,
    Data = 7,
    End = 8,
}

impl Kind {
    /// The longest body a frame of this kind may have, in bytes.
    pub fn max_len(self) -> usize {
        match self {
            Kind::Request | Kind::Reply => MAX_CONTROL,
            Kind::Stdin | Kind::Stdout | Kind::Stderr | Kind::Data => MAX_DATA,
            Kind::StdinEnd | Kind::End => 0,
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = WireError;

    fn try_from(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Stdin,
            4 => Kind::StdinEnd,
            5 => Kind::Stdout,
            6 => Kind::Stderr,
            7 => Kind::Data,
            8 => Kind::End,
            other => return Err(WireError::UnknownKind(other)),
        })
    }
}

/// One frame as read from the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub body: Bytes,
}

/// The other side does not speak this protocol. The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the peer speaks protocol version {0}, not {VERSION}")]
    Version(u8),
    #[error("frame kind {0} does not exist")]
    UnknownKind(u8),
    #[error("a {kind:?} frame of {len} bytes is over the limit")]
    TooLong { kind: Kind, len: usize },
    #[error("unexpected {0:?} frame")]
    Unexpected(Kind),
    #[error("malformed message")]
    Json(#[from] serde_json::Error),
}

impl Frame {
    /// Reads the body as the JSON message that `kind` announces.
    pub fn json<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, WireError> {
        if self.kind != kind {
            return Err(WireError::Unexpected(self.kind));
        }
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Gives the header of a frame whose body the caller writes behind it, for senders that read into place.
///
/// # Errors
/// `TooLong` when the body is over the kind's limit.
pub fn header(kind: Kind, body_len: usize) -> Result<[u8; HEADER_LEN], WireError> {
    if body_len > kind.max_len() {
        return Err(WireError::TooLong { kind, len: body_len });
    }
    let [a, b, c, d] = (body_len as u32).to_be_bytes();
    Ok([a, b, c, d, VERSION, kind as u8])
}

/// Makes the frame of a JSON message.
///
/// # Errors
/// `TooLong` when the message is over [`MAX_CONTROL`].
pub fn encode<T: Serialize>(kind: Kind, message: &T) -> Result<Bytes, WireError> {
    let body = serde_json::to_vec(message)?;
    let mut frame = BytesMut::with_capacity(HEADER_LEN + body.len());
    frame.put_slice(&header(kind, body.len())?);
    frame.put_slice(&body);
    Ok(frame.freeze())
}

/// Takes the first whole frame out of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// Anything that is not this protocol, as soon as the header shows it: a length over the limit is refused before a byte
/// of the body is waited for, so a hostile peer cannot make the reader hold more than one frame.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
    if buffer.len() < HEADER_LEN {
        return Ok(None);
    }
    if buffer[4] != VERSION {
        return Err(WireError::Version(buffer[4]));
    }
    let kind = Kind::try_from(buffer[5])?;
    let len = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
    if len > kind.max_len() {
        return Err(WireError::TooLong { kind, len });
    }
    if buffer.len() < HEADER_LEN + len {
        buffer.reserve(HEADER_LEN + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_LEN);
    Ok(Some(Frame { kind, body: buffer.split_to(len).freeze() }))
}
