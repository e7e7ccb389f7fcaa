//! What is asked of the model, apart from the conversation, and how both become one body.
//!
//! Field order never changes and the messages come last: everything before them is the same bytes in every turn of a run.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Conversation, Error};

/// One request, without its conversation.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Passed through as it is; resolve aliases before ([`crate::Catalogue::resolve_alias`]).
    pub model: String,
    /// The most tokens the reply may take, thinking included.
    pub max_tokens: u32,
    /// Text blocks of the system prompt; blank ones are left out.
    pub system: Vec<String>,
    pub tools: Vec<Tool>,
    /// Tools the API defines (`{"type":"web_search_20250305",…}`), sent as they are after `tools`.
    pub anthropic_tools: Vec<Box<RawValue>>,
    pub thinking: Option<Thinking>,
    pub effort: Option<Effort>,
    pub stop_sequences: Vec<String>,
    /// Opaque id of the end user (`metadata.user_id`); no personal data.
    pub metadata_user: Option<String>,
    /// Names for the `anthropic-beta` header. An unknown one is a 400.
    pub betas: Vec<String>,
    pub caching: Caching,
}

/// Where breakpoints for the prompt cache go, and how long the cache keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caching {
    /// No `cache_control` at all, for back ends that refuse it.
    Off,
    #[default]
    FiveMinutes,
    /// Everything for an hour, at 2 × instead of 1.25 × the input price for each write.
    OneHour,
}

impl Caching {
    fn marker(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::FiveMinutes => Some(r#""cache_control":{"type":"ephemeral"}"#),
            Self::OneHour => Some(r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#),
        }
    }
}

/// A tool of ours, which the model may call and we run.
#[derive(Debug, Clone, Serialize)]
pub struct Tool {
    /// Letters, digits, `_` and `-`, 1 to 64 of them.
    pub name: String,
    pub description: String,
    /// A JSON schema of type object, sent byte for byte.
    pub input_schema: Box<RawValue>,
}

/// How the model may think. Which of these a model takes is in [`crate::Model::thinking`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        display: Option<ThinkingDisplay>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        block_binding: Option<BlockBinding>,
    },
    /// Models before 4.6. At least 1024 and less than `max_tokens`.
    Enabled {
        budget_tokens: u32,
    },
    Disabled,
    /// Short notes between tool calls instead of deep thinking; Sonnet 5.5 on.
    BetweenTools,
}

/// What becomes of thinking that was made under another prefix (system prompt, tools, earlier messages) than it is sent
/// back under. Wants the beta `thinking-binding-controls-2026-08-01`; without, the request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "prefix_mismatch_behavior", rename_all = "snake_case")]
pub enum BlockBinding {
    DropBlock,
}

/// Whether thinking blocks carry text or only their signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingDisplay {
    Summarized,
    Omitted,
}

/// How much the model should spend on an answer (`output_config.effort`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

#[derive(Serialize)]
struct Head<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct OutputConfig {
    effort: Effort,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

impl Request {
    /// The body to send: JSON, the head, then tools, system and messages in the order the cache hashes them.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<Bytes, Error> {
        if conversation.is_empty() {
            return Err(Error::Invalid("a request needs at least one message".into()));
        }
        let marker = self.caching.marker();
        let mut body = Vec::with_capacity(conversation.size_bytes() + self.size_hint());
        let head = Head {
            model: &self.model,
            max_tokens: self.max_tokens,
            stream: true,
            thinking: self.thinking.as_ref(),
            output_config: self.effort.map(|effort| OutputConfig { effort }),
            stop_sequences: &self.stop_sequences,
            metadata: self.metadata_user.as_deref().map(|user_id| Metadata { user_id }),
        };
        write_json(&mut body, &head);
        body.pop();

        let system: Vec<&String> = self.system.iter().filter(|text| !text.trim().is_empty()).collect();
        let tool_count = self.tools.len() + self.anthropic_tools.len();
        if tool_count > 0 {
            body.extend_from_slice(b",\"tools\":[");
            let ours = self.tools.iter().map(serde_json::value::to_raw_value);
            let theirs = self.anthropic_tools.iter().cloned().map(Ok);
            for (position, tool) in ours.chain(theirs).enumerate() {
                let tool: Box<RawValue> = tool.map_err(|_| Error::Invalid("a tool is not JSON".into()))?;
                // Tools and system are one prefix: where there is a system prompt, its end covers the tools.
                let marked = marker.filter(|_| system.is_empty() && position + 1 == tool_count);
                write_marked(&mut body, position, tool.get(), marked);
            }
            body.push(b']');
        }
        if !system.is_empty() {
            body.extend_from_slice(b",\"system\":[");
            for (position, text) in system.iter().enumerate() {
                let marked = marker.filter(|_| position + 1 == system.len());
                let text = serde_json::to_string(text).expect("a string is always JSON");
                write_marked(&mut body, position, &format!("{{\"type\":\"text\",\"text\":{text}}}"), marked);
            }
            body.push(b']');
        }
        body.extend_from_slice(b",\"messages\":");
        conversation.render(&mut body, marker);
        body.push(b'}');
        Ok(body.into())
    }

    fn size_hint(&self) -> usize {
        let tools: usize =
            self.tools.iter().map(|tool| tool.description.len() + tool.input_schema.get().len() + 200).sum();
        let system: usize = self.system.iter().map(|text| text.len() + text.len() / 16 + 100).sum();
        tools + system + 1024
    }
}

fn write_json(body: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(body, value).expect("strings and numbers are always JSON, and a vector takes every byte");
}

/// Appends one object of an array, with the cache marker as its last member.
fn write_marked(body: &mut Vec<u8>, position: usize, object: &str, marker: Option<&str>) {
    if position > 0 {
        body.push(b',');
    }
    match (marker, object.strip_suffix('}')) {
        (Some(marker), Some(open)) => {
            body.extend_from_slice(open.as_bytes());
            body.push(b',');
            body.extend_from_slice(marker.as_bytes());
            body.push(b'}');
        }
        _ => body.extend_from_slice(object.as_bytes()),
    }
}
