//! Turns what the system says into what the host can act upon.

use std::{fmt::Display, io};

use guest_protocol::{Failure, FailureCode};
use rustix::io::Errno;

/// Describes `err` as what happened to `what` (a path, a program).
pub(crate) fn failure(what: impl Display, err: &io::Error) -> Failure {
    Failure { code: code(err), message: format!("{what}: {err}") }
}

/// A failure that only words describe.
pub(crate) fn other(message: impl Into<String>) -> Failure {
    Failure { code: FailureCode::Other, message: message.into() }
}

fn code(err: &io::Error) -> FailureCode {
    match err.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => FailureCode::NotFound,
        Some(Errno::ISDIR) => FailureCode::IsDirectory,
        Some(Errno::NOTDIR | Errno::LOOP) => FailureCode::NotADirectory,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => FailureCode::PermissionDenied,
        Some(Errno::NOSPC | Errno::DQUOT) => FailureCode::DiskFull,
        Some(Errno::FBIG | Errno::TOOBIG | Errno::NAMETOOLONG) => FailureCode::TooLarge,
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => FailureCode::Exhausted,
        _ => FailureCode::Other,
    }
}
