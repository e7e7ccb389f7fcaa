//! `atelier backup` and `atelier restore`: everything of an installation in one file, and back.
//!
//! The file is a tar archive: a manifest, a dump of the database, the keys, the files of environments with their history. It
//! can be made while the server runs. The dump is one moment of the database; the files are read after it, so whatever a
//! row names is there, and files may be some moments newer than the rows. A file with all secrets is its owner's only.

mod archive;
mod postgres;

use std::{
    fs::{self, DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::postgres::Database;
use crate::{
    build,
    config::{Config, Flags, Loaded, absolute},
    data_dir::DataDir,
};

/// Goes up when an older version could no longer read what is written.
const FORMAT: u32 = 1;
const MANIFEST: &str = "atelier.json";
const DUMP: &str = "database.dump";
/// What of the data directory must stay. The rest is made anew: sockets, locks, logs, the private cluster. So is the name of the
/// server: two of one name on one engine would remove each other's containers.
const KEPT: [&str; 3] = ["api-key", "environments", "secret.key"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// The backup's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    version: String,
    made_at: DateTime<Utc>,
}

/// Writes a backup, whole or not at all.
pub(crate) async fn backup(loaded: Loaded, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let data_dir = existing(&loaded.config)?;
    let file = absolute(&arguments.file);
    if file.exists() {
        bail!("{} is there already", file.display());
    }
    let work = Work::beside(&file)?;
    let database = Database::beside(&loaded.config, &data_dir).await?;
    let dumped = database.dump(&work.0.join(DUMP)).await;
    database.close().await?;
    dumped?;
    let manifest = Manifest { format: FORMAT, version: build::VERSION.to_string(), made_at: Utc::now() };
    fs::write(work.0.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
    let kept: Vec<_> = KEPT.into_iter().filter(|name| data_dir.path().join(name).exists()).collect();
    let made = work.0.join("backup.tar");
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&made)?;
    archive::write(&made, &[(&work.0, &[MANIFEST, DUMP]), (data_dir.path(), &kept)]).await?;
    let bytes = fs::metadata(&made)?.len();
    fs::rename(&made, &file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {} ({bytes} bytes); it holds every secret of the installation", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Fills an empty data directory, and an empty database, from a backup.
pub(crate) async fn restore(loaded: Loaded, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = absolute(&arguments.file);
    let manifest = archive::read_entry(&file, MANIFEST).await?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).with_context(|| format!("{} is no backup of Atelier", file.display()))?;
    if manifest.format > FORMAT {
        bail!("the backup is of a newer version ({}): restore it with that one", manifest.version);
    }
    let data_dir = DataDir::create(&loaded.config.server.data_dir)?;
    let Some(_lock) = data_dir.lock()? else { bail!("a server runs on {}: stop it first", data_dir.path().display()) };
    let taken = KEPT.into_iter().chain(["postgres"]).find(|name| data_dir.path().join(name).exists());
    if let Some(taken) = taken {
        bail!("{} is not empty ({taken} is there): restore into another data directory", data_dir.path().display());
    }
    let work = Work::beside(&data_dir.path().join("restore"))?;
    archive::extract(&file, &work.0).await?;
    let database = Database::beside(&loaded.config, &data_dir).await?;
    let restored = database.fill(&work.0.join(DUMP)).await;
    database.close().await?;
    if let Err(err) = restored {
        // Nothing of a cluster that is half filled is to be taken for an installation.
        let _ = fs::remove_dir_all(data_dir.path().join("postgres"));
        return Err(err);
    }
    for name in KEPT {
        let (from, to) = (work.0.join(name), data_dir.path().join(name));
        if from.exists() {
            fs::rename(&from, &to).with_context(|| format!("cannot put {} into its place", to.display()))?;
        }
    }
    println!("restored what version {} wrote at {}", manifest.version, manifest.made_at.format("%F %T UTC"));
    Ok(ExitCode::SUCCESS)
}

fn existing(config: &Config) -> anyhow::Result<DataDir> {
    let found = DataDir::find(&config.server.data_dir);
    let is_there = |found: &DataDir| config.database.url.is_some() || store::postgres::exists(found.path());
    match found.filter(is_there) {
        Some(data_dir) => Ok(data_dir),
        None => {
            bail!("there is no data at {}: no server has run there yet", absolute(&config.server.data_dir).display())
        }
    }
}

/// A directory for what is not finished yet, on the disk of what it becomes; removed when dropped.
struct Work(PathBuf);

impl Work {
    fn beside(file: &Path) -> anyhow::Result<Self> {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
        let path = PathBuf::from(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
