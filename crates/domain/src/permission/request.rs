//! A call that waits for somebody to allow it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{PermissionRequestId, ProjectId, RunId, ThreadId};

/// A call that was asked about. Decided exactly once; a decision to allow is acted upon at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: PermissionRequestId,
    pub project_id: ProjectId,
    pub thread_id: ThreadId,
    pub run_id: RunId,
    pub call_id: String,
    pub tool: String,
    /// The call's input as the model wrote it: JSON.
    pub input: String,
    /// What says that the call is asked about.
    pub rule: String,
    pub created_at: DateTime<Utc>,
    /// From then on nobody can allow it.
    pub expires_at: DateTime<Utc>,
    pub decided: Option<Decided>,
    /// The decision was acted upon: the call was begun, or the model was told that it was not made.
    pub is_taken: bool,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub decision: Decision,
    pub by: Decider,
    pub reason: Option<String>,
    /// The input, a JSON object, that the call is made with instead of the model's.
    pub updated_input: Option<String>,
    pub at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Deny,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decider {
    User,
    /// Nobody did in time, which denies.
    Expiry,
    /// The run ended first, which denies.
    Cancel,
}

/// A word that is none of those that may stand here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown word {0:?}")]
pub struct UnknownWord(pub String);

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(UnknownWord(word.to_owned())),
        }
    }
}

impl Decider {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Expiry => "expiry",
            Self::Cancel => "cancel",
        }
    }
}

impl FromStr for Decider {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "user" => Ok(Self::User),
            "expiry" => Ok(Self::Expiry),
            "cancel" => Ok(Self::Cancel),
            _ => Err(UnknownWord(word.to_owned())),
        }
    }
}
