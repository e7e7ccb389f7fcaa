//! The data directory: everything of an installation that must stay, open to its owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::config::absolute;

/// An existing data directory.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

/// Holds the directory for one server. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl DataDir {
    /// Opens the directory, making it if needed, and closes it to others.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let path = absolute(path);
        let failed = || format!("cannot use the data directory {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).with_context(failed)?;
        Ok(Self(path.canonicalize().with_context(failed)?))
    }

    /// Opens the directory if it is there.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        path.canonicalize().ok().filter(|path| path.is_dir()).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the directory for this process; `None` if a server has it.
    pub(crate) fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.0.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Tells whether a server has the directory.
    pub(crate) fn is_served(&self) -> anyhow::Result<bool> {
        Ok(self.lock()?.is_none())
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.0.join("atelier.pid")
    }

    /// Gives the process id that the server wrote; it may be stale.
    pub(crate) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
    }

    pub(crate) fn api_key_file(&self) -> PathBuf {
        self.0.join("api-key")
    }

    pub(crate) fn write_api_key(&self, key: &SecretString) -> anyhow::Result<()> {
        write_private(&self.api_key_file(), format!("{}\n", key.expose_secret()).as_bytes())
    }

    /// Gives the name under which this installation holds leases, made once.
    pub(crate) fn node(&self) -> anyhow::Result<String> {
        let path = self.0.join("node");
        match fs::read_to_string(&path) {
            Ok(text) if Uuid::try_parse(text.trim()).is_ok() => return Ok(text.trim().to_owned()),
            Ok(_) => bail!("{} does not hold this server's name (a UUID): delete the file", path.display()),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(err).with_context(|| format!("cannot read {}", path.display())),
        }
        let node = Uuid::new_v4().to_string();
        write_private(&path, format!("{node}\n").as_bytes())?;
        Ok(node)
    }

    /// Gives the key that seals secrets in the database, made once.
    pub(crate) fn secret_key(&self) -> anyhow::Result<[u8; 32]> {
        let path = self.0.join("secret.key");
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| {
                anyhow::anyhow!(
                    "{} does not hold a key of 32 bytes: put the right file back, or delete it (environment secrets \
                     are then lost)",
                    path.display()
                )
            }),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                let key: [u8; 32] = rand::random();
                write_private(&path, &key)?;
                Ok(key)
            }
            Err(err) => Err(err).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Writes a file that only its owner may read, whole or not at all, also when the power fails.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        // One of an earlier attempt may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_once_stays_and_is_closed_to_others() {
        let dir = tempfile::TempDir::new().unwrap();
        let data = DataDir::create(&dir.path().join("a/b")).unwrap();
        assert_eq!(mode(data.path()), 0o700);
        assert_eq!(data.node().unwrap(), data.node().unwrap());
        assert_eq!(data.secret_key().unwrap(), data.secret_key().unwrap());
        assert_ne!(data.secret_key().unwrap(), [0; 32]);
        data.write_api_key(&SecretString::from("tb_1")).unwrap();
        for file in ["node", "secret.key", "api-key"] {
            assert_eq!(mode(&data.path().join(file)), 0o600, "{file}");
        }
        fs::write(data.path().join("secret.key"), "short").unwrap();
        assert!(data.secret_key().unwrap_err().to_string().contains("32 bytes"));
    }

    #[test]
    fn only_one_server_has_the_directory() {
        let dir = tempfile::TempDir::new().unwrap();
        let data = DataDir::create(dir.path()).unwrap();
        let lock = data.lock().unwrap();
        assert!(lock.is_some());
        assert!(data.lock().unwrap().is_none());
        assert!(data.is_served().unwrap());
        drop(lock);
        assert!(!data.is_served().unwrap());
    }
}
