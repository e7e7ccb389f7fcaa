//! Copying from one workspace to another. Both are believed nothing: each place is found beneath its own root.

use rustix::fs::{AtFlags, FileType, readlinkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::read::open_regular;
use super::room::Room;
use super::tree::{Last, Missing, Place, Tree, failed};
use super::upload::{copy_in, is_temporary, placeless_name};
use super::walk::{Order, Walk};
use super::{change, size};
use crate::Error;

/// A copy ends here, as an error.
const MAX_ENTRIES: u64 = 1_000_000;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files and links.
    pub files: u64,
    pub bytes: u64,
    /// Pipes, sockets, devices, and names that are not UTF-8: left out.
    pub skipped: u64,
}

pub(super) fn copy(from: &Tree, path: &str, to: &Tree, room: &Room) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    match from.retried(path, Last::Follow, Missing::Fail, open_regular) {
        Ok(Some((file, stat))) => {
            room.take(size(&stat))?;
            copied.bytes = copy_in(to, path, file, size(&stat), stat.st_mode)?;
            copied.files = 1;
            return Ok(copied);
        }
        Ok(None) => return Err(Error::Refused { path: path.to_owned(), why: "is not a regular file" }),
        Err(Error::IsDirectory(_)) => {}
        Err(err) => return Err(err),
    }
    let base = from.directory(path)?;
    change::make_dir_all(to, path)?;
    let mut walk = Walk::new(base, Order::DepthFirst, 0);
    let mut seen = 0;
    while let Some(found) = walk.next() {
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(Error::TooLarge(path.to_owned()));
        }
        if found.kind == FileType::RegularFile && is_temporary(found.name()) {
            continue;
        }
        let Ok(below) = std::str::from_utf8(&found.path) else {
            copied.skipped += 1;
            continue;
        };
        let target = if path.is_empty() { below.to_owned() } else { format!("{path}/{below}") };
        let dir = walk.dir().expect("a directory is open while things are found in it");
        match found.kind {
            FileType::Directory => {
                change::make_dir_all(to, &target)?;
                walk.enter(found.path, 0);
            }
            FileType::RegularFile => {
                let dir = dir.try_clone().map_err(|err| Error::other("cannot copy a file", err))?;
                match open_regular(&Place { dir, name: Some(found.name().to_vec()) }) {
                    Ok(Some((file, stat))) => {
                        room.take(size(&stat))?;
                        copied.bytes += copy_in(to, &target, file, size(&stat), stat.st_mode)?;
                        copied.files += 1;
                    }
                    // Replaced or gone since it was found.
                    Ok(None) | Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR) => {}
                    Err(err) => return Err(failed(err, &target)),
                }
            }
            FileType::Symlink => {
                if let Ok(link) = readlinkat(dir, found.name(), Vec::new()) {
                    copy_link(to, &target, &link)?;
                    copied.files += 1;
                }
            }
            _ => copied.skipped += 1,
        }
    }
    match walk.is_incomplete {
        true => Err(Error::Refused { path: path.to_owned(), why: "has parts that are too deep or cannot be read" }),
        false => Ok(copied),
    }
}

/// Puts a link in its place, over a file or another link. Nobody follows it here.
fn copy_link(to: &Tree, path: &str, link: &std::ffi::CStr) -> Result<(), Error> {
    let place = to.walk(path, Last::Keep, Missing::Create)?;
    let Some(name) = &place.name else { return Err(Error::IsDirectory(path.to_owned())) };
    let temporary = placeless_name();
    symlinkat(link, &place.dir, &*temporary).map_err(|err| failed(err, path))?;
    renameat(&place.dir, &*temporary, &place.dir, &**name).map_err(|err| {
        let _ = unlinkat(&place.dir, &*temporary, AtFlags::empty());
        failed(err, path)
    })
}
