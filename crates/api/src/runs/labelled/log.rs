//! The log of one run, as JSON or as lines of text.

use std::fmt;

use domain::event::LogLevel;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::events::Gap;
use utoipa::ToSchema;

use crate::{Error, Result, logs::LogEntry, timestamp::Timestamp, wire_event::GapView};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// `all` (if absent), `info` (without `debug`) or `error` (errors only).
    level: Option<String>,
    /// `json` (if absent) or `text`: a line each, with its time and level.
    format: Option<String>,
}

/// In what form a log is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFormat {
    Json,
    Text,
}

/// Which lines are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    All,
    Info,
    Error,
}

impl LogQuery {
    pub(super) fn check(&self) -> Result<(LogFormat, Least)> {
        let least = match self.level.as_deref() {
            None | Some("" | "all") => Least::All,
            Some("info") => Least::Info,
            Some("error") => Least::Error,
            Some(_) => return Err(Error::invalid_field("level", "must be all, info or error")),
        };
        let format = match self.format.as_deref() {
            None | Some("" | "json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            Some(_) => return Err(Error::invalid_field("format", "must be json or text")),
        };
        Ok((format, least))
    }
}

/// A run's log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunLogs {
    /// Oldest first; of a log that is longer than 10,000 lines the newest.
    logs: Vec<RunLogEntry>,
    /// The events that are kept no longer. Null where none is missing.
    gap: Option<GapView>,
}

/// A line of a run's log.
#[derive(Debug, Serialize, ToSchema)]
struct RunLogEntry {
    timestamp: Timestamp,
    /// `info`, `warning`, `error` or `debug`.
    #[schema(example = "info")]
    level: &'static str,
    message: String,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

impl RunLogs {
    pub(super) fn new(lines: Vec<LogEntry>, gap: Option<Gap>, least: Least) -> Self {
        let is_told = |level: LogLevel| match least {
            Least::All => true,
            Least::Info => level != LogLevel::Debug,
            Least::Error => level == LogLevel::Error,
        };
        let logs = lines.into_iter().filter(|line| is_told(line.level)).map(|line| RunLogEntry {
            timestamp: line.timestamp,
            level: word(line.level),
            message: line.message,
            metadata: line.metadata,
        });
        Self { logs: logs.collect(), gap: gap.map(Into::into) }
    }
}

/// Lines such as `2026-01-15T10:30:00.000Z INFO The run began.`
impl fmt::Display for RunLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.logs
            .iter()
            .try_for_each(|line| writeln!(f, "{} {} {}", line.timestamp, line.level.to_uppercase(), line.message))
    }
}

/// Gives the word for a level; these clients know no success.
fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info | LogLevel::Success => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

/// Reads the word for a level.
pub(super) fn parse_level(text: &str) -> Option<LogLevel> {
    [LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error].into_iter().find(|level| word(*level) == text)
}
