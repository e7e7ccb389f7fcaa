//! A finished reply.

use serde_json::value::RawValue;

use crate::{ToolUse, Usage};

/// What the model said in one turn.
#[derive(Debug, Clone)]
pub struct Response {
    /// The API's id of the message.
    pub id: String,
    /// The model that answered, which a fallback may have changed.
    pub model: String,
    /// The JSON array of content blocks to append to the transcript: byte-stable, unknown blocks kept, blank text left
    /// out. `[]` when nothing is left, and then there is no message to append.
    pub content: Box<RawValue>,
    /// The calls in `content`, in order. Run them only when `stop_reason` is [`StopReason::ToolUse`].
    pub tool_uses: Vec<ToolUse>,
    /// All text blocks, joined.
    pub text: String,
    pub stop_reason: StopReason,
    /// The sequence, where `stop_reason` is [`StopReason::StopSequence`].
    pub stop_sequence: Option<String>,
    /// `{type, category, explanation}` of a refusal, as sent.
    pub stop_details: Option<Box<RawValue>>,
    pub usage: Usage,
    /// The `request-id` header.
    pub request_id: Option<String>,
}

impl Response {
    /// Gives the model's own words on why it refused, where it gave any.
    pub fn refusal_explanation(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Details {
            explanation: Option<String>,
            category: Option<String>,
        }
        let details: Details = serde_json::from_str(self.stop_details.as_ref()?.get()).ok()?;
        details.explanation.or(details.category)
    }
}

/// Why the model stopped, which decides what the loop does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    EndTurn,
    ToolUse,
    /// The server's own tool loop paused: append the reply and ask again.
    PauseTurn,
    /// Cut at `max_tokens`: run no call of this reply.
    MaxTokens,
    StopSequence,
    /// Do not store the reply.
    Refusal,
    /// The window was full before `max_tokens`.
    ContextWindowExceeded,
    Compaction,
    /// A reason we do not know, or `null`: stop and run nothing.
    Other(String),
}

impl StopReason {
    pub(crate) fn parse(reason: Option<&str>) -> Self {
        match reason {
            Some("end_turn") => Self::EndTurn,
            Some("tool_use") => Self::ToolUse,
            Some("pause_turn") => Self::PauseTurn,
            Some("max_tokens") => Self::MaxTokens,
            Some("stop_sequence") => Self::StopSequence,
            Some("refusal") => Self::Refusal,
            Some("model_context_window_exceeded") => Self::ContextWindowExceeded,
            Some("compaction") => Self::Compaction,
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Other("null".to_owned()),
        }
    }

    /// The API's name of the reason.
    pub fn as_str(&self) -> &str {
        match self {
            Self::EndTurn => "end_turn",
            Self::ToolUse => "tool_use",
            Self::PauseTurn => "pause_turn",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::Refusal => "refusal",
            Self::ContextWindowExceeded => "model_context_window_exceeded",
            Self::Compaction => "compaction",
            Self::Other(other) => other,
        }
    }
}
