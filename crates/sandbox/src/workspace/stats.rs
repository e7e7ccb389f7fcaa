//! Looking over a whole workspace: how much it holds, and what crashes left in it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, unlinkat};

use super::tree::Tree;
use super::upload::is_temporary;
use super::walk::{Order, Walk};
use super::{modified, size};
use crate::Error;

/// How much a workspace holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files, links and special files.
    pub files: u64,
    pub directories: u64,
    /// What the files' sizes add up to; a file of several names counts once.
    pub bytes: u64,
    /// What they take on the disk, directories included: less than `bytes` where files have holes.
    pub disk_bytes: u64,
    /// Whether some of it could not be looked at, being too deep or not readable.
    pub is_incomplete: bool,
}

pub(super) fn stats(tree: &Tree) -> Result<Stats, Error> {
    let mut stats = Stats::default();
    let mut linked = HashSet::new();
    let mut walk = Walk::new(tree.directory("")?, Order::DepthFirst, 0);
    while let Some(found) = walk.next() {
        let stat = &found.stat;
        if found.kind == FileType::Directory {
            stats.directories += 1;
            walk.enter(found.path, 0);
        } else {
            stats.files += 1;
            if stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            if found.kind == FileType::RegularFile {
                stats.bytes = stats.bytes.saturating_add(size(stat));
            }
        }
        // In units of 512 bytes, whatever the file system's own.
        stats.disk_bytes += stat.st_blocks as u64 * 512;
    }
    stats.is_incomplete = walk.is_incomplete;
    Ok(stats)
}

pub(super) fn sweep(tree: &Tree, before: DateTime<Utc>) -> Result<u64, Error> {
    let mut removed = 0;
    let mut walk = Walk::new(tree.directory("")?, Order::DepthFirst, 0);
    while let Some(found) = walk.next() {
        match found.kind {
            FileType::Directory => walk.enter(found.path, 0),
            FileType::RegularFile if is_temporary(found.name()) && modified(&found.stat) < before => {
                let dir = walk.dir().expect("a directory is open while things are found in it");
                removed += u64::from(unlinkat(dir, found.name(), AtFlags::empty()).is_ok());
            }
            _ => {}
        }
    }
    Ok(removed)
}
