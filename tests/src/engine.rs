//! What the container engine knows about an installation, asked through its command line as an operator would.

use std::{ffi::OsStr, fmt::Debug, process::Command};

/// A container, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container(pub String);

impl Container {
    /// Lists the command lines in it, without those of the daemon that runs them.
    pub fn commands(&self) -> Vec<String> {
        let Some(listed) = try_docker(&["top", &self.0, "-eo", "pid,comm,args"]) else { return Vec::new() };
        let processes = listed.lines().skip(1).filter(|line| {
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            // The daemon, its copies that supervise one command each, and the engine's init.
            !matches!(name, "guestd" | "exe" | "docker-init" | "tini")
        });
        processes.map(str::to_owned).collect()
    }

    /// Makes one that is nobody's.
    pub fn foreign() -> Self {
        Self(docker(&["create", "--network=none", PLANTED, "true"]).trim().to_owned())
    }

    /// Tells whether it is there, running or not.
    pub fn exists(&self) -> bool {
        try_docker(&["inspect", &self.0]).is_some()
    }

    /// Removes it as somebody would who does not ask.
    pub fn remove(&self) {
        docker(&["rm", "-f", &self.0]);
    }
}

/// An image that is there.
const PLANTED: &str = "atelier-workspace:latest";

/// An engine, and the installation on it that a test is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installation<'a> {
    pub(crate) name: &'a str,
    /// Where the engine listens; `None` is the machine's own.
    pub(crate) socket: Option<&'a str>,
}

impl Installation<'_> {
    /// Lists its containers, running or not.
    pub(crate) fn containers(&self) -> Vec<Container> {
        self.listed(&["ps", "-a", "-q", "--no-trunc"]).into_iter().map(Container).collect()
    }

    /// Makes one as if it were of this installation, for an environment that never was.
    pub(crate) fn plant(&self, is_running: bool) -> Container {
        let labels =
            [format!("--label=atelier.installation={}", self.name), "--label=atelier.environment=env_x".into()];
        let begin: &[&str] = if is_running { &["run", "--detach"] } else { &["create"] };
        let arguments = [begin, &["--network=none", &labels[0], &labels[1], PLANTED, "sleep", "1000"]].concat();
        Container(docker(&self.on_engine(&arguments)).trim().to_owned())
    }

    /// Lists its networks.
    pub(crate) fn networks(&self) -> Vec<String> {
        self.listed(&["network", "ls", "-q"])
    }

    /// Removes everything of it, for a test that failed.
    pub(crate) fn remove_all(&self) {
        for Container(id) in self.containers() {
            try_docker(&self.on_engine(&["rm", "-f", &id]));
        }
        for network in self.networks() {
            try_docker(&self.on_engine(&["network", "rm", &network]));
        }
    }

    fn listed(&self, arguments: &[&str]) -> Vec<String> {
        let filter = format!("label=atelier.installation={}", self.name);
        let output = docker(&self.on_engine(&[arguments, &["--filter", &filter]].concat()));
        output.split_whitespace().map(str::to_owned).collect()
    }

    fn on_engine(&self, arguments: &[&str]) -> Vec<String> {
        let host = self.socket.map(|socket| ["--host".to_owned(), format!("unix://{socket}")]);
        host.into_iter().flatten().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }
}

fn docker<S: AsRef<OsStr> + Debug>(arguments: &[S]) -> String {
    try_docker(arguments).unwrap_or_else(|| panic!("docker {arguments:?} fails"))
}

fn try_docker<S: AsRef<OsStr>>(arguments: &[S]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().expect("docker's command line is installed");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
