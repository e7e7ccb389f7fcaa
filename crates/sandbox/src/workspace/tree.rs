//! Finding a place beneath the workspace while somebody hostile rearranges it.
//!
//! A path is walked one component at a time. Every step opens one name in a directory we already hold, with `O_NOFOLLOW`,
//! so the kernel never follows a link for us; links are read and expanded here, `..` is undone on our own record of where
//! we are, and a link to `/workspace/…` means what it means inside the container. Whatever is swapped between two steps,
//! each step stays beneath the root: there is no check that a race could invalidate. `openat2(RESOLVE_BENEATH)` gives the
//! same promise, but refuses links to `/workspace`, and is not there on older kernels and under older seccomp profiles.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::fs::{readlinkat, statat};
use rustix::io::Errno;

use crate::Error;

/// Where the workspace is mounted inside the container.
const MOUNT: &[u8] = b"/workspace";
/// As many links as Linux itself follows in one path.
const MAX_LINKS: usize = 40;
/// How many components one walk may visit: links may expand to long paths, and each `..` walks again.
pub(super) const MAX_STEPS: usize = 8192;
/// How often an operation that lost a race against a swapped link starts over.
const MAX_ATTEMPTS: usize = 16;

/// What to do with a link in the last component.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// What to do about a missing directory on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Fail,
    Create,
}

/// The root of a workspace, held open: what is done beneath it stays beneath it even if its path is replaced.
pub(super) struct Tree {
    root: OwnedFd,
    /// Who owns new files; `None` where we are not root and cannot choose.
    owner: Option<(Uid, Gid)>,
}

/// A name in a directory that is held open; without a name the directory itself.
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    pub(super) name: Option<Vec<u8>>,
}

/// Why a walk ended early.
enum Stop {
    Outside,
    NotADirectory,
    Os(Errno),
}

impl From<Errno> for Stop {
    fn from(err: Errno) -> Self {
        Self::Os(err)
    }
}

impl Tree {
    /// Opens the workspace at `root`, a path of our own choosing.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let open = || {
            std::fs::create_dir_all(root)?;
            let fd = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let stat = fstat(&fd)?;
            Ok::<_, io::Error>((fd, stat))
        };
        let (root, stat) =
            open().map_err(|err| Error::other(format!("cannot open the workspace {}", root.display()), err))?;
        let is_superuser = rustix::process::geteuid().is_root();
        let owner = is_superuser.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Self { root, owner })
    }

    /// Finds where `path` is. The last component itself need not exist.
    pub(super) fn walk(&self, path: &str, last: Last, missing: Missing) -> Result<Place, Error> {
        self.walk_bytes(path.as_bytes(), last, missing, &mut { MAX_STEPS }).map_err(|stop| stop.on(path))
    }

    /// Finds what the link at `path` (relative to the root) points to, with at most `steps` steps; `None` if that is not
    /// inside, not there, or too far.
    pub(super) fn target(&self, path: &[u8], steps: &mut usize) -> Option<(Place, Stat)> {
        let mut allowed = MAX_STEPS.min(*steps);
        let before = allowed;
        let place = self.walk_bytes(path, Last::Follow, Missing::Fail, &mut allowed);
        *steps -= before - allowed;
        let place = place.ok()?;
        let stat = place.stat().ok()?;
        (FileType::from_raw_mode(stat.st_mode) != FileType::Symlink).then_some((place, stat))
    }

    fn walk_bytes(&self, path: &[u8], last: Last, missing: Missing, steps: &mut usize) -> Result<Place, Stop> {
        // What is left to walk, next component at the end; `real` is where `dir` is, free of links.
        let mut todo: Vec<Vec<u8>> = components(path).rev().collect();
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut dir = self.root.try_clone().map_err(errno)?;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            *steps = steps.checked_sub(1).ok_or(Errno::LOOP)?;
            if name == b".." {
                // The kernel's `..` would be wherever the directory was moved to meanwhile; ours is where we came from.
                real.pop().ok_or(Stop::Outside)?;
                *steps = steps.checked_sub(real.len()).ok_or(Errno::LOOP)?;
                dir = beneath(&self.root, real.iter().map(Vec::as_slice), OFlags::PATH)?;
                continue;
            }
            if todo.is_empty() && last == Last::Keep {
                return Ok(Place { dir, name: Some(name) });
            }
            let link = if todo.is_empty() {
                match readlinkat(&dir, &name, Vec::new()) {
                    Ok(link) => link,
                    Err(Errno::INVAL | Errno::NOENT) => return Ok(Place { dir, name: Some(name) }),
                    Err(err) => return Err(err.into()),
                }
            } else {
                let below = match open_dir(&dir, &name, OFlags::PATH) {
                    Err(Errno::NOENT) if missing == Missing::Create => {
                        self.make_dir(&dir, &name)?;
                        open_dir(&dir, &name, OFlags::PATH)
                    }
                    below => below,
                };
                match below {
                    Ok(below) => {
                        dir = below;
                        real.push(name);
                        continue;
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(&dir, &name, Vec::new()) {
                        Ok(link) => link,
                        Err(Errno::INVAL) => return Err(Stop::NotADirectory),
                        Err(err) => return Err(err.into()),
                    },
                    Err(err) => return Err(err.into()),
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let mut link = link.as_bytes();
            if link.starts_with(b"/") {
                link = link
                    .strip_prefix(MOUNT)
                    .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
                    .ok_or(Stop::Outside)?;
                dir = self.root.try_clone().map_err(errno)?;
                real.clear();
            }
            todo.extend(components(link).rev());
        }
        Ok(Place { dir, name: None })
    }

    /// Makes `name` in `dir` unless something of that name is there.
    pub(super) fn make_dir(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                // Whatever we open here now, it is a directory in the workspace: nothing else can be harmed by this.
                let made = open_dir(&dir, name, OFlags::RDONLY)?;
                self.adopt(&made, Mode::from_raw_mode(0o755))
            }
            Err(Errno::EXIST) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Gives a new file or directory the owner of the workspace, and `mode` whatever our umask says.
    pub(super) fn adopt(&self, fd: impl AsFd, mode: Mode) -> Result<(), Errno> {
        if let Some((user, group)) = self.owner {
            fchown(&fd, Some(user), Some(group))?;
        }
        fchmod(fd, mode)
    }

    /// Opens the directory at `path` for reading.
    pub(super) fn directory(&self, path: &str) -> Result<OwnedFd, Error> {
        self.retried(path, Last::Follow, Missing::Fail, |place| place.open_dir())
    }

    /// Walks to `path` and does `act` there, again when a link took the place of what the walk had seen.
    pub(super) fn retried<T>(
        &self,
        path: &str,
        last: Last,
        missing: Missing,
        mut act: impl FnMut(&Place) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let place = self.walk(path, last, missing)?;
            match act(&place) {
                Err(Errno::LOOP) if attempt < MAX_ATTEMPTS => attempt += 1,
                result => return result.map_err(|err| failed(err, path)),
            }
        }
    }
}

