//! A call that waits for somebody to allow it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{PermissionRequestId, ProjectId, RunId, ThreadId, word::words};

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

words! {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    Decision {
        Allow = "allow",
        Deny = "deny",
    }
}

words! {
    /// Who decided.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    Decider {
        User = "user",
        /// Nobody did in time, which denies.
        Expiry = "expiry",
        /// The run ended first, which denies.
        Cancel = "cancel",
    }
}
