//! One piece of a reply, parsed as far as a caller needs it. The bytes to send back are in the response, not here.

use serde_json::value::RawValue;

use crate::object::Object;

/// A finished content block.
#[derive(Debug, Clone)]
pub enum Block {
    Text {
        text: String,
    },
    /// Reasoning, empty where the model does not show it; a signature may come without any text.
    Thinking {
        text: String,
    },
    /// A call of one of our tools.
    ToolUse(ToolUse),
    /// A call of a tool that the server runs itself; its result follows as [`Block::ServerToolResult`].
    ServerToolUse {
        id: String,
        name: String,
        input: Box<RawValue>,
    },
    ServerToolResult {
        /// `web_search_tool_result`, `code_execution_tool_result`, …
        kind: String,
        tool_use_id: String,
        content: Box<RawValue>,
    },
    /// Anything else, known or invented since, as the API sent it.
    Other {
        kind: String,
        json: Box<RawValue>,
    },
}

/// A call of one of our tools.
#[derive(Debug, Clone)]
pub struct ToolUse {
    pub id: String,
    pub name: String,
    /// The input as the model wrote it; a JSON object, or the text that failed to be one. The transcript then holds `{}`,
    /// since the API takes nothing else back, and the text belongs into the call's error result.
    pub input: Result<Box<RawValue>, String>,
}

impl Block {
    /// The parsed view of a finished block. `input` is only there for tool calls.
    pub(crate) fn view(kind: &str, object: &Object, input: Option<Result<Box<RawValue>, String>>) -> Self {
        let text = |name| object.text(name).unwrap_or_default();
        let raw = |name| object.get(name).map_or_else(empty_object, ToOwned::to_owned);
        match kind {
            "text" => Self::Text { text: text("text") },
            "thinking" => Self::Thinking { text: text("thinking") },
            "tool_use" => Self::ToolUse(ToolUse {
                id: text("id"),
                name: text("name"),
                input: input.unwrap_or_else(|| Ok(raw("input"))),
            }),
            "server_tool_use" | "mcp_tool_use" => {
                Self::ServerToolUse { id: text("id"), name: text("name"), input: raw("input") }
            }
            _ if kind.ends_with("_tool_result") => Self::ServerToolResult {
                kind: kind.to_owned(),
                tool_use_id: text("tool_use_id"),
                content: raw("content"),
            },
            _ => Self::Other { kind: kind.to_owned(), json: object.render() },
        }
    }
}

pub(crate) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("{} is JSON")
}
