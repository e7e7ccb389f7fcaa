//! An event: one line of a thread's log, numbered, durable before anyone sees it.
//!
//! Events are stored as JSON of these types; the names clients see are given by `api`. Fields may be added (with a
//! default) and kinds may be added, never renamed: old logs must stay readable.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    EnvironmentId, PermissionRequestId, RunId, SteeringId, ThreadId,
    permission::{Decider, Decision},
    research,
    run::{Outcome, Spent},
    subagent::{Called, Subagent},
};

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The thread came into being together with its first run.
    ThreadCreated { environment_id: EnvironmentId },
    /// A run was accepted.
    RunQueued,
    /// The run is stopped for a while; nobody works on it until somebody says so.
    RunPaused,
    /// A note for the run came in; the model has not read it yet.
    SteeringReceived { steering: Steering },
    /// The model reads the note with its next turn.
    SteeringDelivered { steering: Steering },
    /// The model was changed for the rest of the run.
    ModelChanged { from: String, to: String, reason: String },
    /// A worker began the run.
    RunStarted,
    /// A worker took the run over after the one before it was lost.
    RunResumed { attempt: i32 },
    /// A worker goes on with the run after what it waited for was decided.
    RunContinued { attempt: i32 },
    /// A call is not made before somebody allows it.
    PermissionAsked { request: AskedCall },
    /// It was decided about a call.
    PermissionDecided { decided: DecidedCall },
    /// The environment's container is being started.
    ComputerStarting,
    /// A tool call, as far as the model has asked for it.
    ItemStarted { item: Item },
    /// A finished piece of the run's work.
    ItemCompleted { item: Item },
    /// A line for people: waiting for the model, a retry, a warning.
    Log { level: LogLevel, topic: String, message: String },
    /// What the model reads of the conversation so far was replaced by a summary, or by nothing. What was said stays in
    /// the log, the messages and the transcript.
    Compacted {
        trigger: Trigger,
        /// How full the window was.
        pre_tokens: i64,
        /// How full it is now, as an estimate: the next reply tells it exactly.
        post_tokens: i64,
    },
    /// Something that happened to a session of deep research.
    Research { told: Box<research::Told> },
    /// The run is over; nothing of it follows.
    RunFinished { outcome: Outcome, spent: Spent },
    /// Something that happened to an agent which the run has called.
    Subagent { agent: Subagent, event: Box<Event> },
}

impl Event {
    /// Gives the event as the thread's log tells it: of an agent that was called, as that.
    #[must_use]
    pub fn told_of(self, agent: Option<&Subagent>) -> Self {
        match agent {
            Some(agent) => Self::Subagent { agent: agent.clone(), event: Box::new(self) },
            None => self,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only callers add such lines.
    Debug,
    Info,
    Warning,
    Error,
    Success,
}

/// Who wanted a conversation compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The window was nearly full, or the model said that it was.
    Auto,
    /// Somebody asked for it.
    Manual,
}

/// A note to a run under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    pub id: SteeringId,
    pub mode: SteeringMode,
    pub content: String,
}

/// How much a note wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteeringMode {
    /// To be known. It keeps no run going: what the run has not read, the next one does.
    Fyi,
    /// To be followed, from the next turn on. A run that was about to end goes on for it.
    Checkpoint,
}

impl SteeringMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fyi => "fyi",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A word that names no mode of a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}")]
pub struct UnknownSteeringMode(pub String);

impl FromStr for SteeringMode {
    type Err = UnknownSteeringMode;

    fn from_str(mode: &str) -> Result<Self, UnknownSteeringMode> {
        [Self::Fyi, Self::Checkpoint]
            .into_iter()
            .find(|known| known.as_str() == mode)
            .ok_or_else(|| UnknownSteeringMode(mode.to_owned()))
    }
}

/// A call that somebody must allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedCall {
    pub request_id: PermissionRequestId,
    pub call_id: String,
    pub tool: String,
    /// JSON, as the model wrote it.
    pub input: String,
    /// What says that the call is asked about.
    pub rule: String,
    /// How long from the event on it can be allowed.
    pub ttl_ms: u64,
}

