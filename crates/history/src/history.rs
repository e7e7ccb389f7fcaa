//! The history of one workspace.

use std::{
    fs::{DirBuilder, File},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Change, Collected, Content, Error, FileDiff, Id, Listing, Node, Options, Restored, Scope, Stats, diff,
    directory::open_root,
    fork, gc,
    graft::Edits,
    index::{Index, Saved},
    list,
    objects::Objects,
    restore::{Applied, Apply},
    scan::Scan,
    text, update,
};

/// Where the past of one workspace is kept.
///
/// Any number of processes may use it: those who write wait for each other, and who reads is never in their way.
#[derive(Debug, Clone)]
pub struct History {
    dir: PathBuf,
    options: Options,
}

/// A state of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Equal for equal states.
    pub id: Id,
    pub stats: Stats,
}

/// Held while something is written.
struct Lock {
    _file: File,
}

impl History {
    /// Opens the history in the directory `dir`, which is made if missing. The directory above it must be there.
    pub fn open(dir: PathBuf, options: Options) -> Result<Self, Error> {
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::at(dir)(err)),
            Ok(()) | Err(_) => Ok(Self { dir, options }),
        }
    }

    /// Gives the directory it is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Remembers what is in `workspace`. Only files that changed since the last time are read.
    ///
    /// # Errors
    /// `TooManyFiles`, `DiskFull`. A file that cannot be read is none: see [`Stats`].
    pub fn snapshot(&self, workspace: &Path) -> Result<Snapshot, Error> {
        let _lock = self.lock()?;
        self.take(&open_root(workspace).map_err(Error::at(workspace))?).map(|(snapshot, _)| snapshot)
    }

    /// Gives `base` with what is in `workspace` at `paths` now. `None`: one of them leads through a link or is the
    /// workspace itself, so only a whole snapshot tells.
    pub fn update(&self, base: &Id, workspace: &Path, paths: &[Vec<u8>]) -> Result<Option<Id>, Error> {
        let _lock = self.lock()?;
        let root = open_root(workspace).map_err(Error::at(workspace))?;
        let objects = Objects::open(&self.dir)?;
        let saved = self.saved(&objects)?;
        let mut adding = objects.add();
        let mut scan = Scan { options: &self.options, adding: &mut adding, stats: Stats::default() };
        let mut edits = Edits::default();
        for path in paths {
            let before = saved.as_ref().map(|saved| &saved.index);
            if !update::look(&mut scan, &root, path, before, &mut edits)? {
                return Ok(None);
            }
        }
        let tree = edits.apply(&objects, &mut adding, &objects.tree(base)?)?;
        let id = adding.put(&tree.encode())?;
        adding.finish()?;
        self.tidy()?;
        Ok(Some(id))
    }

    /// Gives `base` with what `source` holds at `paths`.
    pub fn pick(&self, base: &Id, source: &Id, paths: &[Vec<u8>]) -> Result<Id, Error> {
        let _lock = self.lock()?;
        let objects = Objects::open(&self.dir)?;
        let mut edits = Edits::default();
        for path in paths {
            edits.take(&objects, source, path)?;
        }
        let mut adding = objects.add();
        let tree = edits.apply(&objects, &mut adding, &objects.tree(base)?)?;
        let id = adding.put(&tree.encode())?;
        adding.finish()?;
        Ok(id)
    }

    /// Lists what is different in `after`; before `None` there was nothing.
    pub fn diff(&self, before: Option<&Id>, after: &Id) -> Result<Vec<Change>, Error> {
        let objects = Objects::open(&self.dir)?;
        let root = |id: &Id| Node::Directory { tree: *id, mode: 0 };
        diff::diff(&objects, before.map(root).as_ref(), Some(&root(after)))
    }

    /// Tells what changed in files, line by line, in the order of `changes`.
    pub fn texts(&self, changes: &[Change]) -> Result<Vec<FileDiff>, Error> {
        let objects = Objects::open(&self.dir)?;
        changes.iter().map(|change| text::diff(&objects, change)).collect()
    }

    /// Finds what a snapshot holds at a path.
    pub fn find(&self, snapshot: &Id, path: &[u8]) -> Result<Option<Node>, Error> {
        Objects::open(&self.dir)?.find(snapshot, path)
    }

    /// Opens a file of a snapshot.
    ///
    /// # Errors
    /// `NotFound`, `NotAFile`.
    pub fn read(&self, snapshot: &Id, path: &[u8]) -> Result<Content, Error> {
        let objects = Objects::open(&self.dir)?;
        let shown = String::from_utf8_lossy(path);
        let node = objects.find(snapshot, path)?.ok_or_else(|| Error::NotFound(shown.clone().into_owned()))?;
        Content::open(Arc::new(objects), &node, &shown)
    }

    /// Lists what a snapshot holds at and below a path, at most `limit` entries.
    pub fn list(&self, snapshot: &Id, prefix: &[u8], limit: usize) -> Result<Listing, Error> {
        list::list(&Objects::open(&self.dir)?, snapshot, prefix, limit)
    }

    /// Makes `workspace` what `snapshot` says, or a part of it. What is there is remembered first, and what cannot be
    /// remembered is left alone; see [`Restored`].
    ///
    /// # Errors
    /// After `DiskFull` and `Damaged` a part may be done. [`Restored::before`] was taken all the same, and taking a
    /// snapshot now tells what came of it.
    pub fn restore(&self, workspace: &Path, snapshot: &Id, scope: Scope<'_>) -> Result<Restored, Error> {
        let _lock = self.lock()?;
        let root = open_root(workspace).map_err(Error::at(workspace))?;
        let (before, index) = self.take(&root)?;
        let objects = Objects::open(&self.dir)?;
        let old = objects.tree(&before.id)?;
        let wanted = match scope {
            Scope::All => objects.tree(snapshot)?,
            Scope::Paths(paths) => {
                let mut edits = Edits::default();
                for path in paths {
                    edits.take(&objects, snapshot, path)?;
                }
                // The directories above those paths are new trees; the walk below reads them from the store.
                let mut adding = objects.add();
                let tree = edits.apply(&objects, &mut adding, &old)?;
                adding.finish()?;
                tree
            }
        };
        let objects = Objects::open(&self.dir)?;
        let mut apply = Apply::begin(&objects, &self.options, &root).map_err(Error::at(workspace))?;
        apply.directory(&root, &[], &old, Some(&index), &wanted)?;
        let changes = apply.applied;
        let (after, _) = self.take(&root)?;
        Ok(Restored { before, after, changes })
    }

    /// Tells whether a snapshot can be gone back to from here: it is one of this workspace, or of one it was forked from.
    pub fn holds(&self, snapshot: &Id) -> Result<bool, Error> {
        Ok(Objects::open(&self.dir)?.contains(snapshot))
    }

    /// Gives another history all content of this one. They share it on the disk.
    pub fn share_with(&self, other: &Self) -> Result<(), Error> {
        // While we hold it nobody merges packs away.
        let _lock = self.lock()?;
        fork::share(&Objects::open(&self.dir)?, &other.dir)
    }

    /// Makes a history in `dir` that shares all content with this one, and puts what `snapshot` holds into the empty
    /// directory `workspace`.
    pub fn fork(&self, snapshot: &Id, dir: PathBuf, workspace: &Path) -> Result<(Self, Applied), Error> {
        let forked = Self::open(dir, self.options.clone())?;
        let root = open_root(workspace).map_err(Error::at(workspace))?;
        self.share_with(&forked)?;
        // Of what was shared: here packs may be merged away while we read.
        let objects = Objects::open(&forked.dir)?;
        let mut apply = Apply::begin(&objects, &self.options, &root).map_err(Error::at(workspace))?;
        apply.directory(&root, &[], &Default::default(), None, &objects.tree(snapshot)?)?;
        Ok((forked, apply.applied))
    }

    /// Forgets what none of the snapshots `live` holds. All others can be read no more.
    pub fn collect(&self, live: &[Id]) -> Result<Collected, Error> {
        let _lock = self.lock()?;
        let objects = Objects::open(&self.dir)?;
        let mut roots = live.to_vec();
        // What the index knows is not read again, so it must stay.
        roots.extend(self.saved(&objects)?.map(|saved| saved.tree));
        gc::collect(&objects, &roots)
    }

    fn take(&self, root: &OwnedFd) -> Result<(Snapshot, Index), Error> {
        let objects = Objects::open(&self.dir)?;
        let saved = self.saved(&objects)?;
        let mut adding = objects.add();
        let mut scan = Scan { options: &self.options, adding: &mut adding, stats: Stats::default() };
        let (id, index) = scan.directory(root, &[], 0, saved.as_ref().map(|saved| &saved.index))?;
        let stats = scan.stats;
        let is_changed = adding.finish()?.is_some();
        // After what it is about is on the disk. Where nothing was read, it would be the same.
        if stats.files_read > 0 || saved.is_none_or(|saved| saved.tree != id) {
            let saved = Saved { tree: id, index };
            saved.save(&self.dir)?;
            if is_changed {
                self.tidy()?;
            }
            return Ok((Snapshot { id, stats }, saved.index));
        }
        Ok((Snapshot { id, stats }, index))
    }

    /// Gives what was seen last, unless something of it may be lost.
    fn saved(&self, objects: &Objects) -> Result<Option<Saved>, Error> {
        if objects.is_damaged {
            Saved::forget(&self.dir)?;
            return Ok(None);
        }
        Ok(Saved::load(&self.dir)?.filter(|saved| objects.contains(&saved.tree)))
    }

    fn tidy(&self) -> Result<(), Error> {
        Objects::open(&self.dir)?.tidy()
    }

    fn lock(&self) -> Result<Lock, Error> {
        let path = self.dir.join("lock");
        let locked = (|| {
            let file = File::options().create(true).append(true).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok::<_, std::io::Error>(file)
        })();
        let file = locked.map_err(Error::at(path))?;
        Objects::sweep(&self.dir)?;
        Ok(Lock { _file: file })
    }
}
