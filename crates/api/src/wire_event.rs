//! The events of a stream as clients see them: names and shapes of the `data:` objects.
//!
//! What happened is a `domain::event::Event`; one of those becomes one of these, or several at the end of a run, since
//! clients look for the final text, the error and the end in different places. Making them is `render`, the bytes are
//! `frame`. Source of the shapes: SDK 2.6.6 and 2.6.1, the event catalogue of the platform's documentation.

use domain::subagent::Subagent;
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

mod frame;
mod item;
mod render;

pub(crate) use frame::{comment, write_frame};
pub(crate) use item::ItemView;
pub(crate) use render::{render, render_answer, render_delta, render_end, render_gap};

/// The `data:` object of an event in a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamEvent)]
pub(crate) struct WireEvent {
    #[serde(flatten)]
    pub kind: Kind,
    /// The event's number in the thread, to resume after. Only where the whole event has been sent with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    #[serde(flatten)]
    pub origin: Option<Origin>,
    #[serde(flatten)]
    pub nested: Option<Nested>,
}

/// What an event says in addition that happened to an agent which the run has called.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamNesting)]
pub(crate) struct Nested {
    /// The call that the agent answers: the `id` of its item.
    pub parent_tool_use_id: String,
    pub subagent: SubagentView,
}

/// An agent that a run has called.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamSubagent)]
pub(crate) struct SubagentView {
    /// Its own run.
    pub run_id: String,
    pub parent_run_id: String,
    pub name: String,
    pub description: String,
}

impl From<&Subagent> for SubagentView {
    fn from(agent: &Subagent) -> Self {
        Self {
            run_id: agent.run_id.to_string(),
            parent_run_id: agent.parent_run_id.to_string(),
            name: agent.name.clone(),
            description: agent.description.clone(),
        }
    }
}

/// Where a durable event comes from.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamOrigin)]
pub(crate) struct Origin {
    pub thread_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    pub timestamp: Timestamp,
}

/// What happened, told apart by `type`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamEventKind)]
#[serde(tag = "type")]
pub(crate) enum Kind {
    /// The thread was made, together with its first run.
    #[serde(rename = "thread.created")]
    ThreadCreated { thread: CreatedThread },
    /// A run was accepted.
    #[serde(rename = "response.created")]
    ResponseCreated { response: ResponseView },
    /// A worker began the run.
    #[serde(rename = "response.started")]
    ResponseStarted { response: ResponseView },
    /// The run stands still until somebody resumes it.
    #[serde(rename = "run.paused")]
    RunPaused {},
    /// A note for the run came in; the model has not read it yet.
    #[serde(rename = "steering.received")]
    SteeringReceived { steering: SteeringView },
    /// The model reads the note with its next turn.
    #[serde(rename = "steering.delivered")]
    SteeringDelivered { steering: SteeringView },
    /// A call is not made before somebody allows it.
    #[serde(rename = "permission.requested")]
    PermissionRequested { request: AskedView },
    /// It was decided about a call.
    #[serde(rename = "permission.decided")]
    PermissionDecided { decision: DecidedView },
    /// The computer is being started.
    #[serde(rename = "computer.starting")]
    ComputerStarting {},
    /// The model asked for a tool.
    #[serde(rename = "response.item.created")]
    ItemCreated { item: ItemView },
    /// A piece of the work is finished: text, thinking, or a tool call with its result.
    #[serde(rename = "response.item.completed")]
    ItemCompleted { item: ItemView },
    /// A line for people.
    #[serde(rename = "log")]
    Log { log: LogView },
    /// What the model reads of the conversation so far was replaced by a summary.
    #[serde(rename = "context.compacted")]
    ContextCompacted { context: CompactedView },
    /// Something happened to a session of deep research.
    #[serde(rename = "deep_research")]
    DeepResearch(Box<ResearchEvent>),
    /// Events that were asked for and are kept no longer. What is told goes on after them.
    #[serde(rename = "gap")]
    Gap { gap: GapView },
    /// A piece of text on its way; the finished item repeats it.
    #[serde(rename = "response.content_part.delta")]
    TextDelta { delta: DeltaView },
    /// A piece of thinking on its way; the finished item repeats it.
    #[serde(rename = "response.reasoning.delta")]
    ReasoningDelta { delta: DeltaView },
    /// A piece of a running tool's output; the finished item repeats it.
    #[serde(rename = "response.tool_output.delta")]
    ToolOutputDelta {
        #[serde(rename = "itemId")]
        item_id: String,
        delta: DeltaView,
    },
    /// The run's answer, in full.
    #[serde(rename = "response.completed")]
    ResponseCompleted { response: ResponseView },
    /// The run failed or was cancelled.
    #[serde(rename = "response.failed")]
    ResponseFailed { response: ResponseView },
    /// The failure for clients that look for it here. Both texts are the same sentence.
    #[serde(rename = "stream.error")]
    StreamError { error: String, message: String, code: String },
    /// The run is over. The last event of a run's stream.
    #[serde(rename = "stream.completed")]
    StreamCompleted {
        run: RunSummary,
        /// Only where the run was put off: then nothing of it has happened yet, and this stream tells no more of it.
        #[serde(flatten)]
        admission: Option<Admission>,
    },
}

