//! The repository of a message: in the workspace before the model is asked.
//!
//! Done twice it is done once, so a run that is taken up again before its first reply simply does it again.

use std::sync::Arc;

use domain::{
    WorkspacePath,
    environment::Environment,
    event::LogLevel,
    repository::{GithubRepository, TOKEN_VARIABLES},
};
use sandbox::git::{self, Git, Prepared, Remote};
use secrecy::SecretString;

use crate::{computer::Computer, drive::Driver, error::End};

impl Driver<'_> {
    /// Clones or fetches the run's repository, if it has one. A failure is the run's.
    pub(crate) async fn prepare_repository(
        &mut self,
        environment: &Environment,
        computer: &Computer,
    ) -> Result<(), End> {
        let Some(repository) = &self.run.options.github_repository else { return Ok(()) };
        let full_name = &repository.full_name;
        let token = TOKEN_VARIABLES.into_iter().find_map(|name| computer.variable(name)).map(SecretString::from);
        let options = Arc::clone(&self.parts.options.git);
        let work = async {
            let remote = Remote::github(full_name, token, &options)?;
            let target = directory(&remote.name)?;
            let git =
                Git::new(computer.sandbox().await?, Arc::clone(&options), environment.settings.variables().collect());
            git.prepare(&remote, &target, repository.branch.as_deref()).await
        };
        match self.signal.or(work).await? {
            Ok(prepared) => self.log(LogLevel::Info, "repository", account(full_name, &prepared)).await,
            Err(err) => {
                let message = format!("The repository {full_name} cannot be made ready: {err}.");
                Err(End::caused("repository_unavailable", message)(err))
            }
        }
    }
}

fn directory(name: &str) -> Result<WorkspacePath, git::Error> {
    WorkspacePath::parse(name).map_err(|err| git::Error::Invalid { field: "repoFullName", why: err.to_string() })
}

fn account(full_name: &str, prepared: &Prepared) -> String {
    let done = match (prepared.is_new, prepared.has_diverged) {
        (true, _) => "was cloned into",
        (false, false) => "is up to date in",
        (false, true) => "was fetched, but its branch has work of its own and was left as it is in",
    };
    let branch = prepared.branch.as_deref().map(|branch| format!(", on branch {branch}")).unwrap_or_default();
    format!("The repository {full_name} {done} /workspace/{}{branch}.", prepared.repository.path())
}

/// What the model is told about the repository of a message.
pub(crate) fn instruction(repository: &GithubRepository) -> String {
    let GithubRepository { full_name, branch, branch_prefix, wants_pull_request, may_force_push } = repository;
    let name = full_name.rsplit('/').next().unwrap_or(full_name).trim_end_matches(".git");
    let mut text = format!("The GitHub repository {full_name} is checked out in /workspace/{name}");
    if let Some(branch) = branch {
        text.push_str(&format!(", on branch {branch}"));
    }
    text.push_str(". The user's message is about it.");
    if let Some(prefix) = branch_prefix {
        text.push_str(&format!(" Begin the names of branches you make with {prefix:?}."));
    }
    if *wants_pull_request {
        text.push_str(" When you are done, push your commits to a branch of its own and open a pull request for it.");
    }
    text.push_str(match may_force_push {
        true => " You may overwrite commits of the remote with a forced push.",
        false => " Never overwrite commits of the remote.",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_told_what_the_owner_wants() {
        let repository = GithubRepository {
            full_name: "a/b".into(),
            branch: Some("dev".into()),
            branch_prefix: Some("agent/".into()),
            wants_pull_request: true,
            may_force_push: false,
        };
        let told = instruction(&repository);
        for part in
            ["a/b is checked out in /workspace/b, on branch dev", "\"agent/\"", "pull request", "Never overwrite"]
        {
            assert!(told.contains(part), "{told}");
        }
    }
}
