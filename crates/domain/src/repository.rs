//! A repository of GitHub that a message is about.

use serde::{Deserialize, Serialize};

/// Variables and secrets of an environment that open GitHub, the first that is set.
pub const TOKEN_VARIABLES: [&str; 2] = ["GITHUB_TOKEN", "GH_TOKEN"];

/// Which repository, and how its owner wants it to be worked on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GithubRepository {
    /// `owner/name`.
    pub full_name: String,
    /// The repository's default branch if absent.
    pub branch: Option<String>,
    /// How branches that the agent makes begin.
    pub branch_prefix: Option<String>,
    /// The agent is to open a pull request for what it did.
    pub wants_pull_request: bool,
    /// The agent may overwrite what the remote has.
    pub may_force_push: bool,
}
