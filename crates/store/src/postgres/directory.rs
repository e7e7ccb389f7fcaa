//! The directory of a private Postgres: who may use it, what is in it, and what was left running in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, User},
};
use rustix::fs::{FlockOperation, flock};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{Installation, find_installations};
use crate::{Error, Result};

/// The longest path of a unix socket the kernel takes, less the name of the socket and some air.
const LONGEST_SOCKET_DIRECTORY: usize = 85;
/// Somebody may hold the directory for a moment, to make a key while no server runs.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The file is kept for looking at after a failure, not for history.
const LARGEST_LOG_BYTES: u64 = 8 * 1024 * 1024;

/// `data_dir/postgres`, held by this process alone.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) root: PathBuf,
    /// Whom the child runs as; `None` if as ourselves.
    pub(super) user: Option<(Uid, Gid)>,
    _lock: File,
}

impl Directory {
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        let root = data_dir.join("postgres");
        let failed = |err| Error::Setup(format!("cannot use {}: {err}", root.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.join("lock"))
            .map_err(failed)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() > deadline {
                return Err(Error::Setup(format!(
                    "another process uses the private Postgres in {}: stop it first, or use another data directory",
                    root.display()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let user = if Uid::effective().is_root() { Some(unprivileged_user()?) } else { None };
        Ok(Self { root, user, _lock: lock })
    }

    /// Where the cluster is.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Gives the major version that wrote the cluster; `None` before there is one.
    pub(super) fn version(&self) -> Result<Option<u32>> {
        let file = self.data().join("PG_VERSION");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::Setup(format!("cannot read {}: {err}", file.display()))),
        };
        let major = text.trim().split('.').next().and_then(|major| major.parse().ok());
        major.map(Some).ok_or_else(|| Error::Setup(format!("{} holds no version number", file.display())))
    }

    /// Gives the newest binaries that can read the cluster.
    pub(super) fn choose_installation(&self) -> Result<Installation> {
        choose(find_installations(), self.version()?, &self.data())
    }

    /// Makes an empty directory that belongs to the child's user.
    pub(super) fn create_for_child(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        let failed = |err| Error::Setup(format!("cannot make {}: {err}", path.display()));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(failed)?;
        }
        Ok(path)
    }

    /// Opens the log for appending; one that has grown too large is put aside first.
    pub(super) fn log(&self) -> Result<File> {
        let path = self.log_path();
        let failed = |err| Error::Setup(format!("cannot write {}: {err}", path.display()));
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LARGEST_LOG_BYTES) {
            fs::rename(&path, path.with_extension("old")).map_err(failed)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Stops a postmaster that outlived the server it belonged to, and removes what makes the next one hesitate.
    ///
    /// We hold the lock, so whoever started it is gone.
    pub(super) fn stop_leftover(&self) -> Result<()> {
        let data = self.data();
        let pid_file = data.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
        let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1);
        if let Some(pid) = pid {
            // It was told to stop by the kernel when its server died; usually it is gone before we look.
            for (signal, patience) in [(Signal::SIGINT, 20), (Signal::SIGQUIT, 5), (Signal::SIGKILL, 5)] {
                if !is_postmaster_of(pid, &data) {
                    break;
                }
                tracing::warn!(pid, %signal, "stopping the Postgres that an earlier server left behind");
                let _gone_already = kill(Pid::from_raw(pid), signal);
                let deadline = Instant::now() + Duration::from_secs(patience);
                while is_postmaster_of(pid, &data) && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            if is_postmaster_of(pid, &data) {
                return Err(Error::Setup(format!(
                    "the Postgres left in {} (process {pid}) does not end",
                    data.display()
                )));
            }
        }
        // Postgres asks whether a process of this number exists; a zombie or a stranger that got the number would
        // keep it from starting.
        for file in [pid_file, data.join(".s.PGSQL.5432.lock")] {
            match fs::remove_file(&file) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Setup(format!("cannot remove {}: {err}", file.display())));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn socket(&self) -> Result<Socket> {
        Socket::of(&self.data())
    }
}

/// Where a private Postgres is reached.
#[derive(Debug, Clone)]
pub struct Socket {
    path: PathBuf,
    /// Keeps the path valid, if it goes through an open file.
    _open: Option<Arc<File>>,
}

impl Socket {
    /// Finds the Postgres that another process runs under this data directory; `None` if none does.
    pub fn find(data_dir: &Path) -> Result<Option<Self>> {
        let data = data_dir.join("postgres/data");
        let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return Ok(None) };
        let Ok(data) = data.canonicalize() else { return Ok(None) };
        let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
        if pid.is_some_and(|pid| is_postmaster_of(pid, &data)) { Self::of(&data).map(Some) } else { Ok(None) }
    }

    fn of(data: &Path) -> Result<Self> {
        if data.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY {
            return Ok(Self { path: data.to_owned(), _open: None });
        }
        let open = File::open(data).map_err(|err| Error::Setup(format!("cannot open {}: {err}", data.display())))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        Ok(Self { path, _open: Some(Arc::new(open)) })
    }

    /// Gives how to reach a database. Valid in this process, while `self` lives.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.path)
            .port(super::child::PORT)
            .username(super::child::SUPERUSER)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name("atelier")
    }
}

fn choose(found: Vec<Installation>, written_by: Option<u32>, data: &Path) -> Result<Installation> {
    let Some(newest) = found.first().cloned() else {
        return Err(Error::Setup(
            "no PostgreSQL is installed: install the package postgresql, or set database.url to a server of yours"
                .into(),
        ));
    };
    let Some(written_by) = written_by else { return Ok(newest) };
    found.into_iter().find(|installation| installation.major == written_by).ok_or_else(|| {
        Error::Setup(format!(
            "the data in {} were written by PostgreSQL {written_by} but PostgreSQL {} is installed: install the package \
             postgresql-{written_by}, or move the data over with pg_upgrade",
            data.display(),
            newest.major
        ))
    })
}

/// Postgres refuses to run as root. `postgres` comes with its package on Debian; `nobody` is everywhere.
fn unprivileged_user() -> Result<(Uid, Gid)> {
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok((user.uid, user.gid));
        }
    }
    Err(Error::Setup("there is no user postgres or nobody to run Postgres as: make one".into()))
}

