//! Writing a file so that nobody ever sees half of it.
//!
//! Chunks are gathered and written in the background while the next arrive, with at most two batches in memory. What is
//! written goes to the disk meanwhile, so that little is left to wait for at the end. The file grows under a hidden name in
//! its own directory, since only there a rename is sure to stay on one file system.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::WorkspacePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fdatasync, fstat, fsync, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::room::Room;
use super::tree::{Last, Missing, Tree, errno, failed};
use super::{modified, on_blocking_thread};
use crate::Error;

const PREFIX: &str = ".atelier-upload-";
const BATCH_BYTES: usize = 1024 * 1024;

/// After so much the disk is set to work. A small file is synchronised once.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

type Work = JoinHandle<io::Result<()>>;

/// A file being written. Dropped before [`commit`](Self::commit), it leaves nothing.
pub struct Upload {
    tree: Arc<Tree>,
    room: Room,
    path: String,
    temporary: Temporary,
    file: Arc<File>,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// The batch before, on its way to the disk.
    writing: Option<Work>,
    /// What was written before, on its way from memory to the disk.
    syncing: Option<Work>,
    /// The size up to which that was begun.
    synced: u64,
    size: u64,
    has_failed: bool,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// In bytes.
    pub size: u64,
    /// Whether there was no such file before.
    pub created: bool,
    pub modified: DateTime<Utc>,
}

impl Upload {
    pub(super) fn begin(tree: Arc<Tree>, room: Room, path: &str) -> Result<Self, Error> {
        let (dir, target) = find_target(&tree, path)?;
        let (temporary, file) = Temporary::create(dir, target).map_err(|err| failed(err, path))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file: Arc::new(file),
            tree,
            room,
            batch: Vec::new(),
            batch_bytes: 0,
            writing: None,
            syncing: None,
            synced: 0,
            size: 0,
            has_failed: false,
        })
    }

    /// Appends `chunk`. An error may be that of an earlier chunk; after one, the upload cannot be committed.
    ///
    /// # Errors
    /// `DiskFull`, `DiskLimit`, `TooLarge` (for the file system).
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.room.take(chunk.len() as u64).inspect_err(|_| self.has_failed = true)?;
        self.size += chunk.len() as u64;
        self.batch_bytes += chunk.len();
        if !chunk.is_empty() {
            self.batch.push(chunk);
        }
        if self.batch_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the file in its place, on the disk before anybody sees it. An existing file's mode is kept.
    ///
    /// # Errors
    /// As [`write`](Self::write); `IsDirectory`, `NotFound` when a directory took its place or its own one was removed.
    pub async fn commit(mut self) -> Result<Uploaded, Error> {
        self.flush().await?;
        self.settle().await?;
        let synced = wait(&mut self.syncing).await;
        self.check(synced)?;
        let Self { tree, path, temporary, file, size, .. } = self;
        // On a blocking thread to its end, even if we are not waited for.
        on_blocking_thread(move || {
            fsync(&file)
                .and_then(|()| temporary.put_in_place(&tree, &file, size, None))
                .map_err(|err| failed(err, &path))
        })
        .await
    }

    /// Puts the file at `path`, whose parent directories are made, instead of where it was begun.
    ///
    /// # Errors
    /// As of [`Workspace::upload`](super::Workspace::upload), and as of [`commit`](Self::commit).
    pub async fn commit_to(mut self, path: &WorkspacePath) -> Result<Uploaded, Error> {
        let (tree, path) = (Arc::clone(&self.tree), path.as_str().to_owned());
        let (dir, target) = on_blocking_thread(move || find_target(&tree, &path)).await?;
        self.temporary.target_dir = Some(dir);
        self.temporary.target = target;
        self.commit().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.settle().await?;
        if self.batch.is_empty() {
            return Ok(());
        }
        self.sync().await?;
        let batch = mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let file = Arc::clone(&self.file);
        self.writing = Some(tokio::task::spawn_blocking(move || write_all(&file, &batch)));
        Ok(())
    }

    /// Sets the disk to work on what is written, unless it still is.
    async fn sync(&mut self) -> Result<(), Error> {
        let written = self.size - self.batch_bytes as u64;
        if written - self.synced < SYNC_BYTES || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        // The kernel tells an error once, so each answer counts.
        let before = wait(&mut self.syncing).await;
        self.check(before)?;
        self.synced = written;
        let file = Arc::clone(&self.file);
        self.syncing = Some(tokio::task::spawn_blocking(move || Ok(fdatasync(&file)?)));
        Ok(())
    }

    /// Waits for the batch before.
    async fn settle(&mut self) -> Result<(), Error> {
        let written = wait(&mut self.writing).await;
        self.check(written)?;
        match self.has_failed {
            true => Err(Error::other(format!("cannot write '{}'", self.path), "an earlier write failed")),
            false => Ok(()),
        }
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), Error> {
        result.map_err(|err| {
            self.has_failed = true;
            failed(errno(err), &self.path)
        })
    }
}

