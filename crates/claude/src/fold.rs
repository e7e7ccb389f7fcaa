//! Folds a stream's events into updates and, at its end, a response.
//!
//! Pure, so that every trap of the format is a table test. The rule throughout: what we do not know is skipped (events,
//! deltas) or kept as it came (blocks, fields); what repeats is ignored; what is missing is an error, because a silently
//! lost piece would stand in the transcript for good.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::block::{Block, empty_object};
use crate::conversation::is_blank;
use crate::object::Object;
use crate::sse::Frame;
use crate::usage::WireUsage;
use crate::{Error, Response, StopReason, Update, Usage};

#[derive(Debug, Default)]
pub(crate) struct Fold {
    started: bool,
    stopped: bool,
    id: String,
    model: String,
    slots: Vec<Slot>,
    /// Whether `message_delta` gave the end of the message, with or without a reason.
    ended: bool,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<Box<RawValue>>,
    usage: Usage,
}

/// One content block, by the index the API gave it.
#[derive(Debug)]
struct Slot {
    index: u32,
    kind: String,
    /// As it came in `content_block_start`, byte for byte.
    raw: Box<RawValue>,
    object: Object,
    /// What deltas brought since, by what they append to.
    text: Option<String>,
    input: String,
    citations: Vec<Box<RawValue>>,
    touched: bool,
    done: Option<Done>,
}

#[derive(Debug)]
struct Done {
    json: Box<RawValue>,
    view: Block,
}

