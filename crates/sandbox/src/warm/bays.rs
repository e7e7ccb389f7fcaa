//! Where a warm container waits for files: directories that an environment's own are mounted over.
//!
//! A mount that is made on the host after a container was started is seen in it only if it propagates: the directory of
//! all bays is therefore a shared mount, and containers mount their bay as its slave, so that nothing they do comes back.
//! The daemon's socket takes the other way, since the host reaches it too: its directory is *moved* to the environment,
//! and a link stays behind for when the container is started again. So does the directory of skills, since a mount that
//! comes by propagation would not be read-only.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use uuid::Uuid;

use crate::directories::Directories;

/// All bays of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Bays {
    /// The shared mount.
    root: PathBuf,
    /// Holds the sockets' directories. Not below the mount, out of which nothing can be moved.
    sockets: PathBuf,
}

impl Bays {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("bays"), sockets: data_dir.join("warm") }
    }

    /// Makes the shared mount, unless it is there. Needs the right to mount.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        for directory in [&self.root, &self.sockets] {
            fs::create_dir_all(directory)?;
        }
        if self.is_mounted()? {
            return Ok(());
        }
        mount_bind(&self.root, &self.root)?;
        // By way of private: on a host whose root is shared, what is mounted here would be mounted below it once more.
        mount_change(&self.root, MountPropagationFlags::PRIVATE)?;
        mount_change(&self.root, MountPropagationFlags::SHARED)?;
        Ok(())
    }

    /// Makes an empty bay, for the `uid:gid` that will work in it.
    pub(crate) fn make(&self, user: &str) -> io::Result<Bay> {
        let bay = self.bay(&Uuid::new_v4().simple().to_string());
        bay.directories.make(user)?;
        Ok(bay)
    }

    pub(crate) fn bay(&self, id: &str) -> Bay {
        let (run, skills) = (self.sockets.join(id), self.sockets.join(format!("{id}-skills")));
        let directories = Directories { root: self.root.join(id), run, skills };
        Bay { id: id.to_owned(), directories }
    }

    /// Lists the bays that are there.
    pub(crate) fn list(&self) -> io::Result<Vec<Bay>> {
        let entries = match fs::read_dir(&self.root) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.map(|name: io::Result<String>| Ok(self.bay(&name?))).collect()
    }

    /// Takes all of it away. No container may use a bay any more.
    pub(crate) fn close(&self) -> io::Result<()> {
        for bay in self.list()? {
            bay.clear()?;
        }
        while self.is_mounted()? {
            unmount(&self.root, UnmountFlags::DETACH)?;
        }
        for directory in [&self.root, &self.sockets] {
            absent_is_fine(fs::remove_dir(directory))?;
        }
        Ok(())
    }

    fn is_mounted(&self) -> io::Result<bool> {
        // By its true name, as the kernel lists it.
        let Ok(root) = self.root.canonicalize() else { return Ok(false) };
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(mounts
            .lines()
            .any(|line| line.split(' ').nth(4).map(unescaped).is_some_and(|path| Path::new(&path) == root)))
    }
}

/// The place of one container.
#[derive(Debug, Clone)]
pub(crate) struct Bay {
    pub(crate) id: String,
    /// What the container mounts.
    pub(crate) directories: Directories,
}

impl Bay {
    /// Puts an environment's files into the container, and the container's socket where the environment's is looked for.
    pub(crate) fn give_to(&self, environment: &Directories) -> io::Result<()> {
        self.attach(environment)?;
        for (own, given) in [(&self.directories.run, &environment.run), (&self.directories.skills, &environment.skills)]
        {
            absent_is_fine(fs::remove_dir_all(given))?;
            fs::rename(own, given)?;
            symlink(given, own)?;
        }
        Ok(())
    }

    /// Puts an environment's files into the container, if they are not there: mounts do not outlive the host.
    pub(crate) fn attach(&self, environment: &Directories) -> io::Result<()> {
        for (files, place) in
            [(environment.workspace(), self.directories.workspace()), (environment.home(), self.directories.home())]
        {
            let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
            if identity(&files)? != identity(&place)? {
                mount_bind(&files, &place)?;
            }
        }
        Ok(())
    }

    /// Takes the bay away, and with it the mounts; not the files in them.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for place in [self.directories.workspace(), self.directories.home()] {
            // What is no mount is not one any more.
            while unmount(&place, UnmountFlags::DETACH).is_ok() {}
            // Only if it is empty: should a mount be left, its files are not ours to remove.
            absent_is_fine(fs::remove_dir(&place))?;
        }
        absent_is_fine(fs::remove_dir(&self.directories.root))?;
        for own in [&self.directories.run, &self.directories.skills] {
            match fs::symlink_metadata(own) {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(own)?,
                Ok(_) => fs::remove_file(own)?,
                Err(err) => absent_is_fine(Err(err))?,
            }
        }
        Ok(())
    }
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Reads a path as the kernel writes it: blanks and backslashes as `\040`.
fn unescaped(path: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(path.to_owned(), |path, (written, meant)| path.replace(written, meant))
}
