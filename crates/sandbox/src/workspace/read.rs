//! Reading a file.

use std::fs::File;
use std::io::SeekFrom;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::tree::{Last, Missing, Place, Tree};
use super::{modified, size};
use crate::Error;

const CHUNK_BYTES: usize = 256 * 1024;

/// A regular file of the workspace, open for reading. What happens to its name no longer matters.
#[derive(Debug)]
pub struct OpenFile {
    pub file: tokio::fs::File,
    /// In bytes, when it was opened.
    pub size: u64,
    pub modified: DateTime<Utc>,
    /// Another one whenever the content is another, whatever times somebody sets.
    pub version: String,
    /// Guessed from the name: `text/html`; `application/octet-stream` where nothing is known.
    pub mime: String,
}

impl OpenFile {
    /// Streams `length` bytes from `offset`, in chunks of at most 256 KiB; fewer if the file ends before.
    pub async fn into_stream(
        self,
        offset: u64,
        length: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(offset)).await.map_err(|err| Error::other("cannot seek in a file", err))?;
        let stream = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
        Ok(stream.map_err(|err| Error::other("cannot read a file", err)))
    }
}

/// Opens the file at `path`.
pub(super) fn open(tree: &Tree, path: &str) -> Result<OpenFile, Error> {
    let opened = tree.retried(path, Last::Follow, Missing::Fail, open_regular)?;
    let Some((file, stat)) = opened else {
        return Err(Error::Refused { path: path.to_owned(), why: "is not a regular file" });
    };
    Ok(OpenFile {
        file: tokio::fs::File::from_std(file),
        size: size(&stat),
        modified: modified(&stat),
        version: version(&stat),
        mime: mime_guess::from_path(path).first_or_octet_stream().essence_str().to_owned(),
    })
}

/// A file that is written to, or replaced, has another time of change, which nobody can set.
fn version(stat: &Stat) -> String {
    let Stat { st_ino, st_size, st_ctime, st_ctime_nsec, .. } = stat;
    format!("{st_ino:x}-{st_size:x}-{st_ctime:x}-{st_ctime_nsec:x}")
}

/// Opens the regular file at `place`; `None` for what is neither that nor a directory.
pub(super) fn open_regular(place: &Place) -> Result<Option<(File, Stat)>, Errno> {
    let Some(name) = &place.name else { return Err(Errno::ISDIR) };
    // Before the open: opening a pipe or a device can already have an effect. After it: it may have been swapped.
    match FileType::from_raw_mode(place.stat()?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::Symlink => return Err(Errno::LOOP),
        _ => return Ok(None),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match openat(&place.dir, name, flags, Mode::empty()) {
        // What a socket says to being opened.
        Err(Errno::NXIO) => return Ok(None),
        fd => fd?,
    };
    let stat = fstat(&fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Some((fd.into(), stat))),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Ok(None),
    }
}