/// Waits for work on the file, if there is any. It stays known until it is known to be well: a caller that stopped waiting
/// and goes on must not commit.
async fn wait(work: &mut Option<Work>) -> io::Result<()> {
    let Some(working) = work else { return Ok(()) };
    let result = working.await;
    *work = None;
    result.unwrap_or_else(|err| Err(io::Error::other(err)))
}

/// Copies the first `size` bytes of an open file to `path`, whole or not at all; parent directories are made.
///
/// It is not waited for until the disk has it: who copies many files again after a crash loses nothing.
pub(super) fn copy_in(tree: &Tree, path: &str, source: File, size: u64, mode: u32) -> Result<u64, Error> {
    let (dir, target) = find_target(tree, path)?;
    let (temporary, mut file) = Temporary::create(dir, target).map_err(|err| failed(err, path))?;
    let copied = io::copy(&mut source.take(size), &mut file).map_err(|err| failed(errno(err), path))?;
    let placed = temporary.put_in_place(tree, &file, copied, Some(mode & 0o777));
    placed.map(|placed| placed.size).map_err(|err| failed(err, path))
}

fn write_all(mut file: &File, batch: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// Finds the directory and name where a file may be put.
fn find_target(tree: &Tree, path: &str) -> Result<(OwnedFd, Vec<u8>), Error> {
    let place = tree.walk(path, Last::Follow, Missing::Create)?;
    match place.stat().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::RegularFile) | Err(Errno::NOENT) => {}
        Ok(FileType::Directory) => return Err(Error::IsDirectory(path.to_owned())),
        Ok(_) => return Err(Error::Refused { path: path.to_owned(), why: "is not a regular file" }),
        Err(err) => return Err(failed(err, path)),
    }
    match place.name {
        Some(name) => Ok((place.dir, name)),
        None => Err(Error::IsDirectory(path.to_owned())),
    }
}

/// The hidden file; removed when dropped, unless it was put in place.
struct Temporary {
    dir: OwnedFd,
    name: Option<String>,
    /// Where it is to be put, if not in `dir`.
    target_dir: Option<OwnedFd>,
    target: Vec<u8>,
}

impl Temporary {
    fn create(dir: OwnedFd, target: Vec<u8>) -> Result<(Self, File), Errno> {
        let name = placeless_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, &*name, flags, Mode::from_raw_mode(0o600))?;
        Ok((Self { dir, name: Some(name), target_dir: None, target }, file.into()))
    }

    /// `mode` is what the file gets; if absent, what one that is there has, or the usual one.
    fn put_in_place(mut self, tree: &Tree, file: &File, size: u64, mode: Option<u32>) -> Result<Uploaded, Errno> {
        let target_dir = self.target_dir.as_ref().unwrap_or(&self.dir);
        let before = statat(target_dir, &self.target, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let mode = mode.unwrap_or(before.map_or(0o644, |stat| stat.st_mode & 0o777));
        tree.adopt(file, Mode::from_raw_mode(mode))?;
        let name = self.name.as_deref().ok_or(Errno::NOENT)?;
        // Not even a link that appears here now is followed: the name itself is replaced.
        renameat(&self.dir, name, target_dir, &self.target)?;
        self.name = None;
        Ok(Uploaded { size, created: before.is_none(), modified: modified(&fstat(file)?) })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // One system call, here and now: a task of the runtime might never be run. What it misses is swept later.
            let _ = unlinkat(&self.dir, &*name, AtFlags::empty());
        }
    }
}

/// Gives a name for a file whose place is not known yet: one that is hidden too.
pub(super) fn placeless_name() -> String {
    format!("{PREFIX}{}", Uuid::new_v4().simple())
}

/// Tells whether a regular file of this name is an unfinished upload.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit))
}
