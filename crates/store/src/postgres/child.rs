//! The command lines of Postgres, run under the right user and told its directory as an open file.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{
    Installation,
    directory::{Directory, close_to_others},
};
use crate::{Error, Result};

pub(super) const SUPERUSER: &str = "atelier";
/// Part of the socket's name; nothing listens on a port.
pub(super) const PORT: u16 = 5432;

/// The cluster's directory as the child sees it.
const INSIDE: &str = "/proc/self/fd/9";

/// Gives the directory (standard input of this shell) a number that survives, as Postgres closes and reopens the first
/// three, and becomes the command.
const WITH_DIRECTORY: &str = r#"exec 9<&0 </dev/null; exec "$@""#;

/// On the command line, so that no edited file can open it to the network.
pub(super) const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "unix_socket_directories=/proc/self/fd/9",
    "unix_socket_permissions=0700",
    "port=5432",
    "max_connections=100",
    "shared_buffers=64MB",
    "min_wal_size=32MB",
    "max_wal_size=256MB",
    // No replica ever reads this log.
    "wal_level=minimal",
    "max_wal_senders=0",
    "fsync=on",
    "synchronous_commit=on",
    // Plans here are short; compiling them costs more than running them.
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_checkpoints=off",
    "log_min_messages=warning",
    "cluster_name=atelier",
];

/// Makes the cluster, whole or not at all.
pub(super) fn make_cluster(directory: &Directory, installation: &Installation) -> Result<()> {
    // Under another name until it is whole: `initdb` writes PG_VERSION before it is done.
    let new = directory.create_for_child("data.new")?;
    let mut command = command(directory, &new, &installation.bin.join("initdb"))?;
    command.args(["-D", INSIDE, "--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"]);
    command.args(["--locale", "C.UTF-8", "--data-checksums", "--no-instructions"]);
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|err| Error::Setup(format!("cannot run initdb: {err}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Setup(format!("initdb failed ({}): {}", output.status, said.trim())));
    }
    fs::rename(&new, directory.data())
        .and_then(|()| File::open(&directory.root)?.sync_all())
        .map_err(|err| Error::Setup(format!("cannot put {} in place: {err}", directory.data().display())))
}

/// Starts the postmaster. It gets SIGINT (stop, fast) from the kernel when the calling **thread** ends.
pub(super) fn spawn(directory: &Directory, installation: &Installation) -> Result<Child> {
    let data = directory.data();
    close_to_others(&data)?;
    let log = directory.log()?;
    let errors = log.try_clone().map_err(|err| Error::Setup(format!("cannot open the log twice: {err}")))?;
    let mut command = command(directory, &data, &installation.bin.join("postgres"))?;
    command.args(["-D", INSIDE]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.stdout(log).stderr(errors).spawn().map_err(|err| Error::Setup(format!("cannot run Postgres: {err}")))
}

fn command(directory: &Directory, data: &Path, program: &Path) -> Result<Command> {
    let stdin = File::open(data).map_err(|err| Error::Setup(format!("cannot open {}: {err}", data.display())))?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", WITH_DIRECTORY, "sh", "setpriv", "--pdeathsig", "INT"]);
    if let Some((uid, gid)) = directory.user {
        command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
    }
    command.arg("--").arg(program).stdin(stdin).current_dir("/");
    // A signal typed at our terminal is for us alone: Postgres goes last.
    command.process_group(0);
    // Our environment holds the model's key.
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    Ok(command)
}
