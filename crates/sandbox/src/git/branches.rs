//! Branches: listed, made, switched to.

use super::{Error, Repository, name};

/// The branches of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branches {
    /// May have no commit yet, and is then among no list. `None` where a commit was checked out without a branch.
    pub current: Option<String>,
    pub local: Vec<String>,
    /// With the remote's name: `origin/main`.
    pub remote: Vec<String>,
}

impl Repository {
    pub async fn branches(&self) -> Result<Branches, Error> {
        let args = ["for-each-ref", "--format=%(refname)%00%(symref)", "refs/heads", "refs/remotes"];
        let output = self.ask(args).await?;
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (name, symref) = line.split_once('\0').unwrap_or((line, ""));
            if let Some(name) = name.strip_prefix("refs/heads/") {
                local.push(name.to_owned());
            } else if let Some(name) = name.strip_prefix("refs/remotes/").filter(|_| symref.is_empty()) {
                // `origin/HEAD` is another name for one of the others.
                remote.push(name.to_owned());
            }
        }
        Ok(Branches { current: self.current_branch().await?, local, remote })
    }

    /// Makes a branch at the current commit, without switching to it.
    ///
    /// # Errors
    /// `Conflict` when there is one of that name, or no commit yet.
    pub async fn create_branch(&self, branch: &str) -> Result<(), Error> {
        name::branch("name", branch)?;
        if self.head().await?.is_none() {
            return Err(Error::conflict("no_commit", "There is no commit yet that a branch could begin at"));
        }
        let output = self.git.run(self.call(["branch", "--no-track", branch])).await?;
        if output.code != 0
            && (output.complaint.contains("already exists") || output.complaint.contains("; cannot create"))
        {
            return Err(Error::conflict("branch_exists", format!("There is a branch in the way of '{branch}'")));
        }
        output.well().map(drop)
    }

    /// Switches to a branch; to one that only a remote has by making one that follows it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when files that are not committed would be lost.
    pub async fn switch(&self, branch: &str) -> Result<(), Error> {
        name::branch("name", branch)?;
        let output = self.git.run(self.call(["switch", "--quiet", "--guess", branch])).await?;
        let complaint = &output.complaint;
        if output.code != 0 {
            if complaint.contains("invalid reference") || complaint.contains("a branch is expected") {
                return Err(Error::NotFound(format!("there is no branch '{branch}'")));
            }
            if complaint.contains("would be overwritten")
                || complaint.contains("needs merge")
                || complaint.contains("while")
            {
                return Err(Error::conflict("would_lose_changes", complaint.clone()));
            }
        }
        output.well().map(drop)
    }

    pub(super) async fn has_ref(&self, name: &str) -> Result<bool, Error> {
        let output = self.git.run(self.call(["show-ref", "--verify", "--quiet", name])).await?;
        Ok(output.code == 0)
    }
}
