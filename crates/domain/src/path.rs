//! Paths inside a workspace, as clients name them.
//!
//! This is the lexical half of the guard: what can be refused by looking at the string is refused here, with a sentence
//! for the client. The half that needs a file system (symlinks, races) is `sandbox::workspace`, which opens every
//! component beneath the workspace and never follows a link out of it.

use std::fmt;

/// The longest path taken from a client, in bytes.
pub const MAX_LEN: usize = 1024;

/// Why a path was refused. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("a path has at most {MAX_LEN} bytes")]
    TooLong,
    #[error("a path must not contain '..'")]
    ParentDir,
    #[error("a path must not contain a NUL byte")]
    Nul,
    #[error("a path component has at most 255 bytes")]
    ComponentTooLong,
}

/// A normalised path relative to the workspace root: no leading slash, no `.`, no `..`, no empty component.
///
/// The root itself is the empty path. A leading `/` and a leading `/workspace/` name the root too, since that is where
/// the workspace is mounted and what agents call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// Parses what a client sent (already percent-decoded).
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        if path.len() > MAX_LEN {
            return Err(InvalidPath::TooLong);
        }
        if path.contains('\0') {
            return Err(InvalidPath::Nul);
        }
        let relative = path.strip_prefix("/workspace").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut parts = Vec::new();
        for part in relative.unwrap_or(path).split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(InvalidPath::ParentDir),
                part if part.len() > 255 => return Err(InvalidPath::ComponentTooLong),
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join("/")))
    }

    /// Gives the path relative to the root, `""` for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether this is the workspace root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the last component, `None` for the root.
    pub fn file_name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// Gives the directory above, the root for a top-level entry.
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default())
    }

    /// Appends what a client sent as a path below this one.
    pub fn join(&self, below: &str) -> Result<Self, InvalidPath> {
        Self::parse(&format!("/{}/{below}", self.0))
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_to_the_workspace_root() {
        for (given, normal) in [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("/workspace", ""),
            ("/workspace/a", "a"),
            ("/workspace-evil/a", "workspace-evil/a"),
            ("src/app.py", "src/app.py"),
            ("/src//./app.py/", "src/app.py"),
            ("workspace/a", "workspace/a"),
            ("...", "..."),
            ("a\\..\\b", "a\\..\\b"),
        ] {
            assert_eq!(WorkspacePath::parse(given).map(|path| path.0), Ok(normal.to_owned()), "{given:?}");
        }
    }

    #[test]
    fn a_path_that_could_leave_the_workspace_is_refused() {
        for (given, why) in [
            ("..", InvalidPath::ParentDir),
            ("a/../b", InvalidPath::ParentDir),
            ("/workspace/..", InvalidPath::ParentDir),
            ("a\0b", InvalidPath::Nul),
            (&"x".repeat(256), InvalidPath::ComponentTooLong),
            (&"x/".repeat(600), InvalidPath::TooLong),
        ] {
            assert_eq!(WorkspacePath::parse(given), Err(why), "{given:?}");
        }
    }

    #[test]
    fn parts_of_a_path() {
        let path = WorkspacePath::parse("src/app.py").expect("valid");
        assert_eq!(path.file_name(), Some("app.py"));
        assert_eq!(path.parent().as_str(), "src");
        assert_eq!(path.parent().parent(), WorkspacePath::default());
        assert_eq!(path.parent().join("../x"), Err(InvalidPath::ParentDir));
        assert_eq!(path.parent().join("/b.py").map(|p| p.0), Ok("src/b.py".to_owned()));
    }
}
