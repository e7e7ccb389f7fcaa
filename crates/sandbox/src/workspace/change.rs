//! Making, moving and removing.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

use super::tree::{Last, Missing, Tree, failed, open_dir};
use super::walk::read_names;
use crate::Error;

/// How many directories are held open while one is removed; what lies deeper is moved up first.
const MAX_OPEN: usize = 32;
/// How often a directory that was filled again meanwhile is emptied again.
const MAX_ROUNDS: usize = 64;

pub(super) fn make_dir_all(tree: &Tree, path: &str) -> Result<(), Error> {
    let result = tree.retried(path, Last::Follow, Missing::Create, |place| match &place.name {
        None => Ok(()),
        Some(name) => {
            tree.make_dir(&place.dir, name)?;
            place.open_dir().map(drop)
        }
    });
    match result {
        // The name was just made or found: only a swapped link or a removed parent gets here.
        Err(Error::NotFound(path)) => Err(Error::Refused { path, why: "was removed meanwhile" }),
        result => result,
    }
}

pub(super) fn rename(tree: &Tree, source: &str, dest: &str) -> Result<(), Error> {
    let refused = |path: &str, why| Err(Error::Refused { path: path.to_owned(), why });
    if source.is_empty() {
        return refused(source, "is the workspace itself and cannot be moved");
    }
    if dest.is_empty() {
        return refused(dest, "is the workspace itself and cannot be replaced");
    }
    if dest.strip_prefix(source).is_some_and(|below| below.starts_with('/')) {
        return refused(source, "cannot be moved into itself");
    }
    let from = tree.walk(source, Last::Keep, Missing::Fail)?;
    // Before the parents of the destination are made, which would be all that is left of a failure.
    from.stat().map_err(|err| failed(err, source))?;
    let to = tree.walk(dest, Last::Keep, Missing::Create)?;
    let (Some(from_name), Some(to_name)) = (&from.name, &to.name) else {
        return refused(source, "has no name to be moved by");
    };
    match renameat(&from.dir, from_name, &to.dir, to_name) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => refused(source, "cannot be moved into itself"),
        Err(Errno::NOTEMPTY | Errno::EXIST) => refused(dest, "is a directory that is not empty"),
        Err(Errno::XDEV) => refused(source, "is on another file system than its destination"),
        Err(Errno::NOENT) => Err(failed(Errno::NOENT, source)),
        Err(err) => Err(failed(err, dest)),
    }
}

pub(super) fn remove(tree: &Tree, path: &str) -> Result<(), Error> {
    let refused = |why| Err(Error::Refused { path: path.to_owned(), why });
    if path.is_empty() {
        return refused("is the workspace itself and cannot be removed");
    }
    let place = tree.walk(path, Last::Keep, Missing::Fail)?;
    let Some(name) = &place.name else { return refused("has no name to be removed by") };
    let result = match unlinkat(&place.dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => remove_dir(&place.dir, name),
        result => result,
    };
    match result {
        Err(Errno::NOTEMPTY) => refused("is being written to and could not be removed"),
        result => result.map_err(|err| failed(err, path)),
    }
}

/// Removes the directory at `root`, which need not be in any workspace.
pub(super) fn delete(root: &Path) -> Result<(), Error> {
    let delete = || {
        let (parent, name) = (root.parent().unwrap_or(root), root.file_name().ok_or(Errno::INVAL)?);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        remove_dir(&openat(CWD, parent, flags, Mode::empty())?, name.as_encoded_bytes())
    };
    match delete() {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(err) => Err(Error::other(format!("cannot remove {}", root.display()), err)),
    }
}

/// A directory being emptied.
struct Level {
    dir: OwnedFd,
    name: Vec<u8>,
    /// Names read and not yet dealt with.
    names: std::vec::IntoIter<Vec<u8>>,
    rounds: usize,
}

impl Level {
    fn open(parent: &OwnedFd, name: &[u8], rounds: usize) -> Result<Self, Errno> {
        let dir = open_dir(parent, name, OFlags::RDONLY)?;
        Ok(Self { dir, name: name.to_vec(), names: Vec::new().into_iter(), rounds })
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, Errno> {
        if self.names.len() == 0 {
            self.names = read_names(&self.dir)?.into_iter();
        }
        Ok(self.names.next())
    }
}

/// Removes the directory `name` in `parent` with all that is in it, whatever is done to it meanwhile.
///
/// The container can make trees deeper than we may have files open. Where one gets too deep, its next level is moved up
/// to the top (which can only be in the workspace) and removed from there.
pub(super) fn remove_dir(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let mut levels = vec![Level::open(parent, name, 0)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.next()? else {
            // Nothing is left to read. If it is not empty all the same, it is read again from its start.
            let level = levels.pop().expect("the loop runs while there is a level");
            let above = levels.last().map_or(parent, |level| &level.dir);
            match unlinkat(above, &level.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if level.rounds < MAX_ROUNDS => {
                    levels.extend(unless_replaced(Level::open(above, &level.name, level.rounds + 1))?);
                }
                Err(Errno::EXIST) => return Err(Errno::NOTEMPTY),
                Err(err) => return Err(err),
            }
            continue;
        };
        match unlinkat(&level.dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) if levels.len() < MAX_OPEN => {
                let level = levels.last().expect("the loop runs while there is a level");
                levels.extend(unless_replaced(Level::open(&level.dir, &name, 0))?);
            }
            Err(Errno::ISDIR) => {
                let aside = format!(".atelier-removed-{}", Uuid::new_v4().simple());
                let deepest = &levels[levels.len() - 1];
                match renameat(&deepest.dir, &name, &levels[0].dir, &*aside) {
                    // The top has more to read, by our own doing.
                    Ok(()) => levels[0].rounds = 0,
                    Err(Errno::NOENT) => {}
                    Err(err) => return Err(err),
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// Something that is no directory any more is dealt with when its parent is read again.
fn unless_replaced(level: Result<Level, Errno>) -> Result<Option<Level>, Errno> {
    match level {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        level => level.map(Some),
    }
}
