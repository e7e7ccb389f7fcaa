//! A message: one entry of a thread's conversation as people see it. What the model sees is the transcript.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{MessageId, RunId, ThreadId, attachment::Attachment};

/// Who a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    System,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: it is user, assistant or system")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(role: &str) -> Result<Self, UnknownRole> {
        [Self::User, Self::Assistant, Self::System]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(|| UnknownRole(role.to_owned()))
    }
}

/// A message as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub thread_id: ThreadId,
    /// Its place in the thread, from 0.
    pub position: i64,
    pub role: Role,
    pub content: String,
    /// The run that it caused (user) or that wrote it (assistant).
    pub run_id: Option<RunId>,
    pub metadata: Option<Map<String, Value>>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub duration_ms: Option<i64>,
    /// Number of tool calls behind an assistant message.
    pub actions_count: Option<i64>,
    pub created_at: DateTime<Utc>,
    /// Files that came with it.
    pub attachments: Vec<Attachment>,
    /// When the thread was rewound to before it.
    pub superseded_at: Option<DateTime<Utc>>,
}