#[derive(Deserialize)]
struct MessageStart {
    message: StartedMessage,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct StartedMessage {
    id: Option<String>,
    model: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct BlockStart {
    index: u32,
    content_block: Box<RawValue>,
}

#[derive(Deserialize)]
struct BlockDelta {
    index: u32,
    delta: Delta,
}

/// Every field any delta has; which of them count follows from `type`.
#[derive(Deserialize)]
struct Delta {
    r#type: String,
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    citation: Option<Box<RawValue>>,
    content: Option<Box<RawValue>>,
    encrypted_content: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u32,
}

#[derive(Deserialize)]
struct MessageDelta {
    #[serde(default)]
    delta: Ending,
    usage: Option<WireUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ending {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ErrorEvent {
    error: ErrorBody,
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    r#type: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct FallbackTo<'a> {
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
}

impl Fold {
    /// Takes one frame and appends what it makes known to `updates`.
    pub(crate) fn frame(&mut self, frame: &Frame, updates: &mut Vec<Update>) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        self.apply(frame, updates).map_err(|err| err.mark_output(self.has_output()))
    }

    fn apply(&mut self, frame: &Frame, updates: &mut Vec<Update>) -> Result<(), Error> {
        let data = frame.data.as_str();
        match frame.event.as_str() {
            "message_start" => self.message_start(parse(data, "message_start")?, updates),
            "content_block_start" => self.block_start(parse(data, "content_block_start")?),
            "content_block_delta" => self.block_delta(parse(data, "content_block_delta")?, updates),
            "content_block_stop" => {
                let stop: BlockStop = parse(data, "content_block_stop")?;
                if let Some(slot) = self.slots.iter_mut().find(|slot| slot.index == stop.index) {
                    slot.finish(updates);
                    self.model_of_fallback(stop.index);
                }
                Ok(())
            }
            "message_delta" => {
                self.message_delta(parse(data, "message_delta")?);
                Ok(())
            }
            "message_stop" => self.finish(updates),
            "error" => Err(self.error_event(data)),
            // `ping`, frames without a name, and whatever the API invents.
            _ => Ok(()),
        }
    }

    /// Whether a block has been completed, which forbids repeating the request silently.
    pub(crate) fn has_output(&self) -> bool {
        self.slots.iter().any(|slot| slot.done.is_some())
    }

    /// Whether `message_stop` came.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The stream is over. Some back ends leave `message_stop` out: when all else is there, nothing is missing.
    pub(crate) fn end_of_stream(&mut self, updates: &mut Vec<Update>) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        if self.ended && self.stop_reason.is_some() && self.slots.iter().all(|slot| slot.done.is_some()) {
            return self.finish(updates);
        }
        Err(Error::Truncated { after_output: self.has_output(), source: None })
    }

    /// The whole reply, once stopped.
    pub(crate) fn into_response(self, request_id: Option<String>) -> Response {
        let mut done: Vec<(u32, Done)> =
            self.slots.into_iter().filter_map(|slot| Some((slot.index, slot.done?))).collect();
        done.sort_by_key(|(index, _)| *index);
        let mut tool_uses = Vec::new();
        let mut text = String::new();
        let mut content = String::from("[");
        for (_, block) in done {
            match block.view {
                Block::ToolUse(call) => tool_uses.push(call),
                Block::Text { text: piece } => {
                    if piece.trim().is_empty() {
                        continue;
                    }
                    text.push_str(&piece);
                }
                _ => {}
            }
            if content.len() > 1 {
                content.push(',');
            }
            content.push_str(block.json.get());
        }
        content.push(']');
        Response {
            id: self.id,
            model: self.model,
            content: RawValue::from_string(content).expect("an array of JSON is JSON"),
            tool_uses,
            text,
            stop_reason: StopReason::parse(self.stop_reason.as_deref()),
            stop_sequence: self.stop_sequence,
            stop_details: self.stop_details,
            usage: self.usage,
            request_id,
        }
    }

    fn message_start(&mut self, start: MessageStart, updates: &mut Vec<Update>) -> Result<(), Error> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        self.id = start.message.id.unwrap_or_default();
        self.model = start.message.model.unwrap_or_default();
        if let Some(usage) = start.message.usage {
            usage.apply(&mut self.usage);
        }
        updates.push(Update::Started { id: self.id.clone(), model: self.model.clone() });
        Ok(())
    }

    fn block_start(&mut self, start: BlockStart) -> Result<(), Error> {
        if !self.started {
            return Err(Error::protocol("a content block came before message_start"));
        }
        if self.slots.iter().any(|slot| slot.index == start.index) {
            return Ok(());
        }
        let object: Object = serde_json::from_str(start.content_block.get())
            .map_err(|_| Error::protocol("a content block is not an object"))?;
        let kind = object.text("type").ok_or_else(|| Error::protocol("a content block has no type"))?;
        self.slots.push(Slot {
            index: start.index,
            kind,
            raw: start.content_block,
            object,
            text: None,
            input: String::new(),
            citations: Vec::new(),
            touched: false,
            done: None,
        });
        Ok(())
    }

    fn block_delta(&mut self, event: BlockDelta, updates: &mut Vec<Update>) -> Result<(), Error> {
        let BlockDelta { index, delta } = event;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.index == index) else {
            return match delta.r#type.as_str() {
                "text_delta" | "input_json_delta" | "thinking_delta" | "signature_delta" | "citations_delta" => {
                    Err(Error::protocol(format!("a delta came for block {index}, which never started")))
                }
                _ => Ok(()),
            };
        };
        // A repeated block: its deltas are already in.
        if slot.done.is_none() {
            slot.apply(delta, updates);
        }
        Ok(())
    }

    fn message_delta(&mut self, event: MessageDelta) {
        self.ended = true;
        let Ending { stop_reason, stop_sequence, stop_details } = event.delta;
        self.stop_reason = stop_reason.or(self.stop_reason.take());
        self.stop_sequence = stop_sequence.or(self.stop_sequence.take());
        self.stop_details = stop_details.or(self.stop_details.take());
        if let Some(usage) = event.usage {
            usage.apply(&mut self.usage);
        }
    }

    fn finish(&mut self, updates: &mut Vec<Update>) -> Result<(), Error> {
        if !self.started {
            return Err(Error::protocol("message_stop came before message_start"));
        }
        for slot in &mut self.slots {
            slot.finish(updates);
        }
        self.stopped = true;
        Ok(())
    }

    /// After a fallback block, the model named in it is the one that answers and is billed.
    fn model_of_fallback(&mut self, index: u32) {
        let Some(slot) = self.slots.iter().find(|slot| slot.index == index && slot.kind == "fallback") else { return };
        let Some(to) = slot.object.get("to") else { return };
        let model = slot
            .object
            .text("to")
            .or_else(|| serde_json::from_str::<FallbackTo<'_>>(to.get()).ok().map(|to| to.model.into_owned()));
        if let Some(model) = model {
            self.model = model;
        }
    }

    fn error_event(&self, data: &str) -> Error {
        let after_output = self.has_output();
        let Ok(event) = serde_json::from_str::<ErrorEvent>(data) else {
            return Error::protocol(format!("an error event that is no JSON: {}", excerpt(data)));
        };
        let kind = event.error.r#type.unwrap_or_default();
        let message = event.error.message.unwrap_or_default();
        let request_id = event.request_id;
        match kind.as_str() {
            "overloaded_error" | "rate_limit_error" => {
                Error::Overloaded { status: None, kind, message, request_id, after_output }
            }
            _ => Error::Stream { kind, message, request_id, after_output },
        }
    }
}

