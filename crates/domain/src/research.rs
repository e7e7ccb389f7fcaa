//! Deep research: a question answered from many pages, in a report whose every citation is a page that was read.
//!
//! A session is what one call of the tool came to. Its parts are agents of the run that made the call, each with one
//! role, and so each is paid for once, whatever crashes in between.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{ProjectId, ResearchId, RunId, ThreadId, word::words};

words! {
    /// Where a session stands.
    ResearchStatus {
        Running = "running",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

words! {
    /// What a session is busy with, in the order of the work.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    Phase {
        /// The question is divided.
        Planning = "planning",
        /// Agents search and read.
        Researching = "researching",
        /// The report is written from their notes.
        Writing = "writing",
        /// Its citations are held against what was read.
        Verifying = "verifying",
    }
}

/// What an agent does for a session, and so which tools it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Divides the question. It has no tools.
    Planner,
    /// Searches and reads, and can do nothing else.
    Reader,
    /// Writes the report from the notes. It has no tools.
    Writer,
}

/// An agent's part in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub session: ResearchId,
    pub role: Role,
}

/// A session as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub id: ResearchId,
    pub project_id: ProjectId,
    pub thread_id: ThreadId,
    /// The run whose call it answers.
    pub run_id: RunId,
    pub call_id: String,
    pub query: String,
    /// The model that its agents use.
    pub model: String,
    pub status: ResearchStatus,
    pub phase: Phase,
    /// Of a hundred.
    pub progress: i32,
    /// What the question was divided into.
    pub questions: Vec<String>,
    pub notes: Vec<Note>,
    pub report: Option<Report>,
    pub error: Option<String>,
    /// How often it was taken up again.
    pub resumes: i32,
    /// Pages that were read.
    pub sources: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// What was told of a session at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub at: DateTime<Utc>,
    pub phase: Phase,
    pub summary: String,
}

/// What a session came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// In the workspace.
    pub path: String,
    /// The sources, beside it.
    pub manifest_path: String,
    pub characters: i64,
    /// What was cited without having been read, and is therefore not in the report any more.
    pub dropped: Vec<String>,
    /// Questions whose agent was stopped before it had ended its work.
    pub unfinished: Vec<String>,
}

/// A page that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As the report cites it, from 1.
    pub number: i32,
    /// Where the page was in the end.
    pub url: String,
    /// The addresses that led there.
    pub requested: Vec<String>,
    pub title: Option<String>,
    /// BLAKE3 of the text that was read, in hexadecimal digits.
    pub hash: String,
    pub fetched_at: DateTime<Utc>,
    pub is_cited: bool,
}

words! {
    /// What is told of a session.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    Happening {
        Started = "started",
        Resumed = "resumed",
        Planned = "planned",
        Progress = "progress",
        Writing = "writing",
        Verifying = "verifying",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

/// Something that happened to a session, as the log of its thread tells it.
///
/// Fields may be added (with a default), never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub session_id: ResearchId,
    pub happening: Happening,
    pub query: String,
    /// A sentence for people.
    pub summary: String,
    /// Pages read so far.
    pub sources: i32,
    /// Those that the report cites, once there is one: address and title.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cited: Vec<(String, Option<String>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub elapsed_seconds: i64,
    #[serde(default)]
    pub resumes: i32,
}

/// Joins the id of a call and the name of one of its parts to what the part's own run answers.
pub fn part_id(call_id: &str, part: &str) -> String {
    format!("{call_id}{SEPARATOR}{part}")
}

/// Gives the call that a run answers, whole or in part.
pub fn call_of(id: &str) -> &str {
    id.split_once(SEPARATOR).map_or(id, |(call, _)| call)
}

/// No id of a call has it.
const SEPARATOR: char = '#';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_answers_the_call_of_its_session() {
        assert_eq!(call_of(&part_id("toolu_1", "read-3")), "toolu_1");
        assert_eq!(call_of("toolu_1"), "toolu_1");
    }

    #[test]
    fn words_are_the_same_in_rows_and_documents() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("serialises"), phase.as_str());
        }
        for happening in Happening::ALL {
            assert_eq!(serde_json::to_value(happening).expect("serialises"), happening.as_str());
        }
    }
}
