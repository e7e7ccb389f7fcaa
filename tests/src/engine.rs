//! What the container engine knows about an installation, asked through its command line as an operator would.

use std::process::Command;

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

    /// Removes it as somebody would who does not ask.
    pub fn remove(&self) {
        docker(&["rm", "-f", &self.0]);
    }
}

/// Lists the containers of an installation, running or not.
pub(crate) fn containers(installation: &str) -> Vec<Container> {
    listed(&["ps", "-a", "-q", "--no-trunc"], installation).into_iter().map(Container).collect()
}

/// Lists the networks of an installation.
pub(crate) fn networks(installation: &str) -> Vec<String> {
    listed(&["network", "ls", "-q"], installation)
}

/// Removes everything of an installation, for a test that failed.
pub(crate) fn remove_all(installation: &str) {
    for Container(id) in containers(installation) {
        try_docker(&["rm", "-f", &id]);
    }
    for network in networks(installation) {
        try_docker(&["network", "rm", &network]);
    }
}

fn listed(arguments: &[&str], installation: &str) -> Vec<String> {
    let filter = format!("label=atelier.installation={installation}");
    let output = docker(&[arguments, &["--filter", &filter]].concat());
    output.split_whitespace().map(str::to_owned).collect()
}

fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap_or_else(|| panic!("docker {arguments:?} fails"))
}

fn try_docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().expect("docker's command line is installed");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