impl WireEvent {
    /// An event that is no part of a thread's log.
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, sequence: None, origin: None, nested: None }
    }
}

impl Kind {
    /// Gives the event's name: its `type`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ThreadCreated { .. } => "thread.created",
            Self::ResponseCreated { .. } => "response.created",
            Self::ResponseStarted { .. } => "response.started",
            Self::RunPaused {} => "run.paused",
            Self::SteeringReceived { .. } => "steering.received",
            Self::SteeringDelivered { .. } => "steering.delivered",
            Self::PermissionRequested { .. } => "permission.requested",
            Self::PermissionDecided { .. } => "permission.decided",
            Self::ComputerStarting {} => "computer.starting",
            Self::ItemCreated { .. } => "response.item.created",
            Self::ItemCompleted { .. } => "response.item.completed",
            Self::Log { .. } => "log",
            Self::ContextCompacted { .. } => "context.compacted",
            Self::DeepResearch(_) => "deep_research",
            Self::Gap { .. } => "gap",
            Self::TextDelta { .. } => "response.content_part.delta",
            Self::ReasoningDelta { .. } => "response.reasoning.delta",
            Self::ToolOutputDelta { .. } => "response.tool_output.delta",
            Self::ResponseCompleted { .. } => "response.completed",
            Self::ResponseFailed { .. } => "response.failed",
            Self::StreamError { .. } => "stream.error",
            Self::StreamCompleted { .. } => "stream.completed",
        }
    }
}

/// The thread that was made. The only way a streaming creator learns its id.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamThread)]
pub(crate) struct CreatedThread {
    pub id: String,
    /// Always `running`.
    pub status: &'static str,
    pub environment_id: String,
}

/// A run as an answer to a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamResponse)]
pub(crate) struct ResponseView {
    #[schema(example = "resp_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    pub id: String,
    /// `in_progress`, `completed`, `failed` or `cancelled`.
    pub status: &'static str,
    /// The full final text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FailureView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// A call that waits for somebody to allow it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamPermissionRequest)]
pub(crate) struct AskedView {
    pub request_id: String,
    /// The item that the call is.
    pub item_id: String,
    pub tool_name: String,
    /// The tool's input, as a string of JSON.
    pub input: String,
    pub reason: String,
    /// The rule or level that asks.
    pub rule: String,
    /// From then on it is denied.
    pub expires_at: Timestamp,
}

/// What was decided about a call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamPermissionDecision)]
pub(crate) struct DecidedView {
    pub request_id: String,
    /// The item that the call is.
    pub item_id: String,
    pub tool_name: String,
    /// `allow` or `deny`.
    #[schema(value_type = String)]
    pub decision: domain::permission::Decision,
    /// `user`, `expiry` (nobody did in time) or `cancel` (the run ended first).
    #[schema(value_type = String)]
    pub by: domain::permission::Decider,
    pub reason: Option<String>,
    /// What the call is made with instead of its input, as a string of JSON.
    pub updated_input: Option<String>,
}

/// Why a run failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamFailure)]
pub(crate) struct FailureView {
    pub message: String,
    /// A stable word, for example `model_error`.
    pub code: String,
}

/// Tokens, in both spellings that clients read.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = TokenUsage)]
pub(crate) struct Usage {
    /// All tokens of the prompts, cached or not.
    #[serde(rename = "inputTokens")]
    pub input_tokens_camel: i64,
    #[serde(rename = "outputTokens")]
    pub output_tokens_camel: i64,
    #[serde(rename = "cachedTokens")]
    pub cached_tokens_camel: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Those of the input that a cache served.
    pub cached_tokens: i64,
    pub total_tokens: i64,
}

/// A run that was put off, since there is no room for it now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamAdmission)]
pub(crate) struct Admission {
    /// Always true.
    pub queued: bool,
    /// The run's id.
    pub batch_job_id: String,
    /// Always `runtime_capacity_unavailable`.
    pub admission_reason: &'static str,
}

/// A note to a run under way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SteeringView {
    #[schema(example = "steer_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    pub id: String,
    /// `fyi` or `checkpoint`.
    #[schema(example = "checkpoint")]
    pub mode: &'static str,
    pub content: String,
}

