//! Visiting everything beneath a directory without trusting it.
//!
//! Directories wait as paths and are opened again, link by link refused, when their turn comes: one directory is open at
//! any time however deep the tree, names are read in batches however wide, and one that was swapped for a link meanwhile
//! is not entered.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat, statat};
use rustix::io::Errno;

use super::tree::{beneath, open_dir};
use super::upload::is_temporary;

/// Longer paths are not entered: the kernel would not take them either.
const MAX_PATH: usize = 4096;
const BATCH_BYTES: usize = 32 * 1024;

/// Which directory comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The shallow ones, so that what a limit cuts off is what lies deep.
    BreadthFirst,
    /// The last found, so that little waits.
    DepthFirst,
}

/// A walk over the tree below a directory. What vanishes while we look is left out; what cannot be read is counted.
pub(super) struct Walk {
    base: OwnedFd,
    order: Order,
    waiting: VecDeque<Waiting>,
    current: Option<Current>,
    /// Whether some directory was too deep or not readable.
    pub(super) is_incomplete: bool,
}

struct Waiting {
    path: Vec<u8>,
    tag: usize,
}

struct Current {
    dir: OwnedFd,
    path: Vec<u8>,
    tag: usize,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Something a walk came by.
pub(super) struct Found {
    /// Relative to where the walk began.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    pub(super) kind: FileType,
    /// What was given to [`Walk::enter`] for the directory this lies in.
    pub(super) tag: usize,
    name_at: usize,
}

impl Found {
    pub(super) fn name(&self) -> &[u8] {
        &self.path[self.name_at..]
    }
}

impl Walk {
    /// Begins below `base`, a directory open for reading; its own entries have the tag `tag`.
    pub(super) fn new(base: OwnedFd, order: Order, tag: usize) -> Self {
        let waiting = VecDeque::from([Waiting { path: Vec::new(), tag }]);
        Self { base, order, waiting, current: None, is_incomplete: false }
    }

    /// Has the directory at `path`, just found, visited later.
    pub(super) fn enter(&mut self, path: Vec<u8>, tag: usize) {
        if path.len() > MAX_PATH {
            self.is_incomplete = true;
            return;
        }
        self.waiting.push_back(Waiting { path, tag });
    }

    /// Gives the directory in which the last thing was found.
    pub(super) fn dir(&self) -> Option<&OwnedFd> {
        self.current.as_ref().map(|current| &current.dir)
    }

    /// Gives the next thing, unfinished uploads included.
    pub(super) fn next(&mut self) -> Option<Found> {
        loop {
            let Some(current) = &mut self.current else {
                let next = match self.order {
                    Order::BreadthFirst => self.waiting.pop_front(),
                    Order::DepthFirst => self.waiting.pop_back(),
                }?;
                self.open(next);
                continue;
            };
            let Some(name) = current.names.next() else {
                match read_names(&current.dir) {
                    Ok(names) if !names.is_empty() => current.names = names.into_iter(),
                    Ok(_) => self.current = None,
                    Err(_) => {
                        self.is_incomplete = true;
                        self.current = None;
                    }
                }
                continue;
            };
            // Gone again: it is as if it had never been there.
            let Ok(stat) = statat(&current.dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let mut path = current.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            let name_at = path.len();
            path.extend(name);
            let kind = FileType::from_raw_mode(stat.st_mode);
            return Some(Found { path, stat, kind, tag: current.tag, name_at });
        }
    }

    fn open(&mut self, Waiting { path, tag }: Waiting) {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        match beneath(&self.base, names, OFlags::RDONLY) {
            Ok(dir) => self.current = Some(Current { dir, path, tag, names: Vec::new().into_iter() }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(_) => self.is_incomplete = true,
        }
    }
}

/// Reads the next batch of names of a directory; none are left when it is empty.
pub(super) fn read_names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let mut reader = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        // A batch that held nothing but `.` and `..` is not the end.
        if reader.is_buffer_empty() && !names.is_empty() {
            break;
        }
    }
    Ok(names)
}

/// Tells whether the directory `name` in `dir` holds anything a client would be shown.
pub(super) fn has_children(dir: &OwnedFd, name: &[u8]) -> bool {
    let Ok(dir) = open_dir(dir, name, OFlags::RDONLY) else { return false };
    while let Ok(names) = read_names(&dir) {
        match names.iter().find(|name| !is_temporary(name)) {
            Some(_) => return true,
            None if names.is_empty() => return false,
            None => {}
        }
    }
    false
}