impl Place {
    /// Looks at what is here, not following a link.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        match &self.name {
            Some(name) => statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW),
            None => fstat(&self.dir),
        }
    }

    /// Opens the directory that is here for reading.
    pub(super) fn open_dir(&self) -> Result<OwnedFd, Errno> {
        open_dir(&self.dir, self.name.as_deref().unwrap_or(b"."), OFlags::RDONLY)
    }
}

impl Stop {
    fn on(self, path: &str) -> Error {
        match self {
            Self::Outside => Error::Outside(path.to_owned()),
            Self::NotADirectory => Error::NotADirectory(path.to_owned()),
            Self::Os(err) => failed(err, path),
        }
    }
}

/// Says what an error of the kernel means for whoever asked for `path`.
pub(super) fn failed(err: Errno, path: &str) -> Error {
    let path = path.to_owned();
    match err {
        Errno::NOENT => Error::NotFound(path),
        Errno::ISDIR => Error::IsDirectory(path),
        Errno::NOTDIR => Error::NotADirectory(path),
        Errno::ACCESS | Errno::PERM => Error::PermissionDenied(path),
        Errno::NOSPC | Errno::DQUOT => Error::DiskFull,
        Errno::FBIG => Error::TooLarge(path),
        Errno::LOOP => Error::Refused { path, why: "goes through too many symbolic links" },
        Errno::NAMETOOLONG => Error::Refused { path, why: "is too long" },
        Errno::INVAL => Error::Refused { path, why: "is not a valid name" },
        err => Error::other(format!("cannot work on '{path}'"), err),
    }
}

/// Gives the kernel's number of an error of the standard library.
pub(super) fn errno(err: io::Error) -> Errno {
    Errno::from_io_error(&err).unwrap_or(Errno::IO)
}

/// Opens the directory `name` in `dir`; a link fails with `ENOTDIR` or `ELOOP`.
pub(super) fn open_dir(dir: impl AsFd, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory that `names` lead to from `base`, following no link at all.
pub(super) fn beneath<'a>(
    base: &OwnedFd,
    names: impl Iterator<Item = &'a [u8]>,
    access: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut dir = None;
    for name in names {
        dir = Some(open_dir(dir.as_ref().unwrap_or(base), name, OFlags::PATH)?);
    }
    // The last step again, now with the access asked for: an `O_PATH` handle cannot be read from.
    open_dir(dir.as_ref().unwrap_or(base), b".", access)
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
