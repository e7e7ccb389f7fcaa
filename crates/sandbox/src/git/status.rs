//! How a repository stands.

use super::{Change, Error, Repository, changes, scrub};

/// A listing ends here and says so.
const MAX_FILES: usize = 10_000;

/// How a repository stands. Paths are relative to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The current branch, which may have no commit yet.
    pub branch: Option<String>,
    pub remote_url: Option<String>,
    /// What the next commit would hold.
    pub staged: Vec<Change>,
    /// What it would not: changed since it was staged, or never staged.
    pub unstaged: Vec<Change>,
    /// Each file once.
    pub changed: Vec<Change>,
    pub has_unpushed_commits: bool,
    /// There is more than the lists hold.
    pub is_truncated: bool,
}

impl Repository {
    pub async fn status(&self) -> Result<Status, Error> {
        let status = ["status", "--porcelain=v2", "-z", "--branch", "--untracked-files=all"];
        let output = self.git.run(self.call(status).reading()).await?.well()?;
        let (header, entries) = changes::parse(&output.stdout);
        let mut is_truncated = output.is_cut;
        let (mut staged, mut unstaged, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            if changed.len() == MAX_FILES {
                is_truncated = true;
                break;
            }
            changed.extend(entry.staged.clone().or_else(|| entry.unstaged.clone()));
            staged.extend(entry.staged);
            unstaged.extend(entry.unstaged);
        }
        let remotes = self.remotes().await?;
        let remote = remotes.iter().find(|remote| *remote == "origin").or(remotes.first());
        let remote_url = match remote {
            Some(remote) => self.line(["remote", "get-url", "--", remote]).await?,
            None => None,
        };
        let has_unpushed_commits = match header.upstream {
            true => header.ahead > 0,
            // Nowhere to push to is nothing to push.
            false if remote.is_none() => false,
            false => {
                let unpushed = ["rev-list", "--max-count=1", "HEAD", "--not", "--remotes"];
                self.line(unpushed).await?.is_some()
            }
        };
        Ok(Status {
            branch: self.current_branch().await?,
            remote_url: remote_url.map(|url| scrub::without_logins(&url)),
            staged,
            unstaged,
            changed,
            has_unpushed_commits,
            is_truncated,
        })
    }

    /// Lists the names of the remotes.
    pub(super) async fn remotes(&self) -> Result<Vec<String>, Error> {
        let output = self.ask(["remote"]).await?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }
}
