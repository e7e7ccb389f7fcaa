//! A line of a thread's log, as it is read and as it is added.

use chrono::{DateTime, Utc};
use domain::{
    event::LogLevel,
    message::{Message, Role},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{events::Gap, logs::AddedLog};
use utoipa::ToSchema;

use crate::{check::Fields, timestamp::Timestamp, wire_event::GapView};

/// A line. Clients read either `role`, `content`, `timestamp` and `relativeTime`, or `type`, `message`, `createdAt` and
/// `time`; both say the same.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadLogEntry)]
pub(crate) struct LogEntry {
    /// `user`, `assistant` or `execution_log`.
    #[schema(example = "execution_log")]
    pub role: &'static str,
    pub content: String,
    pub timestamp: Timestamp,
    /// `MM:SS` since the run began.
    #[schema(example = "01:23")]
    pub relative_time: Option<String>,
    pub created_at: Timestamp,
    pub time: Option<String>,
    pub message: String,
    /// `debug`, `info`, `warning`, `error` or `success`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "info")]
    pub level: LogLevel,
    pub event_type: Option<String>,
    pub is_user_message: bool,
    pub is_reasoning: bool,
    pub is_action_summary: bool,
    pub is_planning: bool,
    #[serde(rename = "isLLMResponse")]
    pub is_llm_response: bool,
    pub run_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

impl LogEntry {
    /// Makes a plain line of what happened.
    pub(super) fn new(message: String, level: LogLevel, event_type: &str, created_at: DateTime<Utc>) -> Self {
        Self {
            role: "execution_log",
            content: message.clone(),
            timestamp: created_at.into(),
            relative_time: None,
            created_at: created_at.into(),
            time: None,
            message,
            level,
            event_type: Some(event_type.to_owned()),
            is_user_message: false,
            is_reasoning: false,
            is_action_summary: false,
            is_planning: false,
            is_llm_response: false,
            run_id: None,
            metadata: None,
        }
    }

    pub(super) fn of_message(message: &Message) -> Self {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "execution_log",
        };
        Self {
            role,
            is_user_message: message.role == Role::User,
            is_llm_response: message.role == Role::Assistant,
            run_id: message.run_id.as_ref().map(ToString::to_string),
            metadata: message.metadata.clone().map(Value::Object),
            ..Self::new(message.content.clone(), LogLevel::Info, "message", message.created_at)
        }
    }

    /// Makes the line that stands for events that are gone.
    pub(super) fn of_gap(gap: &Gap) -> Self {
        let message = format!("The events {} to {} are kept no longer.", gap.from, gap.to);
        Self {
            metadata: Some(json!({"gap": GapView::from(*gap)})),
            ..Self::new(message, LogLevel::Warning, "gap", gap.since)
        }
    }

    /// Makes the line that was added; `None` if it cannot be read any more.
    pub(super) fn of_added(added: AddedLog) -> Option<Self> {
        let line: NewLog = serde_json::from_value(added.entry).ok()?;
        let created_at = line.created_at.or(line.timestamp).unwrap_or(added.created_at);
        let role = line.role();
        let time = line.time.or(line.relative_time);
        Some(Self {
            role,
            relative_time: time.clone(),
            time,
            event_type: line.event_type,
            is_user_message: role == "user",
            is_reasoning: line.is_reasoning.unwrap_or(false),
            is_action_summary: line.is_action_summary.unwrap_or(false),
            is_planning: line.is_planning.unwrap_or(false),
            is_llm_response: role == "assistant",
            run_id: added.run_id.map(Into::into),
            metadata: line.metadata.map(Value::Object),
            ..Self::new(
                line.message.or(line.content).unwrap_or_default(),
                line.level.unwrap_or(LogLevel::Info),
                "log",
                created_at,
            )
        })
    }

    /// Leaves out what is not needed to read it.
    pub(super) fn compact(&mut self) {
        self.metadata = None;
    }
}

/// Lines to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewLogs {
    pub logs: Vec<NewLog>,
}

/// A line to be added, in either spelling; also as it is stored.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewThreadLogEntry)]
pub(crate) struct NewLog {
    /// `user`, `assistant` or `execution_log`.
    role: Option<String>,
    /// What it says: this or `message`.
    content: Option<String>,
    message: Option<String>,
    /// `debug`, `info`, `warning`, `error` or `success`.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>)]
    level: Option<LogLevel>,
    #[serde(alias = "created_at")]
    #[schema(value_type = Option<String>)]
    created_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<String>)]
    timestamp: Option<DateTime<Utc>>,
    time: Option<String>,
    #[serde(alias = "relative_time")]
    relative_time: Option<String>,
    #[serde(alias = "event_type")]
    event_type: Option<String>,
    #[serde(alias = "is_user_message")]
    is_user_message: Option<bool>,
    #[serde(alias = "is_reasoning")]
    is_reasoning: Option<bool>,
    #[serde(alias = "is_action_summary")]
    is_action_summary: Option<bool>,
    #[serde(alias = "is_planning")]
    is_planning: Option<bool>,
    #[serde(rename = "isLLMResponse", alias = "is_llm_response")]
    is_llm_response: Option<bool>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl NewLog {
    pub(crate) fn new(level: LogLevel, message: String, metadata: Option<Map<String, Value>>) -> Self {
        Self { level: Some(level), message: Some(message), metadata, ..Self::default() }
    }

    pub(super) fn check(&self, fields: &mut Fields, n: usize) {
        if self.message.as_ref().or(self.content.as_ref()).is_none() {
            fields.refuse(format!("logs[{n}].message"), "is required");
        }
        if !matches!(self.role.as_deref(), None | Some("user" | "assistant" | "execution_log")) {
            fields.refuse(format!("logs[{n}].role"), "must be user, assistant or execution_log");
        }
    }

    fn role(&self) -> &'static str {
        match self.role.as_deref() {
            Some("user") => "user",
            Some("assistant") => "assistant",
            Some(_) => "execution_log",
            None if self.is_user_message.unwrap_or(false) => "user",
            None if self.is_llm_response.unwrap_or(false) => "assistant",
            None => "execution_log",
        }
    }
}