/// What was decided about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedCall {
    pub request_id: PermissionRequestId,
    pub call_id: String,
    pub tool: String,
    pub decision: Decision,
    pub by: Decider,
    pub reason: Option<String>,
    /// JSON that the call is made with instead.
    pub updated_input: Option<String>,
}

/// A piece of a run's work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What the model said.
    Text {
        text: String,
    },
    /// What the model thought.
    Reasoning {
        text: String,
    },
    ToolCall(ToolCall),
}

/// A tool call; `result` once it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// The model's input as it was sent: a JSON object.
    #[serde(with = "json_text")]
    pub input: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ToolResult>,
}

/// What a tool call gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolResult {
    pub is_error: bool,
    /// The text the model reads, possibly shortened.
    pub text: String,
    pub duration_ms: i64,
    /// The same for people and programs: what was run, read or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// A tool call's effect in a form that a client can show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Detail {
    Command {
        command: String,
        exit_code: Option<i32>,
        output: String,
    },
    FileRead {
        path: String,
        lines: Option<i64>,
    },
    /// `diff` is a unified diff, shortened where the file is large.
    FileWrite {
        path: String,
        is_new: bool,
        diff: String,
        additions: i64,
        deletions: i64,
    },
    Search {
        pattern: String,
        matches: i64,
    },
    Todos {
        todos: Value,
    },
    /// A call of an MCP server's tool, by the server's own name for it. `arguments` is JSON.
    Mcp {
        server: String,
        tool: String,
        arguments: String,
        output: String,
        error: Option<String>,
    },
    Fetch {
        url: String,
        status: u16,
        bytes: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// BLAKE3 of the page's whole text; without, no page was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
    },
    WebSearch {
        query: String,
        hits: Vec<SearchHit>,
    },
    /// An agent that was called.
    Agent(Box<Called>),
    /// A picture that was made or changed, in the workspace.
    Image {
        path: String,
        is_new: bool,
        media_type: String,
        width: u32,
        height: u32,
        bytes: i64,
    },
}

/// A page that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchHit {
    pub title: String,
    pub url: String,
    /// As whoever searched words it.
    pub date: Option<String>,
}

/// An event with its place in the log.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub thread_id: ThreadId,
    /// Counts up by one from 1 within the thread, without gaps.
    pub sequence: i64,
    pub run_id: Option<RunId>,
    pub created_at: DateTime<Utc>,
    pub event: Event,
}

impl Recorded {
    /// Gives the run that the event happened to: of one that another run has called, that one and not its caller.
    pub fn own_run(&self) -> Option<&RunId> {
        match &self.event {
            Event::Subagent { agent, .. } => Some(&agent.run_id),
            _ => self.run_id.as_ref(),
        }
    }
}

/// Something on its way, for those who watch now: never stored, and repeated by the item that it becomes part of.
#[derive(Debug, Clone)]
pub enum Delta {
    Text(String),
    Thinking(String),
    ToolOutput { call_id: String, text: String },
}

/// JSON kept byte for byte as a string: a raw value itself cannot be read back from inside an enum told apart by a tag.
mod json_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(json: &RawValue, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(json.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
        RawValue::from_string(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_call_survives_its_json_byte_for_byte() {
        for input in [r#"{"b": 1.0e5,"a":12345678901234567890123}"#, r#""not an object""#, "null"] {
            let raw = RawValue::from_string(input.to_owned()).expect("is JSON");
            let call = ToolCall { id: "toolu_1".into(), name: "Bash".into(), input: raw, result: None };
            let json = serde_json::to_string(&Event::ItemStarted { item: Item::ToolCall(call) }).expect("serialises");
            match serde_json::from_str(&json).expect("reads back") {
                Event::ItemStarted { item: Item::ToolCall(call) } => assert_eq!(call.input.get(), input),
                other => panic!("{other:?}"),
            }
        }
    }
}
