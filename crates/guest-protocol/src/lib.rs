//! What the server (the host) and `guestd` (the guest) say to each other. This page is the protocol's document.
//!
//! # Transport
//!
//! A unix stream socket in a directory that both sides see. The guest listens, the host dials. **One connection carries
//! one request**, so that a slow reader of one command holds up nothing else, and so that closing the connection is the
//! cancellation. The host trusts nothing it reads here: the guest runs beside whatever the model started, with the same
//! rights, and may have been replaced by it.
//!
//! # Frames
//!
//! ```text
//! length: u32 big endian | version: u8 | kind: u8 | body: `length` bytes
//! ```
//!
//! `version` is [`VERSION`] in every frame; a frame of another version ends the connection. Servers put the version into
//! a container's identity, so a container of another version is rebuilt, never spoken to. `length` counts the body only.
//!
//! | kind | from | body | at most |
//! |---|---|---|---|
//! | 1 [`Kind::Request`] | host | JSON [`Request`], the first frame of each connection, once | [`MAX_CONTROL`] |
//! | 2 [`Kind::Reply`] | guest | JSON [`Reply`] | [`MAX_CONTROL`] |
//! | 3 [`Kind::Stdin`] | host | bytes for the command's standard input | [`MAX_DATA`] |
//! | 4 [`Kind::StdinEnd`] | host | empty: the command's standard input ends | 0 |
//! | 5 [`Kind::Stdout`] | guest | bytes of standard output | [`MAX_DATA`] |
//! | 6 [`Kind::Stderr`] | guest | bytes of standard error | [`MAX_DATA`] |
//! | 7 [`Kind::Data`] | both | bytes of a file, or of a connection to a port | [`MAX_DATA`] |
//! | 8 [`Kind::End`] | both | empty: no more `Data` from this side | 0 |
//!
//! # Conversations
//!
//! Each ends with the reply in bold, or with `Failed` in its place; after it the guest closes.
//!
//! - `Ping`: **`Pong`**.
//! - `Spawn`: `Started`, then `Stdout` and `Stderr` frames in the order they were read, **`Exited`**. The host may send
//!   `Stdin` and one `StdinEnd` if it asked for `stdin`. *When the host's sending side ends before `Exited` (it closed,
//!   crashed, or shut down writing to cancel), the whole process tree is killed;* a host that still reads gets `Exited`.
//!   Output has back-pressure: what the host does not read stays in the pipe, and the command waits.
//! - `ReadFile`: `File`, `Data`…, `End`. Fewer bytes than `limit` mean the end of the file.
//! - `WriteFile`: the host sends `Data`… and `End` without waiting; **`Written`**. A connection that ends before `End`
//!   leaves the old file.
//! - `StartBackground`: **`Background`**. The guest owns the command from then on.
//! - `BackgroundStatus`: **`Task`**. `StopBackground`: **`Stopped`**. `KillGroup`, `KillOverDisk`:
//!   **`Killed`**.
//! - `Ports`: **`Ports`**.
//! - `Connect`: `Connected`, then `Data`… and one `End` each way, in any order: an `End` is a half-close, as TCP has it.
//!   The guest closes when both have been sent. *A connection that closes without the guest's `End` was reset;* when the
//!   host closes, the guest closes the port's connection. What one side does not read, the other cannot send. At most
//!   [`MAX_FORWARDS`] of these at once.
//!
//! A guest that does not know a request answers `Failed`.

mod frame;
mod message;

pub use frame::{
    Frame, HEADER_LEN, Kind, MAX_CONTROL, MAX_DATA, MAX_FORWARDS, VERSION, WireError, decode, encode, header,
};
pub use message::{Exit, Failure, FailureCode, Pong, Port, Reply, Request, Spawn, TaskState};
