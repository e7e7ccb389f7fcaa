//! Sending commits to a remote.

use secrecy::SecretString;
use url::Url;

use super::{Error, Repository, Token, name, scrub};

/// What to push.
#[derive(Debug, Clone, Default)]
pub struct Push {
    /// The name of a remote; `origin` if absent.
    pub remote: Option<String>,
    /// The current one if absent.
    pub branch: Option<String>,
    /// Overwrites what the remote has.
    pub force: bool,
    /// Lent for this push, to the remote's host. For https only, or for GitHub's own address.
    pub token: Option<SecretString>,
    /// The same, but for a remote at [`Options::github_url`](super::Options) only.
    pub github_token: Option<SecretString>,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    pub remote: String,
    pub branch: String,
    /// Commits that the remote did not have, as far as this repository knew.
    pub commits: u64,
    /// Where to. Without a login.
    pub url: Option<String>,
    pub is_up_to_date: bool,
}

impl Repository {
    /// Pushes a branch to the branch of the same name, which it follows from then on.
    ///
    /// # Errors
    /// `NotFound` for a branch or remote; `Conflict` where the remote does not take it; `AccessDenied`, `Unreachable`.
    pub async fn push(&self, push: Push) -> Result<Pushed, Error> {
        let remote = push.remote.as_deref().unwrap_or("origin");
        let remotes = self.remotes().await?;
        // One that is there is a name, and neither an option nor a URL.
        if !remotes.iter().any(|name| name == remote) {
            return Err(Error::NotFound(format!("there is no remote '{remote}'")));
        }
        let branch = match &push.branch {
            Some(branch) => name::branch("branch", branch)?.to_owned(),
            None => self.current_branch().await?.ok_or_else(|| {
                Error::conflict("no_branch", "A commit is checked out without a branch; name the branch to push")
            })?,
        };
        let full_name = format!("refs/heads/{branch}");
        if !self.has_ref(&full_name).await? {
            return Err(Error::NotFound(format!("there is no branch '{branch}' with a commit")));
        }
        let url = self.line(["remote", "get-url", "--push", "--", remote]).await?;
        let token = self.lent(url.as_deref(), push.token, push.github_token)?;
        let known = format!("--remotes={remote}");
        let count = self.line(["rev-list", "--count", &full_name, "--not", &known]).await?;
        let commits = count.and_then(|count| count.parse().ok()).unwrap_or(0);

        let mut args = vec!["push", "--porcelain", "--set-upstream"];
        args.extend(push.force.then_some("--force"));
        let refspec = format!("{full_name}:{full_name}");
        args.extend(["--", remote, &refspec]);
        let output = self.git.run(self.call(args).transfer(token.as_ref())).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // `flag TAB from:to TAB summary`
        let told = said.lines().find_map(|line| {
            let mut fields = line.splitn(3, '\t');
            let (flag, _, summary) = (fields.next()?, fields.next()?, fields.next()?);
            Some((flag.chars().next()?, summary))
        });
        match told {
            Some(('!', why)) => {
                let why = scrub::complaint(why.as_bytes(), token.as_ref());
                Err(Error::conflict("push_rejected", format!("The remote does not take '{branch}': {why}")))
            }
            Some((flag, _)) if output.code == 0 => {
                let is_up_to_date = flag == '=';
                let commits = if is_up_to_date { 0 } else { commits };
                let url = url.map(|url| scrub::without_logins(&url));
                Ok(Pushed { remote: remote.to_owned(), branch, commits, url, is_up_to_date })
            }
            _ => Err(Error::of_remote(output.complaint)),
        }
    }

    /// Decides what is lent to a command that reaches `url`, which the repository says and nobody vouches for.
    fn lent(
        &self,
        url: Option<&str>,
        token: Option<SecretString>,
        github_token: Option<SecretString>,
    ) -> Result<Option<Token>, Error> {
        let Some(url) = url.and_then(|url| Url::parse(url).ok()) else { return Ok(None) };
        let is_github = url.origin() == self.git.options.github_url.origin();
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_github);
        let token = match (token, github_token) {
            (Some(_), _) if !is_safe => return Err(Error::invalid("token", "is sent to an https remote only")),
            (Some(token), _) => Some(token),
            (None, github_token) => github_token.filter(|_| is_github),
        };
        token.map(|token| Token::new(&url, "x-access-token".to_owned(), token)).transpose()
    }
}
