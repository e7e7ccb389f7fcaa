//! Making a workspace what a snapshot says.
//!
//! What is there is put into a snapshot first, and only what that snapshot holds is ever replaced or removed: a file too
//! large to be kept, a pipe, a cache that is passed over, and whatever was written since are left alone and told. Files
//! appear whole, under a hidden name first.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchmod, fchown, fstat, mkdirat, openat, renameat,
        renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{
    Error, Id, Node, Options, Snapshot, content,
    directory::{Stamp, open_dir, open_file, read_link, stat},
    index::Index,
    objects::Objects,
    tree::{Tree, join, pair},
};

/// What is brought back.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    All,
    /// What the snapshot holds at these paths, or that it holds nothing there.
    Paths(&'a [Vec<u8>]),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was there. Going back to it undoes everything.
    pub before: Snapshot,
    pub after: Snapshot,
    pub changes: Applied,
}

/// What was done to a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Files, links and directories that were made or replaced.
    pub written: u64,
    pub removed: u64,
    /// What is not as the snapshot says, and why.
    pub left: Vec<(Vec<u8>, Left)>,
}

/// Why something was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The snapshot does not hold the content.
    NotKept,
    /// Something stands there that no snapshot holds.
    Unknown,
    /// It was changed since it was last read.
    Changed,
    /// The system did not allow it.
    Refused,
}

/// A workspace being changed.
pub(crate) struct Apply<'a> {
    objects: &'a Objects,
    options: &'a Options,
    /// Who owns what is made; `None` where we are not root and cannot choose.
    owner: Option<(Uid, Gid)>,
    pub(crate) applied: Applied,
}

