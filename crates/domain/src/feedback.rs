//! What callers think of a thread: thumbs and reports.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{ApiKeyId, ReportId, ThreadId};

/// A thumb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rating {
    Up,
    Down,
}

impl Rating {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    General,
    Bug,
    ChildSafety,
    Response,
}

impl ReportKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Bug => "bug",
            Self::ChildSafety => "child_safety",
            Self::Response => "response",
        }
    }
}

impl fmt::Display for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no rating, or no kind of report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownWord(&'static str);

impl FromStr for Rating {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Up, Self::Down].into_iter().find(|known| known.as_str() == word).ok_or(UnknownWord("up, down"))
    }
}

impl FromStr for ReportKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::General, Self::Bug, Self::ChildSafety, Self::Response]
            .into_iter()
            .find(|known| known.as_str() == word)
            .ok_or(UnknownWord("general, bug, child_safety, response"))
    }
}

/// What all callers together think of a thread, and what one of them thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Feedback {
    pub up_count: i64,
    pub down_count: i64,
    pub report_count: i64,
    pub own: Option<Rating>,
}

/// A report about a thread, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub id: ReportId,
    pub thread_id: ThreadId,
    pub key_id: ApiKeyId,
    pub kind: ReportKind,
    pub message: String,
    pub metadata: Option<Map<String, Value>>,
    pub created_at: DateTime<Utc>,
}
