//! What a supervisor tells the daemon about its command: five bytes each, over the socket it was started with.

/// One message, in the order they come: `Taken`, one of the next three, one of the next two, then `Empty` and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The order is read and the command is about to be started. Before this report nothing of it can have run.
    Taken,
    /// The command runs with this pid.
    Started(i32),
    /// The working directory could not be entered (errno).
    NoDirectory(i32),
    /// The program could not be run (errno).
    NotRun(i32),
    /// The command itself ended with this code; its descendants may live on.
    Exited(i32),
    /// The command itself was ended by this signal.
    Signalled(i32),
    /// No descendant is left; the supervisor ends. Without it, the end means that somebody killed the supervisor.
    Empty,
}

/// The length of a report, in bytes.
pub(crate) const LEN: usize = 5;

impl Report {
    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        let (tag, value) = match self {
            Report::Taken => (b'O', 0),
            Report::Started(pid) => (b'S', pid),
            Report::NoDirectory(errno) => (b'D', errno),
            Report::NotRun(errno) => (b'X', errno),
            Report::Exited(code) => (b'E', code),
            Report::Signalled(signal) => (b'K', signal),
            Report::Empty => (b'T', 0),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [tag, a, b, c, d]
    }

    /// Reads a report; `None` for what no supervisor of ours sends.
    pub(crate) fn from_bytes([tag, a, b, c, d]: [u8; LEN]) -> Option<Self> {
        let value = i32::from_le_bytes([a, b, c, d]);
        Some(match tag {
            b'O' => Report::Taken,
            b'S' => Report::Started(value),
            b'D' => Report::NoDirectory(value),
            b'X' => Report::NotRun(value),
            b'E' => Report::Exited(value),
            b'K' => Report::Signalled(value),
            b'T' => Report::Empty,
            _ => return None,
        })
    }
}
