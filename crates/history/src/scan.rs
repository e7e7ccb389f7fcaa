//! Reading a workspace into objects, as far as it changed.
//!
//! Programs may write to the tree while it is read. What vanishes is left out, a file that changes under our eyes is read
//! again a few times, and what was read last is what the snapshot says; the next scan reads it once more. Nothing is
//! followed and nothing but regular files is opened, so neither a link nor a pipe can lead or hold us.

use std::{fs::File, os::fd::OwnedFd};

use rustix::{
    fs::{FileType, fstat},
    io::Errno,
};

use crate::{
    Error, Id, Options,
    content::{self, Stored},
    directory::{Stamp, kind, mode, open_dir, open_file, read_link, read_names, stat},
    index::{Index, Seen, is_settled},
    objects::Adding,
    tree::{Node, Tree, Why, join},
};

/// Deeper directories are not entered: each level holds a directory open.
const MAX_DEPTH: usize = 250;
/// How often a file that changes while it is read is read again.
const MAX_READS: usize = 3;
/// How many paths of what was left out are told.
const MAX_TOLD: usize = 100;

/// What a scan came by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub files: u64,
    pub directories: u64,
    pub links: u64,
    /// Of all files that are kept.
    pub bytes: u64,
    /// Files that had to be read.
    pub files_read: u64,
    /// Files and directories whose content is not kept; the snapshot says that they are there.
    pub left: u64,
    /// The first of them.
    pub left_paths: Vec<(Vec<u8>, Why)>,
    /// Pipes, sockets and devices: the snapshot does not know them.
    pub special: u64,
}

/// A scan under way.
pub(crate) struct Scan<'a, 'b> {
    pub(crate) options: &'a Options,
    pub(crate) adding: &'a mut Adding<'b>,
    pub(crate) stats: Stats,
}

impl Scan<'_, '_> {
    /// Reads the directory `dir`, which is at `path`.
    pub(crate) fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        depth: usize,
        before: Option<&Index>,
    ) -> Result<(Id, Index), Error> {
        let mut tree = Tree::default();
        let mut index = Index::default();
        let failed = |err: Errno| Error::at(display(path))(err);
        for name in read_names(dir).map_err(failed)? {
            if self.options.passes_over(&name) {
                continue;
            }
            if let Some(node) = self.entry(dir, path, &name, depth, before, &mut index)? {
                tree.entries.push((name, node));
            }
            let Stats { files, directories, links, left, .. } = self.stats;
            if files + directories + links + left > self.options.max_entries {
                return Err(Error::TooManyFiles(self.options.max_entries));
            }
        }
        Ok((self.adding.put(&tree.encode())?, index))
    }

    /// Reads what is at `name` in `dir`; `None` if nothing is that could be kept.
    pub(crate) fn entry(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        name: &[u8],
        depth: usize,
        before: Option<&Index>,
        index: &mut Index,
    ) -> Result<Option<Node>, Error> {
        let found = match stat(dir, name) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(_) => return Ok(Some(self.leave(path, name, Why::Unreadable, 0, &[]))),
        };
        match kind(&found) {
            FileType::RegularFile => {
                let stamp = Stamp::of(&found);
                let seen = before.and_then(|before| before.file(name));
                let seen = seen.filter(|seen| seen.is_settled && seen.stamp == stamp);
                if let Some(seen) = seen.filter(|seen| seen.size <= self.options.max_file_bytes) {
                    return Ok(Some(self.keep(name, seen.clone(), index)));
                }
                self.read(dir, path, name, index)
            }
            FileType::Directory => {
                let below = match open_dir(dir, name) {
                    Ok(below) => below,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    Err(_) => return Ok(Some(self.leave(path, name, Why::Unreadable, 0, &[]))),
                };
                if depth >= MAX_DEPTH {
                    return Ok(Some(self.leave(path, name, Why::TooDeep, 0, &[])));
                }
                self.stats.directories += 1;
                let before = before.and_then(|before| before.directory(name));
                let (tree, below_index) = self.directory(&below, &join(path, name), depth + 1, before)?;
                index.directories.push((name.to_vec(), below_index));
                // What was opened, should it be another directory by now.
                let mode = fstat(&below).map_or_else(|_| mode(&found), |found| mode(&found));
                Ok(Some(Node::Directory { tree, mode }))
            }
            FileType::Symlink => match read_link(dir, name) {
                Ok(target) => {
                    self.stats.links += 1;
                    Ok(Some(Node::Link { target }))
                }
                Err(_) => Ok(None),
            },
            _ => {
                self.stats.special += 1;
                Ok(None)
            }
        }
    }

    /// Reads a file.
    fn read(&mut self, dir: &OwnedFd, path: &[u8], name: &[u8], index: &mut Index) -> Result<Option<Node>, Error> {
        for attempt in 1.. {
            let mut file = match open_file(dir, name) {
                Ok(file) => file,
                Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Ok(None),
                Err(_) => return Ok(Some(self.leave(path, name, Why::Unreadable, 0, &[]))),
            };
            let Some(stamp) = stamp(&file) else { return Ok(None) };
            if stamp.size > self.options.max_file_bytes {
                return Ok(Some(self.too_large(path, name, stamp)));
            }
            let is_settled = is_settled(&stamp);
            // Not more than it had: one that grows all the time must have an end.
            match content::store(self.adding, &mut file, stamp.size) {
                Ok((content, size)) => {
                    let is_same = self::stamp(&file) == Some(stamp) && size == stamp.size;
                    if !is_same && attempt < MAX_READS {
                        continue;
                    }
                    self.stats.files_read += 1;
                    let seen = Seen { stamp, content, size, is_settled: is_settled && is_same };
                    return Ok(Some(self.keep(name, seen, index)));
                }
                Err(Stored::Write(err)) => return Err(err),
                Err(Stored::Unreadable) => return Ok(Some(self.leave(path, name, Why::Unreadable, 0, &[]))),
            }
        }
        Ok(None)
    }

    fn keep(&mut self, name: &[u8], seen: Seen, index: &mut Index) -> Node {
        self.stats.files += 1;
        self.stats.bytes += seen.size;
        let node = Node::File { content: seen.content, size: seen.size, mode: seen.stamp.mode };
        index.files.push((name.to_vec(), seen));
        node
    }

    fn too_large(&mut self, path: &[u8], name: &[u8], stamp: Stamp) -> Node {
        let identity = postcard::to_allocvec(&stamp).expect("writing to memory does not fail");
        self.leave(path, name, Why::TooLarge, stamp.size, &identity)
    }

    /// Takes note of something whose content is not kept.
    fn leave(&mut self, path: &[u8], name: &[u8], why: Why, size: u64, identity: &[u8]) -> Node {
        self.stats.left += 1;
        if self.stats.left_paths.len() < MAX_TOLD {
            self.stats.left_paths.push((join(path, name), why));
        }
        Node::Left { why, size, stamp: Id::of(identity) }
    }
}

/// Gives the stamp of an open file; `None` if it is no regular one.
fn stamp(file: &File) -> Option<Stamp> {
    let found = fstat(file).ok()?;
    (kind(&found) == FileType::RegularFile).then(|| Stamp::of(&found))
}

pub(crate) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
