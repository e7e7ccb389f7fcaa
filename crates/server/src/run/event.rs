//! The events of a run as this client reads them: what it shows, nothing else. What it does not know it leaves out, since
//! servers may say more than it understands.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Event {
    #[serde(rename = "thread.created")]
    ThreadCreated { thread: Thread },
    #[serde(rename = "response.created")]
    ResponseCreated {},
    #[serde(rename = "response.started")]
    ResponseStarted {},
    #[serde(rename = "computer.starting")]
    ComputerStarting {},
    #[serde(rename = "response.item.created")]
    ItemCreated { item: Item },
    #[serde(rename = "response.item.completed")]
    ItemCompleted { item: Item },
    #[serde(rename = "log")]
    Log { log: Log },
    #[serde(rename = "response.content_part.delta")]
    TextDelta { delta: Delta },
    #[serde(rename = "response.reasoning.delta")]
    ReasoningDelta { delta: Delta },
    #[serde(rename = "response.failed")]
    ResponseFailed { response: Response },
    #[serde(rename = "stream.completed")]
    StreamCompleted { run: Run },
    #[serde(other)]
    Other,
}

/// Where an event belongs; the same fields on all of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Origin {
    pub(super) thread_id: Option<String>,
    pub(super) thread: Option<Thread>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Thread {
    pub(super) id: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item {
    Text {
        #[serde(default)]
        content: String,
    },
    Reasoning {
        #[serde(default)]
        content: String,
    },
    ToolCall(ToolCall),
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ToolCall {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    /// JSON in a string.
    #[serde(default)]
    pub(super) arguments: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) content: Option<String>,
    #[serde(default)]
    pub(super) tool: Tool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tool {
    CommandExecution {
        exit_code: Option<i32>,
        #[serde(default)]
        output: String,
    },
    FileRead {
        lines: Option<i64>,
    },
    FileWrite {
        #[serde(default)]
        file_diff: String,
        #[serde(default)]
        additions: i64,
        #[serde(default)]
        deletions: i64,
        #[serde(default)]
        operation_kind: String,
    },
    Search {
        #[serde(default)]
        matches: i64,
    },
    TodoList {
        #[serde(default)]
        todos: Value,
    },
    WebFetch {
        #[serde(default)]
        status: u16,
        #[serde(default)]
        bytes: u64,
    },
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Log {
    #[serde(default)]
    pub(super) message: String,
    #[serde(rename = "type", default)]
    pub(super) level: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Delta {
    #[serde(default)]
    pub(super) text: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Response {
    pub(super) error: Option<Failure>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Failure {
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Run {
    pub(super) status: String,
    pub(super) tokens: Tokens,
    pub(super) cost_usd: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
}
