//! A message as clients see it.

use domain::message::Message;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A message of a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadMessage)]
pub(crate) struct MessageView {
    #[schema(example = "msg_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    thread_id: String,
    /// The run that the message caused, or that wrote it.
    run_id: Option<String>,
    /// `user`, `assistant` or `system`.
    #[schema(example = "user")]
    role: &'static str,
    content: String,
    created_at: Timestamp,
    /// The same as `createdAt`.
    timestamp: Timestamp,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    duration_ms: Option<i64>,
    /// Tool calls behind an assistant's message.
    actions_count: Option<i64>,
    log_type: Option<String>,
    log_level: Option<String>,
    #[schema(value_type = Option<Object>)]
    log_metadata: Option<Value>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// When the thread was rewound to before it; only where such messages are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_at: Option<Timestamp>,
    /// Files that came with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    attachments: Vec<Map<String, Value>>,
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        Self {
            id: message.id.into(),
            thread_id: message.thread_id.into(),
            run_id: message.run_id.map(Into::into),
            role: message.role.as_str(),
            content: message.content,
            created_at: message.created_at.into(),
            timestamp: message.created_at.into(),
            input_tokens: message.input_tokens,
            output_tokens: message.output_tokens,
            duration_ms: message.duration_ms,
            actions_count: message.actions_count,
            log_type: None,
            log_level: None,
            log_metadata: None,
            metadata: message.metadata,
            superseded_at: message.superseded_at.map(Into::into),
            attachments: message.attachments.into_iter().map(|attachment| attachment.reference).collect(),
        }
    }
}

impl MessageView {
    /// Leaves out what lists do not show.
    pub(crate) fn compact(self) -> Self {
        Self { metadata: None, ..self }
    }
}