/// How a run ended and what it used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamRun)]
pub(crate) struct RunSummary {
    pub id: String,
    /// `completed`, `failed` or `cancelled`; `queued` where it was put off.
    pub status: &'static str,
    /// Why: `completed`, `cancelled`, `interrupted`, a limit (`budget`, `max_turns`, `max_tokens`, `timeout`) or the code
    /// of a failure.
    #[schema(example = "completed")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    pub tokens: Tokens,
    pub total_tokens: i64,
    pub cost_usd: f64,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = TokenPair)]
pub(crate) struct Tokens {
    pub input: i64,
    pub output: i64,
}

/// A line for people.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamLog)]
pub(crate) struct LogView {
    /// `MM:SS` since the run began.
    #[schema(example = "01:23")]
    pub time: String,
    pub message: String,
    /// `info`, `warning`, `error` or `success`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "info")]
    pub level: domain::event::LogLevel,
    #[schema(example = "startup")]
    pub event_type: String,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
}

/// A context that was compacted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CompactedContext)]
pub(crate) struct CompactedView {
    /// `auto` or `manual`.
    #[schema(value_type = String, example = "auto")]
    pub trigger: domain::event::Trigger,
    pub pre_tokens: i64,
    /// An estimate.
    pub post_tokens: i64,
}

/// Something that happened to a session of deep research.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamDeepResearch)]
pub(crate) struct ResearchEvent {
    /// `started`, `resumed`, `planned`, `progress`, `writing`, `verifying`, `completed`, `failed` or `cancelled`.
    #[schema(example = "progress")]
    pub event: &'static str,
    /// The session's id; the same as `interactionId`.
    pub session_id: String,
    pub interaction_id: String,
    /// The question.
    pub topic: String,
    /// A sentence about what happened.
    pub thinking_summary: String,
    /// The report in the workspace, once there is one.
    pub report_file: Option<String>,
    /// The list of its sources, beside it.
    pub report_manifest_file: Option<String>,
    /// Pages that were read so far.
    pub sources_count: i32,
    /// Those that the report cites, once there is one: the first fifty.
    pub sources: Vec<CitedView>,
    pub elapsed_seconds: i64,
    pub error_message: Option<String>,
    /// Always null: research is done by the server, not in the computer.
    pub runtime_path: Option<String>,
    /// How often it was taken up again after an interruption.
    pub resume_attempt: i32,
    /// Of the report, in characters.
    pub report_length: Option<i64>,
}

/// A page that a report cites.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CitedPage)]
pub(crate) struct CitedView {
    pub url: String,
    pub title: Option<String>,
}

/// Events that are kept no longer: the beginning of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventGap)]
pub(crate) struct GapView {
    /// The number of the first one.
    #[schema(example = 1)]
    pub from: i64,
    /// The number of the last one.
    #[schema(example = 57)]
    pub to: i64,
    /// Always `retention`: they are older than the server keeps events.
    pub reason: &'static str,
}

impl From<store::events::Gap> for GapView {
    fn from(gap: store::events::Gap) -> Self {
        Self { from: gap.from, to: gap.to, reason: "retention" }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamDelta)]
pub(crate) struct DeltaView {
    pub text: String,
}
