//! The past of an environment as rows: snapshots of its files, what changed from one to the next, and whose step it was.
//!
//! What the files held is kept beside the workspace, by the name of its root ([`Snapshot::tree`]); see the crate
//! `history`.

use chrono::{DateTime, Utc};

use crate::{AgentId, ApiKeyId, ChangeId, EnvironmentId, MessageId, RunId, SnapshotId, StepId, ThreadId, word::words};

/// A state of an environment's files. Those of an environment follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub environment_id: EnvironmentId,
    /// Counted from 1.
    pub number: i64,
    pub parent_id: Option<SnapshotId>,
    /// The name of the root directory in the environment's store.
    pub tree: String,
    pub stats: SnapshotStats,
    pub created_at: DateTime<Utc>,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotStats {
    pub files: i64,
    pub directories: i64,
    pub bytes: i64,
    /// Files and directories whose content is not kept: too large, or not readable.
    pub left_out: i64,
}

/// What made one snapshot of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: ChangeId,
    pub environment_id: EnvironmentId,
    pub before_id: SnapshotId,
    pub snapshot_id: SnapshotId,
    pub author: Author,
    /// Runs that worked at the same time, if it cannot be told which of them did it.
    pub shared_with: Vec<RunId>,
    pub title: String,
    pub additions: i64,
    pub deletions: i64,
    /// Paths that changed; of very many, only the first are kept as rows.
    pub paths: i64,
    /// The step of a thread that it is.
    pub step_id: Option<StepId>,
    pub created_at: DateTime<Utc>,
}

/// Who changed something, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub source: Source,
    pub thread_id: Option<ThreadId>,
    pub run_id: Option<RunId>,
    /// What the run was caused by.
    pub message_id: Option<MessageId>,
    pub agent_id: Option<AgentId>,
    /// The key of who used the API.
    pub key_id: Option<ApiKeyId>,
}

impl Author {
    /// What nobody said they did: a process in the background, or somebody on the host.
    pub const OUTSIDE: Self =
        Self { source: Source::Outside, thread_id: None, run_id: None, message_id: None, agent_id: None, key_id: None };

    /// Who uses the API.
    pub fn key(source: Source, key: ApiKeyId) -> Self {
        Self { source, key_id: Some(key), ..Self::OUTSIDE }
    }
}

words! {
    /// By which way a change came.
    Source {
        /// The calls of a run.
        Run = "run",
        /// No way that we know of.
        Outside = "outside",
        Upload = "upload",
        MakeDirectory = "mkdir",
        Move = "move",
        Delete = "delete",
        /// Git, for somebody who uses the API.
        Git = "git",
        /// Something was brought back to how it was.
        Revert = "revert",
        /// What had been taken back was brought back.
        Reapply = "reapply",
    }
}

words! {
    /// What was done to a path.
    Operation {
        Created = "created",
        /// By somebody who used the API, where nothing was.
        Uploaded = "uploaded",
        Modified = "modified",
        Deleted = "deleted",
    }
}

/// A path that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// Relative to the workspace. What is no text in it is replaced.
    pub path: String,
    pub operation: Operation,
    pub is_directory: bool,
    /// Where the same content was before.
    pub previous_path: Option<String>,
    pub additions: i64,
    pub deletions: i64,
    /// In bytes, after the change.
    pub size: Option<i64>,
}

/// A change as a step of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub id: StepId,
    pub thread_id: ThreadId,
    /// Counted from 1, in the thread.
    pub sequence: i64,
    /// The message of this thread that it came of. Of a copy's step the change names the original's message.
    pub message_id: Option<MessageId>,
    pub change: Change,
    pub created_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::UnknownWord;

    #[test]
    fn every_word_is_read_back() {
        for source in Source::ALL {
            assert_eq!(source.as_str().parse(), Ok(*source));
        }
        for operation in Operation::ALL {
            assert_eq!(operation.as_str().parse(), Ok(*operation));
        }
        assert_eq!("x".parse::<Source>(), Err(UnknownWord("x".to_owned())));
    }
}
