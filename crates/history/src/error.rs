//! What can go wrong with the past.

use std::{io, path::PathBuf};

use rustix::io::Errno;

use crate::Id;

/// An error of a history. None of them harms what is stored, or leaves a snapshot half there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshot holds nothing of that name.
    #[error("there is no '{0}' in the snapshot")]
    NotFound(String),
    /// It is a directory or a link, or a file whose content is not kept.
    #[error("'{path}' {why}")]
    NotAFile { path: String, why: &'static str },
    /// More files than the settings allow to remember.
    #[error("the workspace holds more than {0} files")]
    TooManyFiles(u64),
    #[error("no space is left on the disk")]
    DiskFull(#[source] io::Error),
    /// An object that a snapshot names is not there, or not what its name says.
    #[error("the history is damaged: object {0} cannot be read")]
    Damaged(Id),
    #[error("cannot work on {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Says which file or directory of ours could not be worked on.
    pub(crate) fn at<E: Into<io::Error>>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |err| {
            let source = err.into();
            match Errno::from_io_error(&source) {
                Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull(source),
                _ => Self::Io { path, source },
            }
        }
    }
}
