//! Having a repository in the workspace, whether it is there already or not.

use domain::WorkspacePath;

use super::{Error, Git, Remote, Repository, name, shown};

/// A repository that is there, as fresh as the remote lets it be.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub repository: Repository,
    pub branch: Option<String>,
    /// It was cloned just now.
    pub is_new: bool,
    /// Its branch has commits or changes of its own, so what the remote has was fetched but not taken over.
    pub has_diverged: bool,
}

impl Git {
    /// Clones `remote` into `target`; one that is there from before is fetched, and its branch taken forward where that
    /// loses nothing. Doing it twice is doing it once.
    ///
    /// # Errors
    /// `Conflict` where something else is at `target` or the branch cannot be switched to; and as of
    /// [`clone_to`](Self::clone_to).
    pub async fn prepare(
        &self,
        remote: &Remote,
        target: &WorkspacePath,
        branch: Option<&str>,
    ) -> Result<Prepared, Error> {
        if let Some(branch) = branch {
            name::branch("branch", branch)?;
        }
        let found = match self.repository(target).await {
            // One above it is another one.
            Ok(found) if found.path() == target.as_str() => Some(found),
            Ok(_) | Err(Error::NotARepository(_) | Error::NoSuchDirectory(_)) => None,
            Err(err) => return Err(err),
        };
        match found {
            None => {
                let cloned = self.clone_to(remote, target, branch).await?;
                Ok(Prepared { repository: cloned.repository, branch: cloned.branch, is_new: true, has_diverged: false })
            }
            Some(repository) => repository.refresh(remote, target, branch).await,
        }
    }
}

impl Repository {
    async fn refresh(self, remote: &Remote, target: &WorkspacePath, branch: Option<&str>) -> Result<Prepared, Error> {
        let same = |url: &str| url.trim_end_matches('/').trim_end_matches(".git").to_ascii_lowercase();
        let origin = self.line(["config", "--get", "remote.origin.url"]).await?;
        if origin.as_deref().map(same) != Some(same(&remote.url)) {
            let message = format!("'{}' is there already and holds something else", shown(target));
            return Err(Error::conflict("target_exists", message));
        }
        let fetched = self.git.run(self.call(["fetch", "--quiet", "origin"]).transfer(remote.token.as_ref())).await?;
        if fetched.code != 0 {
            return Err(Error::of_remote(fetched.complaint));
        }
        let current = self.current_branch().await?;
        if let Some(branch) = branch.filter(|branch| current.as_deref() != Some(*branch)) {
            self.switch(branch).await?;
        }
        let branch = self.current_branch().await?;
        let mut has_diverged = false;
        if let Some(branch) = &branch {
            let theirs = format!("refs/remotes/origin/{branch}");
            if self.has_ref(&theirs).await? {
                let merged = self.git.run(self.call(["merge", "--quiet", "--ff-only", &theirs])).await?;
                has_diverged = merged.code != 0;
            }
        }
        Ok(Prepared { repository: self, branch, is_new: false, has_diverged })
    }
}