/// Tells whether the process is a living postmaster on this cluster. A zombie has neither `cwd` nor `exe`.
fn is_postmaster_of(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    match fs::read_link(process.join("cwd")) {
        Ok(cwd) => cwd == data,
        // In a container root may not look at other users' processes this way; its name and state are public.
        Err(err) if err.kind() == std::io::ErrorKind::PermissionDenied => {
            let is_postgres = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "postgres");
            is_postgres && !is_zombie(&process)
        }
        Err(_) => false,
    }
}

fn is_zombie(process: &Path) -> bool {
    let state = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The second field is the name in parentheses and may hold anything.
    state.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z') || rest.is_empty())
}

/// Corrects the mode of a directory that must not be open to others.
pub(super) fn close_to_others(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|err| Error::Setup(format!("cannot set the mode of {}: {err}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(major: u32) -> Installation {
        Installation { bin: "/bin".into(), version: format!("{major}.1"), major }
    }

    #[test]
    fn the_version_that_wrote_the_data_is_used_or_its_absence_explained() {
        let both = || vec![installation(17), installation(15)];
        assert_eq!(choose(both(), None, Path::new("/d")).unwrap().major, 17);
        assert_eq!(choose(both(), Some(15), Path::new("/d")).unwrap().major, 15);
        let refused = choose(both(), Some(16), Path::new("/d")).unwrap_err().to_string();
        assert!(refused.contains("written by PostgreSQL 16 but PostgreSQL 17 is installed"), "{refused}");
        assert!(refused.contains("postgresql-16"), "{refused}");
        let missing = choose(vec![], None, Path::new("/d")).unwrap_err().to_string();
        assert!(missing.contains("no PostgreSQL is installed"), "{missing}");
    }
}
