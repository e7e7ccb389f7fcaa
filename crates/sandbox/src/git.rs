//! Git for the repositories of an environment: what `/environments/{id}/git` and a run's repository are made of.
//!
//! A workspace holds what a stranger may have written, and git runs what a repository tells it to: hooks, filters, a
//! file system monitor, an editor. So git never runs on this host over a workspace. It runs in the environment's own
//! container, which may run anything anyway, and this host reads what it says, in the formats made for machines.
//!
//! A token is lent to one command: it is in the environment of that git and of what git starts, bound to the one host it
//! is for, and never in an argument, a configuration or a message. While a command holds one, the repository's hooks are
//! not run, and no other helper is asked. Whatever else runs in the container at that moment has the same user and could
//! look: who does not trust an agent with a token should not lend it to that agent's computer.

mod branches;
mod changes;
mod clone;
mod command;
mod diff;
mod error;
mod history;
mod name;
mod prepare;
mod push;
mod remote;
mod scrub;
mod staging;
mod status;

use std::{sync::Arc, time::Duration};

use domain::WorkspacePath;
use url::Url;

use crate::{Sandbox, container::WORKSPACE};
use command::{Call, Output};

pub use branches::Branches;
pub use changes::{Change, ChangeKind};
pub use clone::Cloned;
pub use diff::{Diff, FileDiff};
pub use error::Error;
pub use history::Commit;
pub use name::branch as check_branch;
pub use prepare::Prepared;
pub use push::{Push, Pushed};
pub use remote::{Remote, Token};
pub use staging::What;
pub use status::Status;

/// How git is used: the operator's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who commits where neither the request nor the repository says so.
    pub author: Author,
    /// Where GitHub's repositories are: `{github_url}/{owner}/{name}.git`.
    pub github_url: Url,
    /// Lets clients name remotes on private hosts. What a container can reach is the network's matter, not this.
    pub allow_private_hosts: bool,
    /// For what needs no other machine.
    pub timeout: Duration,
    /// For what does: clone, fetch, push.
    pub transfer_timeout: Duration,
    /// The most that is read of one command's output.
    pub max_output_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            author: Author { name: "Atelier".to_owned(), email: "agent@atelier.invalid".to_owned() },
            github_url: Url::parse("https://github.com").expect("a constant that is a URL"),
            allow_private_hosts: false,
            timeout: Duration::from_secs(60),
            transfer_timeout: Duration::from_secs(10 * 60),
            max_output_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Whom a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// Git in the container of one environment.
#[derive(Debug, Clone)]
pub struct Git {
    sandbox: Sandbox,
    options: Arc<Options>,
    /// Variables of the environment, for its proxies and the like.
    env: Vec<(String, String)>,
}

impl Git {
    pub fn new(sandbox: Sandbox, options: Arc<Options>, env: Vec<(String, String)>) -> Self {
        Self { sandbox, options, env }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Opens the repository in which the directory `path` lies.
    ///
    /// # Errors
    /// `NoSuchDirectory`, `NotARepository`.
    pub async fn repository(&self, path: &WorkspacePath) -> Result<Repository, Error> {
        let cwd = absolute(path);
        let output = self.run(Call::new(&cwd, ["rev-parse", "--show-toplevel"])).await?;
        let root = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        if output.code != 0 || root.is_empty() {
            return Err(Error::NotARepository(shown(path)));
        }
        Ok(Repository { git: self.clone(), root })
    }

    async fn run(&self, call: Call) -> Result<Output, Error> {
        command::run(&self.sandbox, &self.options, &self.env, call).await
    }
}

/// A repository with files, in the container of one environment. Paths of its files are relative to its root.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Git,
    /// Absolute, inside the container.
    root: String,
}

impl Repository {
    /// Gives where it is, relative to the workspace; empty for the workspace itself.
    pub fn path(&self) -> &str {
        match self.root.strip_prefix(WORKSPACE) {
            Some(below) if below.is_empty() || below.starts_with('/') => below.trim_start_matches('/'),
            _ => &self.root,
        }
    }

    fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        Call::new(&self.root, args)
    }

    /// Runs git and takes any failure for one that only git can explain.
    async fn ask<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Output, Error> {
        self.git.run(self.call(args)).await?.well()
    }

    /// Gives the one line that git says, or `None` if it fails.
    async fn line<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Option<String>, Error> {
        let output = self.git.run(self.call(args)).await?;
        let line = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        Ok((output.code == 0 && !line.is_empty()).then_some(line))
    }

    /// Gives the current commit; `None` before the first.
    pub async fn head(&self) -> Result<Option<String>, Error> {
        self.line(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await
    }

    /// Gives the current branch, which may have no commit yet; `None` where there is none.
    pub async fn current_branch(&self) -> Result<Option<String>, Error> {
        self.line(["symbolic-ref", "--quiet", "--short", "HEAD"]).await
    }
}

/// Gives where a path of the workspace is inside the container.
fn absolute(path: &WorkspacePath) -> String {
    if path.is_root() { WORKSPACE.to_owned() } else { format!("{WORKSPACE}/{path}") }
}

fn shown(path: &WorkspacePath) -> String {
    if path.is_root() { WORKSPACE.to_owned() } else { path.to_string() }
}
