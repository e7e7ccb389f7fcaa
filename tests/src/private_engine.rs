//! A container engine of a test's own, which can be restarted without anybody else's noticing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use tempfile::TempDir;

use crate::eventually;

/// Small, and there wherever the workspace image is: that one is made from it.
const IMAGE: &str = "debian:bookworm-slim";
const START_LIMIT: Duration = Duration::from_secs(90);

/// A running engine without networks, with one image and files of its own. Containers end with it (no live-restore).
pub struct PrivateEngine {
    process: Child,
    socket: String,
    directory: TempDir,
}

impl PrivateEngine {
    /// The image that it has.
    pub const IMAGE: &'static str = IMAGE;

    /// Starts one; `None` where that is not allowed, since only root may.
    pub async fn start() -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        let directory = tempfile::Builder::new().prefix("engine-").tempdir().expect("a temporary directory");
        // The machine's own engine may have settings that would hold for this one too.
        fs::write(directory.path().join("daemon.json"), "{}").expect("the file is written");
        let process = spawn(directory.path());
        let socket = directory.path().join("docker.sock").to_str().expect("UTF-8").to_owned();
        let engine = Self { process, socket, directory };
        engine.until_it_answers().await;
        let load = format!("docker save {IMAGE} | docker --host unix://{} load", engine.socket);
        let loaded = Command::new("sh").args(["-c", &load]).output().expect("sh runs");
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        Some(engine)
    }

    /// Gives where it listens.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Stops it, which ends its containers, and starts it again on the same files.
    pub async fn restart(&mut self) {
        self.end();
        self.process = spawn(self.directory.path());
        self.until_it_answers().await;
    }

    async fn until_it_answers(&self) {
        let host = format!("unix://{}", self.socket);
        eventually("the engine answers", START_LIMIT, async || {
            let asked = Command::new("docker").args(["--host", &host, "version"]).output();
            asked.is_ok_and(|answer| answer.status.success())
        })
        .await;
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(directory: &Path) -> Child {
    let path = |name: &str| -> PathBuf { directory.join(name) };
    let log = File::options().create(true).append(true).open(path("log")).expect("the log opens");
    let mut command = Command::new("dockerd");
    command.arg("--config-file").arg(path("daemon.json"));
    command.arg("--data-root").arg(path("root")).arg("--exec-root").arg(path("exec")).arg("--pidfile").arg(path("pid"));
    command.arg("--host").arg(format!("unix://{}", path("docker.sock").display()));
    // No network at all: what it set up would be the whole machine's.
    command.args([
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--log-level=warn",
        "--shutdown-timeout=5",
    ]);
    let output = log.try_clone().expect("the log opens");
    command.stdin(Stdio::null()).stdout(output).stderr(log).spawn().expect("dockerd is installed")
}
