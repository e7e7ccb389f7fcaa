//! An agent that a run has called: a run of its own, in the same thread and on the same computer.
//!
//! It has a conversation of its own and gives back its last words only. Its events are told in the thread's log as
//! [`Event::Subagent`](crate::event::Event::Subagent), so that nobody takes its end for the end of the run that called it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentId, MicroUsd, RunId, research::Part};

/// What an agent was called for; a part of its run's options.
///
/// Fields may be added (with a default), never renamed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// The agent's name, or a word for what it does.
    pub name: String,
    /// What it is to do in a few words, for people.
    pub description: String,
    pub prompt: String,
    /// The stored agent that it is; `None` for one that was made up for the call.
    pub agent_id: Option<AgentId>,
    /// Its part in a session of deep research, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub research: Option<Part>,
    /// What binds the calls of the run that called it, and so its own: permission sets as clients wrote them.
    pub permissions: Vec<Value>,
}

/// Where a run stands in the tree of those that have called each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub parent: RunId,
    /// The call of the parent's that it answers.
    pub call_id: String,
    /// The run that a message caused.
    pub root: RunId,
    /// 1 for one that the root has called.
    pub depth: u32,
    /// Its call was answered at once; what it came to is told to the parent later.
    pub is_background: bool,
    /// The parent has been told what it came to.
    pub is_told: bool,
}

/// Who an event of the log is about, where that is an agent which the run has called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subagent {
    pub run_id: RunId,
    pub parent_run_id: RunId,
    pub call_id: String,
    pub name: String,
    pub description: String,
}

/// What became of an agent that was called, as its call tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    pub run_id: RunId,
    pub name: String,
    pub description: String,
    /// The status of its run.
    pub status: String,
    pub turns: i32,
    pub calls: i32,
    pub tokens: i64,
    pub cost: MicroUsd,
}
