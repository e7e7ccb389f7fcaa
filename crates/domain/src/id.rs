//! Ids as types: a prefix, an underscore and a time-ordered tail, opaque to clients.
//!
//! Ids are `text` in Postgres and strings on the wire. Agents may be created with an id of the caller's choice, so an
//! id read from outside is checked only for its alphabet and length ([`MAX_LEN`]), never for its prefix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest id taken from outside, in characters.
pub const MAX_LEN: usize = 128;

/// An id that is empty, longer than [`MAX_LEN`] or has a character outside `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to {MAX_LEN} characters out of A-Z, a-z, 0-9, '_' and '-'")]
pub struct InvalidId;

fn is_valid(id: &str) -> bool {
    (1..=MAX_LEN).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Makes a new, unique id. Ids made later sort later.
            // Not `new()`, and no `Default`: making an id is an act, not an empty value.
            pub fn generate() -> Self {
                Self(format!(concat!($prefix, "_{}"), uuid::Uuid::now_v7().simple()))
            }

            /// Gives the id as it stands in the database and on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(id: &str) -> Result<Self, InvalidId> {
                if is_valid(id) { Ok(Self(id.to_owned())) } else { Err(InvalidId) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(id: String) -> Result<Self, InvalidId> {
                if is_valid(&id) { Ok(Self(id)) } else { Err(InvalidId) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// An organization: the owner of projects.
    OrganizationId = "org";
    /// A project: the owner of everything, what an API key opens.
    ProjectId = "proj";
    /// A stored API key (not the key itself).
    ApiKeyId = "key";
    /// An agent: stored instructions, model, skills.
    AgentId = "agent";
    /// An agent as it was after one change.
    AgentVersionId = "agentver";
    /// An environment: the stored description of a computer.
    EnvironmentId = "env";
    /// A thread: a conversation.
    ThreadId = "thread";
    /// A message of a thread, as people see it.
    MessageId = "msg";
    /// A run: one execution caused by one message.
    RunId = "run";
    /// A note to a run under way.
    SteeringId = "steer";
    /// A call that somebody must allow.
    PermissionRequestId = "perm";
    /// A side question about a thread.
    QuestionId = "btw";
    /// A schedule: work that starts by itself.
    ScheduleId = "sched";
    /// A moment of a schedule that has come, or an event that a trigger was told of.
    ExecutionId = "exec";
    /// A trigger: work that starts when somebody else tells of an event.
    TriggerId = "trig";
    /// A webhook: where somebody is told what happens.
    WebhookId = "hook";
    /// Something that a webhook is told.
    DeliveryId = "delivery";
    /// A build of an environment's image.
    BuildId = "build";
    /// A session of deep research.
    ResearchId = "research";
    /// What a caller reported about a thread.
    ReportId = "report";
    /// A state of an environment's files.
    SnapshotId = "snap";
    /// What made one snapshot of the one before it.
    ChangeId = "change";
    /// A change as a thread's own.
    StepId = "step";
    /// A preview: a port of an environment that a link opens.
    PreviewId = "preview";
    /// A custom skill.
    SkillId = "skill";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_outside_is_checked_for_alphabet_and_length() {
        for good in ["thread_1", "a", "my-agent_2", &"x".repeat(MAX_LEN)] {
            assert_eq!(good.parse::<ThreadId>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "../x", "ä", "a\0b", &"x".repeat(MAX_LEN + 1)] {
            assert_eq!(bad.parse::<ThreadId>(), Err(InvalidId));
        }
    }

    #[test]
    fn generated_ids_sort_by_time_and_pass_their_own_check() {
        let (first, second) = (RunId::generate(), RunId::generate());
        assert!(first < second);
        assert_eq!(first.as_str().parse(), Ok(first.clone()));
    }
}
