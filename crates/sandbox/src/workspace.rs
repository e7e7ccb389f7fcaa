//! The files of one environment, as the server itself reads and writes them: no container need run.
//!
//! The same tree is at the same time in the hands of whatever runs inside the container, so nothing in it is believed. All
//! access goes through [`tree::Tree`], which never leaves the workspace whatever links are made or swapped; only regular
//! files and directories are opened, so no pipe or device can hang us; and a file is written beside its place and renamed
//! into it, so a reader sees the old file or the new one. Blocking calls run on tokio's blocking threads.

mod change;
mod copy;
mod list;
mod read;
mod room;
mod skills;
mod stats;
mod tree;
mod upload;
mod walk;
mod zip;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::WorkspacePath;
use futures::Stream;
use rustix::fs::Stat;

use crate::Error;

pub use copy::Copied;
pub use list::{Entry, Kind, Listing};
pub use read::OpenFile;
pub(crate) use room::Room;
pub use skills::FoundSkill;
pub use stats::Stats;
pub use upload::{Upload, Uploaded};

/// The files of one environment on this host. Cheap to clone.
#[derive(Clone)]
pub struct Workspace {
    tree: Arc<tree::Tree>,
    room: Room,
}

impl Workspace {
    /// Opens the workspace whose files are in the directory `root`, which is made if missing.
    ///
    /// `root` is a path of the server's own choosing; links in it are followed. Blocks for a few microseconds.
    pub fn open(root: PathBuf) -> Result<Self, Error> {
        Ok(Self { tree: Arc::new(tree::Tree::open(&root)?), room: Room::default() })
    }

    /// Lets at most as much be written by this handle as there is room.
    pub(crate) fn within(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// Removes the directory `root` (again a path of the server's own choosing) with everything in it, however deep.
    ///
    /// It may be missing. Nothing in it should run any more; a directory that keeps being filled is an error.
    pub async fn delete(root: PathBuf) -> Result<(), Error> {
        on_blocking_thread(move || change::delete(&root)).await
    }

    /// Lists what is below the directory `path`, at most `depth` levels deep (1 is its children), sorted by path.
    ///
    /// At most 100,000 entries; [`Listing::truncated`] tells that there are more. Hidden files are listed, unfinished
    /// uploads are not.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Outside`.
    pub async fn list(&self, path: &WorkspacePath, depth: Option<u32>) -> Result<Listing, Error> {
        self.blocking(path, move |tree, path| list::list(tree, path, depth, list::MAX_ENTRIES)).await
    }

    /// Opens the file at `path` for reading. Links are followed as long as they stay inside.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `Outside`; `Refused` for pipes, sockets and devices.
    pub async fn open_file(&self, path: &WorkspacePath) -> Result<OpenFile, Error> {
        self.blocking(path, read::open).await
    }

    /// Begins to write the file at `path`, whose parent directories are made. Nothing is seen before [`Upload::commit`].
    ///
    /// # Errors
    /// `IsDirectory`, `NotADirectory` (for a parent), `Outside`, `DiskFull`; `Refused` over a pipe, socket or device.
    pub async fn upload(&self, path: &WorkspacePath) -> Result<Upload, Error> {
        let (tree, room) = (Arc::clone(&self.tree), self.room.clone());
        self.blocking(path, move |_, path| Upload::begin(tree, room, path)).await
    }

    /// Begins to write a file whose place is not known yet; [`Upload::commit_to`] tells it.
    ///
    /// # Errors
    /// `DiskFull`.
    pub async fn receive(&self) -> Result<Upload, Error> {
        let (tree, room) = (Arc::clone(&self.tree), self.room.clone());
        on_blocking_thread(move || Upload::begin(tree, room, &upload::placeless_name())).await
    }

    /// Makes the directory `path` and those above it. It may exist.
    ///
    /// # Errors
    /// `NotADirectory` where a file is in the way, `Outside`, `DiskFull`.
    pub async fn make_dir_all(&self, path: &WorkspacePath) -> Result<(), Error> {
        self.blocking(path, change::make_dir_all).await
    }

    /// Moves the file or directory `source` to be `dest`, whose parent directories are made. A link is moved, not what it
    /// points to. A file and an empty directory at `dest` are replaced by one of their kind.
    ///
    /// # Errors
    /// `NotFound`, `Outside`; `IsDirectory` and `NotADirectory` for a `dest` of the other kind; `Refused` for the
    /// workspace itself, for a directory into itself, and over a directory that is not empty.
    pub async fn rename(&self, source: &WorkspacePath, dest: &WorkspacePath) -> Result<(), Error> {
        let dest = dest.as_str().to_owned();
        self.blocking(source, move |tree, source| change::rename(tree, source, &dest)).await
    }

    /// Removes the file, the link (not what it points to) or the whole directory at `path`.
    ///
    /// # Errors
    /// `NotFound`, `Outside`; `Refused` for the workspace itself, or when a directory keeps being filled.
    pub async fn remove(&self, path: &WorkspacePath) -> Result<(), Error> {
        self.blocking(path, change::remove).await
    }

    /// Copies the file or directory at `path` to the same path of another workspace, over what is there: files are
    /// replaced one by one, each as a whole, directories are filled up, links are copied as links.
    ///
    /// # Errors
    /// As of [`open_file`](Self::open_file) here and of [`upload`](Self::upload) there. What was copied before one stays.
    pub async fn copy_to(&self, path: &WorkspacePath, other: &Self) -> Result<Copied, Error> {
        let other = other.clone();
        self.blocking(path, move |tree, path| copy::copy(tree, path, &other.tree, &other.room)).await
    }

    /// Streams the directory `path` as a zip archive, names relative to it, unix modes and links kept as they are.
    ///
    /// Memory stays flat, whatever the size: the archive is made as it is read. Pipes, sockets, devices and unfinished
    /// uploads are left out. A file that grows meanwhile is cut at the size it had, one that vanishes is left out.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Outside` before the stream; any within it means that the archive is not whole.
    pub async fn zip(
        &self,
        path: &WorkspacePath,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let base = self.blocking(path, |tree, path| tree.directory(path)).await?;
        Ok(zip::stream(base))
    }

    /// Counts the files and their bytes, unfinished uploads and hidden files included.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.blocking(&WorkspacePath::default(), |tree, _| stats::stats(tree)).await
    }

    /// Removes what uploads left behind that a crash cut off: those not written to since `before`. Gives their number.
    pub async fn sweep(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        self.blocking(&WorkspacePath::default(), move |tree, _| stats::sweep(tree, before)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &WorkspacePath,
        work: impl FnOnce(&tree::Tree, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let tree = Arc::clone(&self.tree);
        let path = path.as_str().to_owned();
        on_blocking_thread(move || work(&tree, &path)).await
    }
}

pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(err) => Err(Error::other("file work was cut off", err)),
    }
}

fn modified(stat: &Stat) -> DateTime<Utc> {
    // The container may set any time at all; one that no calendar knows is shown as the epoch.
    DateTime::from_timestamp(stat.st_mtime, stat.st_mtime_nsec as u32).unwrap_or_default()
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