impl<'a> Apply<'a> {
    /// Begins to change the workspace `root`, whose owner gets what is made.
    pub(crate) fn begin(objects: &'a Objects, options: &'a Options, root: &OwnedFd) -> Result<Self, Errno> {
        let found = fstat(root)?;
        let owner =
            rustix::process::geteuid().is_root().then(|| (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid)));
        Ok(Self { objects, options, owner, applied: Applied::default() })
    }

    /// Makes `wanted` of the directory `dir`, in which `before` is, as `seen` when it was read.
    pub(crate) fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        before: &Tree,
        seen: Option<&Index>,
        wanted: &Tree,
    ) -> Result<(), Error> {
        for (name, before, wanted) in pair(before, wanted) {
            if before == wanted {
                continue;
            }
            let path = join(path, name);
            match self.entry(dir, name, &path, before, seen, wanted) {
                Ok(()) => {}
                Err(Failed::At(left)) => self.applied.left.push((path, left)),
                Err(Failed::Os(err @ (Errno::NOSPC | Errno::DQUOT))) => {
                    return Err(Error::at(crate::scan::display(&path))(err));
                }
                Err(Failed::Os(_)) => self.applied.left.push((path, Left::Refused)),
                Err(Failed::Fatal(err)) => return Err(err),
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        before: Option<&Node>,
        seen: Option<&Index>,
        wanted: Option<&Node>,
    ) -> Result<(), Failed> {
        match (before, wanted) {
            (_, Some(Node::Left { .. })) => Err(Failed::At(Left::NotKept)),
            (Some(Node::Left { .. }), _) => Err(Failed::At(Left::Unknown)),
            (Some(Node::Directory { mode: old, .. }), Some(Node::Directory { mode, .. })) => {
                let below = open_dir(dir, name)?;
                let seen = seen.and_then(|seen| seen.directory(name));
                let (before, wanted) = (self.objects.tree_of(before)?, self.objects.tree_of(wanted)?);
                self.directory(&below, path, &before, seen, &wanted)?;
                if old != mode {
                    fchmod(&below, Mode::from_raw_mode(*mode))?;
                    self.applied.written += 1;
                }
                Ok(())
            }
            (Some(before), None) => self.remove(dir, name, path, before, seen),
            (Some(Node::File { content: old, .. }), Some(Node::File { content, mode, .. })) if old == content => {
                self.check(dir, name, before, seen)?;
                fchmod(open_file(dir, name)?, Mode::from_raw_mode(*mode))?;
                self.applied.written += 1;
                Ok(())
            }
            (before, Some(Node::Directory { tree, mode })) => {
                if let Some(before) = before {
                    self.remove(dir, name, path, before, seen)?;
                }
                self.make_directory(dir, name, path, tree, *mode)
            }
            (Some(before @ Node::Directory { .. }), Some(wanted)) => {
                self.remove(dir, name, path, before, seen)?;
                self.place(dir, name, None, seen, wanted)
            }
            (before, Some(wanted)) => self.place(dir, name, before, seen, wanted),
            (None, None) => Ok(()),
        }
    }

    /// Sees that what is there is still what the snapshot holds.
    fn check(&self, dir: &OwnedFd, name: &[u8], before: Option<&Node>, seen: Option<&Index>) -> Result<(), Failed> {
        let is_same = match before {
            Some(Node::File { .. }) => {
                let seen = seen.and_then(|seen| seen.file(name));
                let now = stat(dir, name).map(|found| Stamp::of(&found));
                seen.is_some_and(|seen| now == Ok(seen.stamp))
            }
            Some(Node::Link { target }) => read_link(dir, name).as_ref() == Ok(target),
            Some(Node::Directory { .. } | Node::Left { .. }) | None => true,
        };
        if is_same { Ok(()) } else { Err(Failed::At(Left::Changed)) }
    }

    fn remove(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        before: &Node,
        seen: Option<&Index>,
    ) -> Result<(), Failed> {
        match before {
            Node::Directory { .. } => {
                let below = open_dir(dir, name)?;
                let seen = seen.and_then(|seen| seen.directory(name));
                let tree = self.objects.tree_of(Some(before))?;
                self.directory(&below, path, &tree, seen, &Tree::default())?;
                match unlinkat(dir, name, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(Failed::At(Left::Unknown)),
                    result => result?,
                }
            }
            Node::File { .. } | Node::Link { .. } => {
                self.check(dir, name, Some(before), seen)?;
                unlinkat(dir, name, AtFlags::empty())?;
            }
            Node::Left { .. } => return Err(Failed::At(Left::Unknown)),
        }
        self.applied.removed += 1;
        Ok(())
    }

    fn make_directory(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], tree: &Id, mode: u32) -> Result<(), Failed> {
        let is_new = match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => true,
            // One that the snapshot did not see, as it held nothing it looks at.
            Err(Errno::EXIST) => false,
            Err(err) => return Err(err.into()),
        };
        let below = match open_dir(dir, name) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Failed::At(Left::Unknown)),
            below => below?,
        };
        self.directory(&below, path, &Tree::default(), None, &self.objects.tree(tree)?)?;
        if is_new {
            self.adopt(&below, mode)?;
        } else {
            fchmod(&below, Mode::from_raw_mode(mode))?;
        }
        self.applied.written += 1;
        Ok(())
    }

    /// Puts a file or a link in its place, over `before` or over nothing.
    fn place(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        before: Option<&Node>,
        seen: Option<&Index>,
        wanted: &Node,
    ) -> Result<(), Failed> {
        let hidden = self.hidden_name();
        let placed = self.write(dir, &hidden, wanted).and_then(|()| match before {
            Some(_) => {
                self.check(dir, name, before, seen)?;
                Ok(renameat(dir, &hidden, dir, name)?)
            }
            None => rename_to_free(dir, &hidden, name),
        });
        match placed {
            Ok(()) => self.applied.written += 1,
            Err(_) => drop(unlinkat(dir, &hidden, AtFlags::empty())),
        }
        placed
    }

    fn write(&self, dir: &OwnedFd, name: &[u8], node: &Node) -> Result<(), Failed> {
        match node {
            Node::Link { target } => {
                symlinkat(target.as_slice(), dir, name)?;
                if let Some((user, group)) = self.owner {
                    chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                Ok(())
            }
            Node::File { content, size, mode } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
                for part in content::parts(self.objects, content, *size)? {
                    let part = self.objects.read(&part)?;
                    // A hole stays one.
                    if part.len() == content::PART_BYTES && part.iter().all(|byte| *byte == 0) {
                        file.seek(SeekFrom::Current(content::PART_BYTES as i64))?;
                    } else {
                        file.write_all(&part)?;
                    }
                }
                if *size > content::PART_BYTES as u64 {
                    file.set_len(*size)?;
                }
                Ok(self.adopt(&file, *mode)?)
            }
            Node::Directory { .. } | Node::Left { .. } => Err(Failed::At(Left::NotKept)),
        }
    }

    fn adopt(&self, fd: impl AsFd, mode: u32) -> Result<(), Errno> {
        if let Some((user, group)) = self.owner {
            fchown(&fd, Some(user), Some(group))?;
        }
        fchmod(fd, Mode::from_raw_mode(mode))
    }

    /// Makes a name that nobody else uses, of the form that unfinished uploads have.
    fn hidden_name(&self) -> Vec<u8> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = Id::of(format!("{} {count} {now:?}", std::process::id()).as_bytes()).to_string();
        format!("{}{}", self.options.temporary_prefix, &unique[..32]).into_bytes()
    }
}

/// Renames to a name that nothing has.
fn rename_to_free(dir: &OwnedFd, from: &[u8], to: &[u8]) -> Result<(), Failed> {
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // Some file systems do not know how.
        Err(Errno::INVAL | Errno::NOSYS) => match stat(dir, to) {
            Err(Errno::NOENT) => Ok(renameat(dir, from, dir, to)?),
            _ => Err(Failed::At(Left::Unknown)),
        },
        Err(Errno::EXIST) => Err(Failed::At(Left::Unknown)),
        result => Ok(result?),
    }
}

/// Why something was not done.
enum Failed {
    At(Left),
    Os(Errno),
    Fatal(Error),
}

impl From<Errno> for Failed {
    fn from(err: Errno) -> Self {
        Self::Os(err)
    }
}

impl From<std::io::Error> for Failed {
    fn from(err: std::io::Error) -> Self {
        Self::Os(Errno::from_io_error(&err).unwrap_or(Errno::IO))
    }
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Self::Fatal(err)
    }
}