impl Slot {
    fn apply(&mut self, delta: Delta, updates: &mut Vec<Update>) {
        match delta.r#type.as_str() {
            "text_delta" => {
                let piece = delta.text.unwrap_or_default();
                self.append("text", &piece);
                updates.push(Update::Text(piece));
            }
            "thinking_delta" => {
                let piece = delta.thinking.unwrap_or_default();
                self.append("thinking", &piece);
                updates.push(Update::Thinking(piece));
            }
            "signature_delta" => {
                self.touched = true;
                self.object.set_text("signature", &delta.signature.unwrap_or_default());
            }
            "input_json_delta" => {
                let partial = delta.partial_json.unwrap_or_default();
                self.touched = true;
                self.input.push_str(&partial);
                if self.kind == "tool_use" && !partial.is_empty() {
                    let name = self.object.text("name").unwrap_or_default();
                    updates.push(Update::ToolInput { index: self.index, name, partial });
                }
            }
            "citations_delta" => {
                if let Some(citation) = delta.citation {
                    self.touched = true;
                    self.citations.push(citation);
                }
            }
            "compaction_delta" => {
                self.touched = true;
                for (name, value) in [("content", delta.content), ("encrypted_content", delta.encrypted_content)] {
                    if let Some(value) = value {
                        self.object.set(name, value);
                    }
                }
            }
            _ => {}
        }
    }

    fn append(&mut self, field: &str, piece: &str) {
        self.touched = true;
        let object = &self.object;
        self.text.get_or_insert_with(|| object.text(field).unwrap_or_default()).push_str(piece);
    }

    /// Closes the block, once.
    fn finish(&mut self, updates: &mut Vec<Update>) {
        if self.done.is_some() {
            return;
        }
        if let Some(text) = self.text.take() {
            self.object.set_text(if self.kind == "thinking" { "thinking" } else { "text" }, &text);
        }
        if !self.citations.is_empty() {
            let mut all: Vec<Box<RawValue>> = self
                .object
                .get("citations")
                .and_then(|citations| {
                    serde_json::from_str::<Option<Vec<Box<RawValue>>>>(citations.get()).ok().flatten()
                })
                .unwrap_or_default();
            all.append(&mut self.citations);
            self.object.set("citations", serde_json::value::to_raw_value(&all).expect("an array of JSON is JSON"));
        }
        let input =
            matches!(self.kind.as_str(), "tool_use" | "server_tool_use" | "mcp_tool_use").then(|| self.finish_input());
        let json = if self.touched { self.object.render() } else { self.raw.clone() };
        let view = Block::view(&self.kind, &self.object, input);
        let is_blank_text = self.kind == "text" && is_blank(self.object.get("text"));
        if !is_blank_text {
            updates.push(Update::Block(view.clone()));
        }
        self.done = Some(Done { json, view });
    }

    /// The input as the model wrote it, or the text that is no JSON object; then the block holds `{}` instead.
    fn finish_input(&mut self) -> Result<Box<RawValue>, String> {
        let text = std::mem::take(&mut self.input);
        if text.trim().is_empty() {
            // No delta: some back ends put the whole input into the start.
            if let Some(given) = self.object.get("input").filter(|input| is_json_object(input.get())) {
                return Ok(given.to_owned());
            }
            self.touched = true;
            self.object.set("input", empty_object());
            return Ok(empty_object());
        }
        self.touched = true;
        match RawValue::from_string(text.trim().to_owned()) {
            Ok(input) if is_json_object(input.get()) => {
                self.object.set("input", input.clone());
                Ok(input)
            }
            _ => {
                self.object.set("input", empty_object());
                Err(text)
            }
        }
    }
}

/// A whole parse, since the raw kind lets unpaired surrogates through, which the API would refuse to take back.
fn is_json_object(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<serde_json::Value>(text).is_ok()
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str, event: &str) -> Result<T, Error> {
    serde_json::from_str(data).map_err(|err| Error::protocol(format!("{event} is not as the API defines it ({err})")))
}

/// The first part of a text that goes into an error message.
pub(crate) fn excerpt(text: &str) -> &str {
    const LONGEST: usize = 300;
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
