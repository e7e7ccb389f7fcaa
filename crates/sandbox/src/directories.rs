//! The directories of an environment on this host: one set of files, and a socket for each of its containers.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
};

use crate::place::Place;

/// `{data_dir}/environments/{id}/` and what is mounted from it into the container.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    pub(crate) root: PathBuf,
    /// Holds the socket of one container's `guestd`. Emptied before each start.
    pub(crate) run: PathBuf,
    /// What one container sees of skills and cannot change. Emptied before each start.
    pub(crate) skills: PathBuf,
}

/// Where the server itself finds an environment's files.
#[derive(Debug, Clone)]
pub struct HostDirectories {
    /// What containers see as `/workspace`: in the hands of whoever works there.
    pub workspace: PathBuf,
    /// For the past of it; no container sees it. It goes when the environment's files go. May be missing.
    pub history: PathBuf,
}

impl Directories {
    pub(crate) fn on_host(&self) -> HostDirectories {
        HostDirectories { workspace: self.workspace(), history: self.root.join("history") }
    }

    /// The id's alphabet has neither dots nor slashes, so the path is always one below `environments`.
    pub(crate) fn new(data_dir: &Path, place: &Place) -> Self {
        let root = data_dir.join("environments").join(place.environment.as_str());
        Self { run: root.join(place.run()), skills: root.join(place.skills()), root }
    }

    /// The user's files: `/workspace` in the container.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// The home directory: caches and settings of tools.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Makes what is missing, for the `uid:gid` that will work in it.
    pub(crate) fn make(&self, user: &str) -> io::Result<()> {
        if let Some(environments) = self.root.parent() {
            // Only we look at environments from outside; each container gets its own directories as mounts.
            DirBuilder::new().recursive(true).mode(0o700).create(environments)?;
        }
        DirBuilder::new().recursive(true).mode(0o755).create(&self.root)?;
        // The server's own, and only to be read by who works there.
        DirBuilder::new().recursive(true).mode(0o755).create(&self.skills)?;
        for (directory, mode) in [(self.workspace(), 0o755), (self.home(), 0o700), (self.run.clone(), 0o700)] {
            match DirBuilder::new().mode(mode).create(&directory) {
                Ok(()) => self.give(&directory, user)?,
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    fn give(&self, directory: &Path, user: &str) -> io::Result<()> {
        let (uid, gid) = user.split_once(':').unwrap_or((user, user));
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { return Ok(()) };
        if rustix::process::geteuid().is_root() && uid != 0 {
            return chown(directory, Some(uid), Some(gid));
        }
        Ok(())
    }

    /// Makes anew what is of one start of a container: what it left in its run directory must not hinder the next, and
    /// versions of skills must not pile up.
    pub(crate) async fn renew_run(&self, user: &str) -> Result<(), crate::Error> {
        crate::Workspace::delete(self.run.clone()).await?;
        crate::Workspace::delete(self.skills.clone()).await?;
        self.make(user).map_err(|err| crate::Error::other(format!("cannot make '{}'", self.root.display()), err))
    }
}
