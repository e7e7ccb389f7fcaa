//! What a script answers: blocks, and what goes wrong on the way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One answer. The default is an empty `end_turn`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    pub blocks: Vec<Block>,
    /// Without it: `tool_use` when a block is one, else `end_turn`.
    pub stop_reason: Option<String>,
    pub stop_details: Option<Value>,
    /// Replaces the counted usage, field by field.
    pub usage: ReplyUsage,
    pub fault: Fault,
}

/// One content block of an answer. Texts may hold `{{user_text}}`, `{{last_tool_result}}`, `{{round}}`, `{{model}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
    },
    ToolUse {
        name: String,
        input: Value,
        /// Made from the conversation where it is left out.
        #[serde(default)]
        id: Option<String>,
        /// Sent instead of `input`, also when it is no JSON.
        #[serde(default)]
        input_text: Option<String>,
    },
    /// Sent whole in `content_block_start`, as it is: server tools, blocks nobody knows.
    Raw {
        block: Map<String, Value>,
    },
}

/// Usage to report instead of the counted one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplyUsage {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    pub web_search_requests: Option<u64>,
}

/// What goes wrong. Event numbers count the frames sent before it happens (`message_start` is the first).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Answer with this status and an error body instead of a reply.
    pub status: Option<u16>,
    /// `error.type` of that body, or of the `error` event; follows from the status where it is left out.
    pub error_type: Option<String>,
    pub message: Option<String>,
    /// `error.details.error_code`.
    pub error_code: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// Wait before the status line.
    pub delay_ms: u64,
    /// Wait before each frame.
    pub delta_delay_ms: u64,
    /// Break the connection after so many frames.
    pub truncate_after: Option<usize>,
    /// End the body cleanly after so many frames.
    pub end_after: Option<usize>,
    /// Say nothing more after so many frames, and keep the connection.
    pub silence_after: Option<usize>,
    /// After so many frames send one whose data is no JSON.
    pub invalid_json_after: Option<usize>,
    /// After so many frames send an `error` event and end.
    pub error_after: Option<usize>,
    /// Send every frame twice, except deltas, of which a client cannot tell a repetition.
    pub duplicate_frames: bool,
    /// Mix in events, deltas and nameless frames nobody knows.
    pub unknown_frames: bool,
    /// Wait for [`crate::ScriptedClaude::release`] of this name.
    pub hold: Option<String>,
    /// Where it waits: before the status line, or after so many frames.
    pub hold_after: Option<usize>,
}

impl Reply {
    pub fn text(text: impl Into<String>) -> Self {
        Self { blocks: vec![Block::Text { text: text.into() }], ..Self::default() }
    }

    pub fn tool(name: &str, input: Value) -> Self {
        Self { blocks: vec![Block::tool(name, input)], ..Self::default() }
    }

    pub fn status(status: u16) -> Self {
        Self { fault: Fault { status: Some(status), ..Fault::default() }, ..Self::default() }
    }

    /// This reply with one more block in front.
    pub fn after(mut self, block: Block) -> Self {
        self.blocks.insert(0, block);
        self
    }

    /// This reply with one more block behind.
    pub fn and(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn stop_reason(&self) -> &str {
        let calls = self.blocks.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        self.stop_reason.as_deref().unwrap_or(if calls { "tool_use" } else { "end_turn" })
    }
}

impl Block {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    pub fn thinking(thinking: impl Into<String>) -> Self {
        Self::Thinking { thinking: thinking.into() }
    }

    pub fn tool(name: &str, input: Value) -> Self {
        Self::ToolUse { name: name.to_owned(), input, id: None, input_text: None }
    }
}

/// The type the API gives an error of this status.
pub(crate) fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The API's error body.
pub(crate) fn error_body(kind: &str, message: &str, code: Option<&str>, request_id: &str) -> Value {
    let mut error = json!({ "type": kind, "message": message });
    if let Some(code) = code {
        error["details"] = json!({ "error_code": code });
    }
    json!({ "type": "error", "error": error, "request_id": request_id })
}
