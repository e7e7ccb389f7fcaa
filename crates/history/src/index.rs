//! What was read before: the workspace as the last scan saw it, so that the next one reads only what changed.
//!
//! It can be lost at any time; then everything is read again.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Id, directory::Stamp};

const FILE: &str = "index";
/// Changes with the form of what is in it: another's index is none.
const MAGIC: &[u8; 8] = b"atlidx01";

/// A file as it was last read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) stamp: Stamp,
    pub(crate) content: Id,
    pub(crate) size: u64,
    /// False for a file that was changed just before it was read: the file system's clock stands still for some
    /// milliseconds, and a change in that time would leave the same stamp.
    pub(crate) is_settled: bool,
}

/// A directory as it was last seen: its files and directories by name, sorted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) files: Vec<(Vec<u8>, Seen)>,
    pub(crate) directories: Vec<(Vec<u8>, Index)>,
}

/// An index with the tree it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) tree: Id,
    pub(crate) index: Index,
}

impl Index {
    pub(crate) fn file(&self, name: &[u8]) -> Option<&Seen> {
        find(&self.files, name)
    }

    pub(crate) fn directory(&self, name: &[u8]) -> Option<&Self> {
        find(&self.directories, name)
    }
}

fn find<'a, T>(entries: &'a [(Vec<u8>, T)], name: &[u8]) -> Option<&'a T> {
    let at = entries.binary_search_by(|(other, _)| other.as_slice().cmp(name)).ok()?;
    Some(&entries[at].1)
}

impl Saved {
    /// Reads the index; `None` if there is none that is whole.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::at(path)(err)),
        };
        let rest = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<{ Id::LEN }>());
        Ok(rest
            .filter(|(hash, body)| Id::of(body).as_bytes() == *hash)
            .and_then(|(_, body)| postcard::from_bytes(body).ok()))
    }

    /// Writes the index. It need not survive a crash: a torn one is none.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let body = postcard::to_allocvec(self).expect("writing to memory does not fail");
        let written = (|| {
            let mut file = tempfile::Builder::new().prefix(crate::pack::UNFINISHED).tempfile_in(dir)?;
            file.write_all(MAGIC)?;
            file.write_all(Id::of(&body).as_bytes())?;
            file.write_all(&body)?;
            file.persist(dir.join(FILE)).map_err(|err| err.error)?;
            Ok::<_, io::Error>(())
        })();
        written.map_err(Error::at(dir))
    }

    pub(crate) fn forget(dir: &Path) -> Result<(), Error> {
        match fs::remove_file(dir.join(FILE)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::at(dir)(err)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Tells whether a file with this stamp, read from now on, could be changed again without getting another.
pub(crate) fn is_settled(stamp: &Stamp) -> bool {
    /// More than the file system's clock stands still, on any kernel.
    const SLACK_NS: i128 = 100_000_000;
    let (seconds, nanoseconds) = stamp.changed();
    let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    i128::try_from(now).unwrap_or(0) - changed > SLACK_NS
}
