//! Reads and writes files for the host, as the container sees them.
//!
//! Reading and writing block the one thread, a block of 64 KiB at a time: on a local disk that is microseconds, and what
//! could block for longer (a FIFO, a device) is refused.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use guest_protocol::{Kind, MAX_DATA, Reply};
use rustix::{fs::OFlags, io::Errno};

use crate::{
    connection::{Block, Incoming, Outgoing},
    failure::{failure, other},
};

/// Sends up to `limit` bytes of a file from `offset`.
pub(crate) async fn read(path: &str, offset: u64, limit: u64, out: &mut Outgoing) -> io::Result<()> {
    let open = || {
        // Not to wait for the other end of a FIFO, which is refused below.
        let mut file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from_raw_os_error(Errno::ISDIR.raw_os_error()));
        }
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok((file, metadata))
    };
    let (mut file, metadata) = match open() {
        Ok(opened) => opened,
        Err(err) => return out.reply(&Reply::Failed(failure(path, &err))).await,
    };
    out.reply(&Reply::File { size: metadata.len(), modified_ms: modified_ms(&metadata) }).await?;
    let (mut left, mut block) = (limit, Block::new());
    while left > 0 {
        let want = left.min(MAX_DATA as u64) as usize;
        let len = match file.read(&mut block.body()[..want]) {
            Ok(0) => break,
            Ok(len) => len,
            Err(err) => return out.reply(&Reply::Failed(failure(path, &err))).await,
        };
        out.send(Kind::Data, &mut block, len).await?;
        left -= len as u64;
    }
    out.end().await
}

/// Receives a file of `size` bytes and puts it in place of what was there.
pub(crate) async fn write(path: &str, size: u64, host: &mut Incoming, out: &mut Outgoing) -> io::Result<()> {
    let mut writing = Writing::begin(path);
    let mut received = 0;
    loop {
        // A host that goes away leaves the old file: `Writing` removes its own when dropped.
        let Some(frame) = host.next().await? else { return Ok(()) };
        match frame.kind {
            Kind::Data if writing.is_ok() => {
                received += frame.body.len() as u64;
                let written = writing.as_mut().map(|writing| writing.file.write_all(&frame.body));
                if let Ok(Err(err)) = written {
                    writing = Err(err);
                }
            }
            // After a failure the rest is read all the same, so that the host gets to read why.
            Kind::Data => {}
            Kind::End => break,
            _ => return Ok(()),
        }
    }
    let reply = match writing {
        Ok(_) if received != size => Reply::Failed(other(format!("{path}: {received} bytes came, not {size}"))),
        Ok(writing) => match writing.finish() {
            Ok(reply) => reply,
            Err(err) => Reply::Failed(failure(path, &err)),
        },
        Err(err) => Reply::Failed(failure(path, &err)),
    };
    out.reply(&reply).await
}

/// A file being written beside its target, removed again unless it is finished.
struct Writing {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    existing: Option<fs::Metadata>,
}

/// With 32 hexadecimal digits after it, what the host's uploads are called as well: such a file is in no list, no archive and
/// no history, and is removed if a crash leaves it.
const TEMPORARY: &str = ".atelier-upload-";

impl Writing {
    fn begin(path: &str) -> io::Result<Self> {
        // A link is written through: editors do, and the rename would replace it.
        let target = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
        let existing = match fs::metadata(&target) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(io::Error::from_raw_os_error(Errno::ISDIR.raw_os_error()));
            }
            Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("not a regular file")),
            Ok(metadata) => Some(metadata),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(err),
        };
        let parent = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(as_not_a_directory)?;
        if target.file_name().is_none() {
            return Err(io::Error::from_raw_os_error(Errno::ISDIR.raw_os_error()));
        }
        for attempt in 0.. {
            let temporary = parent.join(format!("{TEMPORARY}{attempt:032x}"));
            match File::options().write(true).read(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(Self { file, temporary, target, existing }),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
                Err(err) => return Err(err),
            }
        }
        unreachable!("the loop returns by its thousandth attempt")
    }

    fn finish(mut self) -> io::Result<Reply> {
        let created = self.existing.is_none();
        if let Some(existing) = &self.existing {
            // Only root may give files away; others own what they may replace.
            let _ = fchown(&self.file, Some(existing.uid()), Some(existing.gid()));
            self.file.set_permissions(Permissions::from_mode(existing.mode() & 0o7777))?;
        }
        match fs::rename(&self.temporary, &self.target) {
            Ok(()) => {}
            // Something is mounted there (`/etc/hosts` is, in containers): it can only be written in place.
            Err(err) if err.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                self.file.rewind()?;
                let mut target = File::options().write(true).truncate(true).open(&self.target)?;
                io::copy(&mut self.file, &mut target)?;
            }
            Err(err) => return Err(err),
        }
        let metadata = fs::metadata(&self.target)?;
        Ok(Reply::Written { created, modified_ms: modified_ms(&metadata) })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // After the rename there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A file where a directory should be is reported as "exists" by `create_dir_all`.
fn as_not_a_directory(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::AlreadyExists => io::Error::from_raw_os_error(Errno::NOTDIR.raw_os_error()),
        _ => err,
    }
}

fn modified_ms(metadata: &fs::Metadata) -> i64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| since.as_millis() as i64)
}
