//! Steps within a directory that somebody else rearranges: every one opens a single name in a directory already held,
//! and none follows a link. See `sandbox::workspace`, which walks the same trees.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, openat, readlinkat, seek, statat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

const BATCH_BYTES: usize = 32 * 1024;

/// Opens a directory at a path of our own choosing.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory `name` in `dir`; a link fails with `ENOTDIR` or `ELOOP`.
pub(crate) fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the file `name` in `dir` for reading. A pipe in its place does not make us wait.
pub(crate) fn open_file(dir: impl AsFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty()).map(File::from)
}

pub(crate) fn stat(dir: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    readlinkat(dir, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

/// Gives all names in a directory, sorted.
pub(crate) fn read_names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    // An open directory remembers how far it was read.
    seek(dir, SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let mut reader = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory was removed while it was open: nothing is in it.
            Err(Errno::NOENT) => break,
            Err(err) => return Err(err),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Gives the permission bits.
pub(crate) fn mode(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// What tells a file from what it was: no program in the workspace can set the time of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) mode: u32,
    inode: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: mode(stat),
            inode: stat.st_ino,
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }

    /// Gives when it was last changed, in seconds and nanoseconds since the epoch.
    pub(crate) fn changed(&self) -> (i64, u32) {
        self.changed
    }
}
