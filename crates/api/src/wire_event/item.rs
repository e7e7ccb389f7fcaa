//! The `item` of `response.item.created` and `response.item.completed`.
//!
//! Clients differ: some want `content` to be a string and call string methods on it, some read `tool` and `changes`. So
//! `content` is a string wherever it is present, and the structured forms stand beside it.

use domain::event::{Detail, Item, ToolCall};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The longest `content` of a tool call, in bytes. The model's own text is never cut.
const MAX_CONTENT_BYTES: usize = 30_000;

/// A piece of a run's work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamItem)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ItemView {
    /// What the model said.
    Text {
        /// Always `assistant`.
        role: &'static str,
        content: String,
    },
    /// What the model thought.
    Reasoning {
        content: String,
    },
    ToolCall(Box<ToolCallView>),
}

/// A tool call, with its result once that is known.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamToolCall)]
pub(crate) struct ToolCallView {
    id: String,
    #[schema(example = "Bash")]
    name: String,
    /// The tool's input, as a string of JSON.
    #[schema(example = r#"{"command":"ls"}"#)]
    arguments: String,
    /// `running`, `completed` or `failed`.
    status: &'static str,
    /// What came out, as text, shortened in the middle where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    tool: ToolView,
    /// Files that the call changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ChangeView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<CallMetadata>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamCallMetadata)]
struct CallMetadata {
    duration_ms: i64,
}

/// The call's effect in a form that a client can show.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamTool)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolView {
    CommandExecution {
        command: String,
        exit_code: Option<i32>,
        output: String,
    },
    FileRead {
        file_path: String,
        lines: Option<i64>,
    },
    FileWrite {
        file_path: String,
        /// A unified diff, shortened where the file is large.
        file_diff: String,
        additions: i64,
        deletions: i64,
        /// `created` or `modified`.
        operation_kind: &'static str,
    },
    Search {
        pattern: String,
        matches: i64,
    },
    TodoList {
        todos: Value,
    },
    WebFetch {
        url: String,
        status: u16,
        bytes: i64,
    },
    /// A call of an MCP server's tool. `name` is the server's own.
    McpTool {
        server: String,
        name: String,
        #[schema(value_type = Object)]
        arguments: Value,
        output: String,
        error: Option<String>,
    },
    WebSearch {
        query: String,
        results: Vec<HitView>,
    },
    /// An agent that was called: a run of its own.
    Subagent {
        run_id: String,
        name: String,
        description: String,
        /// `completed`, `failed` or `cancelled`.
        status: String,
        turns: i32,
        calls: i32,
        total_tokens: i64,
        cost_usd: f64,
    },
    ImageGenerationSkill {
        file_path: String,
        media_type: String,
        width: u32,
        height: u32,
        bytes: i64,
        /// `created` or `modified`.
        operation_kind: &'static str,
    },
    /// A call whose effect is not known, or not yet.
    Other {
        name: String,
    },
}

/// A page that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamSearchHit)]
struct HitView {
    title: String,
    url: String,
    /// As whoever searched words it.
    date: Option<String>,
}

/// A changed file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamChange)]
struct ChangeView {
    path: String,
    /// `created` or `modified`.
    kind: &'static str,
    diff: String,
    additions: i64,
    deletions: i64,
}

impl From<&Item> for ItemView {
    fn from(item: &Item) -> Self {
        match item {
            Item::Text { text } => Self::Text { role: "assistant", content: text.clone() },
            Item::Reasoning { text } => Self::Reasoning { content: text.clone() },
            Item::ToolCall(call) => Self::ToolCall(Box::new(call.into())),
        }
    }
}

impl From<&ToolCall> for ToolCallView {
    fn from(call: &ToolCall) -> Self {
        let result = call.result.as_ref();
        let detail = result.and_then(|result| result.detail.as_ref());
        Self {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.input.get().to_owned(),
            status: match result {
                None => "running",
                Some(result) if result.is_error => "failed",
                Some(_) => "completed",
            },
            content: result.map(|result| shorten(&result.text, MAX_CONTENT_BYTES)),
            tool: detail.map_or_else(|| ToolView::Other { name: call.name.clone() }, ToolView::from),
            changes: detail.and_then(change).into_iter().collect(),
            metadata: result.map(|result| CallMetadata { duration_ms: result.duration_ms }),
        }
    }
}

impl From<&Detail> for ToolView {
    fn from(detail: &Detail) -> Self {
        match detail.clone() {
            Detail::Command { command, exit_code, output } => {
                Self::CommandExecution { command, exit_code, output: shorten(&output, MAX_CONTENT_BYTES) }
            }
            Detail::FileRead { path, lines } => Self::FileRead { file_path: path, lines },
            Detail::FileWrite { path, is_new, diff, additions, deletions } => Self::FileWrite {
                file_path: path,
                file_diff: diff,
                additions,
                deletions,
                operation_kind: change_kind(is_new),
            },
            Detail::Search { pattern, matches } => Self::Search { pattern, matches },
            Detail::Todos { todos } => Self::TodoList { todos },
            Detail::Mcp { server, tool, arguments, output, error } => Self::McpTool {
                server,
                name: tool,
                arguments: serde_json::from_str(&arguments).unwrap_or(Value::String(arguments)),
                output,
                error,
            },
            Detail::Fetch { url, status, bytes, .. } => Self::WebFetch { url, status, bytes },
            Detail::WebSearch { query, hits } => {
                let results = hits.into_iter().map(|hit| HitView { title: hit.title, url: hit.url, date: hit.date });
                Self::WebSearch { query, results: results.collect() }
            }
            Detail::Agent(called) => Self::Subagent {
                run_id: called.run_id.into(),
                name: called.name,
                description: called.description,
                status: called.status,
                turns: called.turns,
                calls: called.calls,
                total_tokens: called.tokens,
                cost_usd: called.cost.as_usd(),
            },
            Detail::Image { path, is_new, media_type, width, height, bytes } => Self::ImageGenerationSkill {
                file_path: path,
                media_type,
                width,
                height,
                bytes,
                operation_kind: change_kind(is_new),
            },
        }
    }
}

fn change(detail: &Detail) -> Option<ChangeView> {
    match detail {
        Detail::FileWrite { path, is_new, diff, additions, deletions } => Some(ChangeView {
            path: path.clone(),
            kind: change_kind(*is_new),
            diff: diff.clone(),
            additions: *additions,
            deletions: *deletions,
        }),
        Detail::Image { path, is_new, .. } => Some(ChangeView {
            path: path.clone(),
            kind: change_kind(*is_new),
            diff: String::new(),
            additions: 0,
            deletions: 0,
        }),
        Detail::Command { .. }
        | Detail::Agent(_)
        | Detail::FileRead { .. }
        | Detail::Search { .. }
        | Detail::Todos { .. }
        | Detail::Mcp { .. }
        | Detail::Fetch { .. }
        | Detail::WebSearch { .. } => None,
    }
}

fn change_kind(is_new: bool) -> &'static str {
    if is_new { "created" } else { "modified" }
}

/// Leaves out the middle of a text that is longer than `max` bytes.
fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(max / 2);
    let tail = text.ceil_char_boundary(text.len() - max / 2);
    format!("{}\n… {} bytes left out …\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_ends() {
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("aaäbbbbbbbbbbbäcc", 6), "aa\n… 15 bytes left out …\ncc");
    }
}
