//! The archive, by the system's `tar`: it keeps owners, modes, links and holes of what agents make.

use std::{path::Path, process::Stdio};

use anyhow::{Context, bail};
use tokio::process::Command;

/// How often files are read again that went away while they were read.
const ATTEMPTS: u32 = 5;

/// Writes an archive of names below directories.
pub(super) async fn write(archive: &Path, parts: &[(&Path, &[&str])]) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        let mut tar = tar();
        tar.args(["--create", "--sparse", "--ignore-failed-read", "--file"]).arg(archive);
        // Containers' sockets are made anew.
        tar.args(["--exclude=environments/*/run", "--exclude=environments/*/run-*"]);
        for (directory, names) in parts {
            tar.arg("--directory").arg(directory).args(*names);
        }
        let output = tar.output().await.context("cannot run tar")?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => return Ok(()),
            // Somebody works in an environment. Its history is written in whole files: one that went away was put
            // together with others, and what it has become may have been missed.
            Some(1) if said.lines().any(|line| line.contains("/history/") && line.contains("removed")) => {}
            Some(1) => return Ok(()),
            _ => bail!("tar cannot write {}: {}", archive.display(), said.trim()),
        }
    }
    bail!("the history of files kept changing while it was read: stop the server and try again")
}

/// Unpacks an archive that [`write()`] has made.
pub(super) async fn extract(archive: &Path, into: &Path) -> anyhow::Result<()> {
    let mut tar = tar();
    tar.args(["--extract", "--sparse", "--preserve-permissions", "--file"]).arg(archive).arg("--directory").arg(into);
    let output = tar.output().await.context("cannot run tar")?;
    if !output.status.success() {
        bail!("tar cannot unpack {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Gives the content of one file of an archive, which is its first.
pub(super) async fn read_entry(archive: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar();
    tar.args(["--extract", "--to-stdout", "--occurrence=1", "--file"]).arg(archive).arg(name);
    let output = tar.output().await.context("cannot run tar")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} is no backup of Atelier: {}", archive.display(), said.trim());
    }
    Ok(output.stdout)
}

fn tar() -> Command {
    let mut tar = Command::new("tar");
    // What it says is read, and is not to be in the operator's language.
    tar.env("LC_ALL", "C").arg("--numeric-owner").stdin(Stdio::null()).kill_on_drop(true);
    tar
}
