//! Staging, unstaging, committing.

use super::{Author, Error, Repository};

/// The longest message of a commit.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_FILES: usize = 10_000;

/// Which files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    All,
    /// Files or directories, relative to the repository's root. Names, not patterns.
    Files(Vec<String>),
}

impl What {
    fn check(&self) -> Result<(), Error> {
        let Self::Files(files) = self else { return Ok(()) };
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(Error::invalid("files", format!("must have 1 to {MAX_FILES} items")));
        }
        match files.iter().find(|file| file.is_empty() || file.contains('\0') || file.len() > 4096) {
            Some(file) => Err(Error::invalid("files", format!("{file:?} is not the path of a file"))),
            None => Ok(()),
        }
    }

    fn holds(&self, path: &str) -> bool {
        let Self::Files(files) = self else { return true };
        files.iter().any(|file| {
            let file = file.trim_start_matches("./").trim_end_matches('/');
            let below = path.strip_prefix(file);
            file == "." || below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }
}

impl Repository {
    /// Puts files as they are now, or their absence, into the next commit. Gives those of them that differ from the last.
    ///
    /// # Errors
    /// `NotFound` for a file that neither is nor was there; then nothing is staged.
    pub async fn stage(&self, what: &What) -> Result<Vec<String>, Error> {
        self.change_index(&["add", "--all"], what).await?;
        Ok(self.staged().await?.into_iter().filter(|path| what.holds(path)).collect())
    }

    /// Takes files out of the next commit; they stay as they are. Gives those that were in it.
    ///
    /// # Errors
    /// `NotFound` for a file that neither is nor was there.
    pub async fn unstage(&self, what: &What) -> Result<Vec<String>, Error> {
        let before = self.staged().await?;
        self.change_index(&["reset", "--quiet"], what).await?;
        let after = self.staged().await?;
        Ok(before.into_iter().filter(|path| !after.contains(path)).collect())
    }

    async fn change_index(&self, args: &[&str], what: &What) -> Result<(), Error> {
        what.check()?;
        let call = match what {
            What::All => self.call(args.iter().copied()),
            What::Files(files) => {
                let named = ["--pathspec-from-file=-", "--pathspec-file-nul"];
                self.call(args.iter().copied().chain(named)).files(files)
            }
        };
        let output = self.git.run(call).await?;
        match output.code {
            0 => Ok(()),
            _ if output.complaint.contains("did not match any file") => Err(Error::NotFound(output.complaint)),
            _ if output.complaint.contains("is outside repository") => Err(Error::invalid("files", output.complaint)),
            _ => output.well().map(drop),
        }
    }

    /// Lists the files that the next commit would change.
    async fn staged(&self) -> Result<Vec<String>, Error> {
        let output = self.ask(["diff", "--cached", "--name-only", "--no-renames", "-z"]).await?;
        Ok(output
            .stdout
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect())
    }

    /// Commits what is staged and gives the commit's hash.
    ///
    /// `author` is who it is by; else who the repository's settings name; else [`Options::author`](super::Options). The
    /// repository's hooks are run, and may refuse.
    ///
    /// # Errors
    /// `Conflict` when nothing is staged or files are in conflict.
    pub async fn commit(&self, message: &str, author: Option<&Author>) -> Result<String, Error> {
        if message.trim().is_empty() {
            return Err(Error::invalid("message", "must not be empty"));
        }
        if message.len() > MAX_MESSAGE_BYTES || message.contains('\0') {
            return Err(Error::invalid("message", format!("must have at most {MAX_MESSAGE_BYTES} bytes and no NUL")));
        }
        let mut call = self.call(["commit", "--quiet", "--file=-", "--cleanup=whitespace"]).input(message);
        let fallback = &self.git.options.author;
        for (setting, variable, fallback, given) in [
            ("user.name", "NAME", &fallback.name, author.map(|author| &author.name)),
            ("user.email", "EMAIL", &fallback.email, author.map(|author| &author.email)),
        ] {
            let set = match given {
                Some(given) if given.trim().is_empty() || given.contains(['<', '>', '\n', '\0']) => {
                    return Err(Error::invalid(
                        "author",
                        "must have a name and an email without '<', '>' and new lines",
                    ));
                }
                Some(given) => Some(given),
                None => None,
            };
            if let Some(set) = set {
                call = call.env(&format!("GIT_AUTHOR_{variable}"), set);
            }
            if self.line(["config", "--get", setting]).await?.is_none() {
                call = call.env(&format!("GIT_COMMITTER_{variable}"), fallback);
                if set.is_none() {
                    call = call.env(&format!("GIT_AUTHOR_{variable}"), fallback);
                }
            }
        }
        let output = self.git.run(call).await?;
        if output.code != 0 {
            let nothing = self.git.run(self.call(["diff", "--cached", "--quiet"]).reading()).await?;
            if nothing.code == 0 {
                return Err(Error::conflict("nothing_to_commit", "Nothing is staged, so there is nothing to commit"));
            }
            if output.complaint.contains("unmerged files") {
                return Err(Error::conflict("merge_conflict", output.complaint));
            }
        }
        output.well()?;
        let hash = self.head().await?;
        hash.ok_or_else(|| Error::Failed("the commit cannot be found".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_what_is_below_it_and_not_beside_it() {
        let what = What::Files(vec!["src/".into(), "./a".into()]);
        for (path, held) in [("src/x", true), ("src", true), ("src2/x", false), ("a", true), ("ab", false)] {
            assert_eq!(what.holds(path), held, "{path}");
        }
        assert!(What::Files(vec![".".into()]).holds("x/y"));
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for files in [vec![], vec![String::new()], vec!["a\0b".into()], vec!["x".repeat(5000)]] {
            assert!(What::Files(files).check().is_err());
        }
    }
}
