//! A reply as the API sends it: frames of a stream, or one JSON message.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cache::{Counted, Hash};
use crate::check;
use crate::reply::{Block, Reply};

/// What a reply needs to know of its request.
pub(crate) struct Envelope<'a> {
    pub(crate) id: String,
    pub(crate) model: &'a str,
    pub(crate) counted: Counted,
    /// The hash of the whole prompt; thinking is bound to it.
    pub(crate) prompt: Hash,
}

impl Envelope<'_> {
    fn usage(&self, reply: &Reply, output_tokens: u64) -> Value {
        let given = &reply.usage;
        let counted = &self.counted;
        let written = given.cache_creation_input_tokens.unwrap_or(counted.written_5m + counted.written_1h);
        let long = if given.cache_creation_input_tokens.is_some() { 0 } else { counted.written_1h };
        let mut usage = json!({
            "input_tokens": given.input_tokens.unwrap_or(counted.input),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": given.cache_read_input_tokens.unwrap_or(counted.read),
            "cache_creation": { "ephemeral_5m_input_tokens": written - long, "ephemeral_1h_input_tokens": long },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        });
        if let Some(searches) = given.web_search_requests {
            usage["server_tool_use"] = json!({ "web_search_requests": searches, "web_fetch_requests": 0 });
        }
        usage
    }

    /// The blocks with ids and signatures, as a non-streaming answer holds them.
    fn blocks(&self, reply: &Reply) -> Vec<Value> {
        let seed = &blake3::Hash::from_bytes(self.prompt).to_hex()[..8];
        let mut thinking_before: Option<&str> = None;
        let mut blocks = Vec::with_capacity(reply.blocks.len());
        for (at, block) in reply.blocks.iter().enumerate() {
            blocks.push(match block {
                Block::Text { text } => json!({ "type": "text", "text": text }),
                Block::Thinking { thinking } => {
                    thinking_before = Some(thinking);
                    let signature = check::signature(&self.prompt, thinking);
                    json!({ "type": "thinking", "thinking": thinking, "signature": signature })
                }
                Block::ToolUse { name, input, id, .. } => {
                    let id = id.clone().unwrap_or_else(|| check::call_id(seed, at, thinking_before));
                    json!({ "type": "tool_use", "id": id, "name": name, "input": input })
                }
                Block::Raw { block } => Value::Object(block.clone()),
            });
        }
        blocks
    }

    /// The answer to a request without `stream`.
    pub(crate) fn message(&self, reply: &Reply) -> Value {
        let blocks = self.blocks(reply);
        let output = output_tokens(reply, &blocks);
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": blocks,
            "stop_reason": reply.stop_reason(), "stop_sequence": null, "stop_details": reply.stop_details,
            "usage": self.usage(reply, output),
        })
    }

    /// The frames of a stream, in order.
    pub(crate) fn frames(&self, reply: &Reply) -> Vec<String> {
        let blocks = self.blocks(reply);
        let output = output_tokens(reply, &blocks);
        let mut frames = Vec::with_capacity(8 + blocks.len() * 8);
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": self.usage(reply, 1),
        });
        frames.push(frame("message_start", &json!({ "type": "message_start", "message": message })));
        for (at, (block, source)) in blocks.iter().zip(&reply.blocks).enumerate() {
            let mut start = block.clone();
            let mut deltas = Vec::new();
            match source {
                Block::Text { text } => {
                    start["text"] = "".into();
                    deltas.extend(pieces(text, 24).map(|piece| json!({ "type": "text_delta", "text": piece })));
                }
                Block::Thinking { thinking } => {
                    start["thinking"] = "".into();
                    start["signature"] = "".into();
                    deltas.extend(
                        pieces(thinking, 40).map(|piece| json!({ "type": "thinking_delta", "thinking": piece })),
                    );
                    deltas.push(json!({ "type": "signature_delta", "signature": block["signature"] }));
                }
                Block::ToolUse { input, input_text, .. } => {
                    start["input"] = json!({});
                    let text = input_text.clone().unwrap_or_else(|| match input {
                        Value::Object(fields) if fields.is_empty() => String::new(),
                        input => input.to_string(),
                    });
                    let piece = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
                    deltas.push(piece(""));
                    deltas.extend(pieces(&text, 64).map(piece));
                }
                Block::Raw { .. } => {}
            }
            let start = json!({ "type": "content_block_start", "index": at, "content_block": start });
            frames.push(frame("content_block_start", &start));
            if at == 0 {
                frames.push(frame("ping", &json!({ "type": "ping" })));
            }
            for delta in deltas {
                let delta = json!({ "type": "content_block_delta", "index": at, "delta": delta });
                frames.push(frame("content_block_delta", &delta));
            }
            frames.push(frame("content_block_stop", &json!({ "type": "content_block_stop", "index": at })));
        }
        let mut delta = json!({ "stop_reason": reply.stop_reason(), "stop_sequence": null });
        if let Some(details) = &reply.stop_details {
            delta["stop_details"] = details.clone();
        }
        let delta = json!({ "type": "message_delta", "delta": delta, "usage": self.usage(reply, output) });
        frames.push(frame("message_delta", &delta));
        frames.push(frame("message_stop", &json!({ "type": "message_stop" })));
        frames
    }
}

pub(crate) fn frame(event: &str, data: &Value) -> String {
    let mut frame = String::with_capacity(160);
    write!(frame, "event: {event}\ndata: {data}\n\n").expect("a string takes everything");
    frame
}

/// Cuts a text after about `size` bytes, between characters, and at a space where one is near.
fn pieces(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(size);
        if end < rest.len() {
            if let Some(space) =
                rest.as_bytes()[..end].iter().rposition(|&byte| byte == b' ').filter(|&at| at > size / 2)
            {
                end = space + 1;
            }
            while !rest.is_char_boundary(end) {
                end += 1;
            }
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

fn output_tokens(reply: &Reply, blocks: &[Value]) -> u64 {
    let counted = || blocks.iter().map(|block| block.to_string().len() as u64 / 4 + 1).sum::<u64>() + 2;
    reply.usage.output_tokens.unwrap_or_else(counted)
}
