//! The messages of a conversation, kept as the bytes that are sent.
//!
//! A message is rendered when it is pushed and never again, so turn 500 costs a copy of what turns 1 to 499 left behind
//! and the model sees the same prefix each time. Cache breakpoints are written into the copy, never into the
//! conversation: they move with each turn, and are no part of what the API hashes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;

/// Who speaks. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// Instructions in mid conversation, text only; newer models and versions.
    System,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// An append-only list of messages.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// `{"role":"user","content":[…]},{"role":…,"content":[…` — the last message still open at its end.
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

#[derive(Debug, Clone)]
struct Message {
    role: Role,
    blocks: usize,
    /// Where the last block that can carry `cache_control` ends (just after its `}`), if there is one.
    cacheable_end: Option<usize>,
}

#[derive(Deserialize)]
struct BlockHead<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

impl Conversation {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a JSON array of content blocks, each kept byte for byte.
    ///
    /// Adjacent pushes of one role become one message, so tool results may come one by one. Blank text blocks are left
    /// out, since the API refuses them, and a push without any block changes nothing.
    /// # Errors
    /// `Invalid` when `blocks` is not an array of blocks, when a block carries `cache_control` (breakpoints are ours to
    /// place), or when the first message is not the user's.
    pub fn push(&mut self, role: Role, blocks: &RawValue) -> Result<(), Error> {
        let invalid = |what: &str| Error::Invalid(format!("cannot append to the conversation: {what}"));
        let blocks: Vec<&RawValue> =
            serde_json::from_str(blocks.get()).map_err(|_| invalid("content is not an array of blocks"))?;
        let mut kept = Vec::with_capacity(blocks.len());
        for block in blocks {
            let head: BlockHead<'_> =
                serde_json::from_str(block.get()).map_err(|_| invalid("a block is not an object with a type"))?;
            if head.cache_control.is_some() {
                return Err(invalid("a block carries cache_control"));
            }
            if !(head.r#type == "text" && is_blank(head.text)) {
                kept.push((block, !matches!(&*head.r#type, "thinking" | "redacted_thinking")));
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        match self.messages.last() {
            None if role != Role::User => return Err(invalid("the first message must be the user's")),
            Some(last) if last.role == role => self.bytes.push(b','),
            last => {
                if last.is_some() {
                    self.bytes.extend_from_slice(b"]},");
                }
                self.bytes.extend_from_slice(b"{\"role\":\"");
                self.bytes.extend_from_slice(role.as_str().as_bytes());
                self.bytes.extend_from_slice(b"\",\"content\":[");
                self.messages.push(Message { role, blocks: 0, cacheable_end: None });
            }
        }
        let message = self.messages.last_mut().expect("one was there or has just been pushed");
        for (position, (block, cacheable)) in kept.into_iter().enumerate() {
            if position > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(block.get().as_bytes());
            message.blocks += 1;
            if cacheable {
                message.cacheable_end = Some(self.bytes.len());
            }
        }
        Ok(())
    }

    /// The number of messages, adjacent ones of one role counted once.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whose turn the last message was.
    pub fn last_role(&self) -> Option<Role> {
        self.messages.last().map(|message| message.role)
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the JSON array of messages, with `marker` (a `"cache_control":…` member) in the blocks that get a breakpoint.
    pub(crate) fn render(&self, body: &mut Vec<u8>, marker: Option<&str>) {
        body.push(b'[');
        let mut copied = 0;
        if let Some(marker) = marker {
            for end in self.breakpoints().into_iter().flatten() {
                // The block's last byte is its closing brace, and it has at least a type: a comma fits before the marker.
                body.extend_from_slice(&self.bytes[copied..end - 1]);
                body.push(b',');
                body.extend_from_slice(marker.as_bytes());
                copied = end - 1;
            }
        }
        body.extend_from_slice(&self.bytes[copied..]);
        body.extend_from_slice(if self.is_empty() { b"]" } else { b"]}]" });
    }

    /// Where the breakpoints go, in order of position: at most two.
    ///
    /// The newest user message ends what is worth caching. A cache lookup walks back at most 20 blocks from a
    /// breakpoint, so when the newest turn adds that many, the previous turn's end gets one too, or it would not be found.
    fn breakpoints(&self) -> [Option<usize>; 2] {
        const LOOKBACK_BLOCKS: usize = 20;
        let mut users = (0..self.messages.len()).rev().filter(|&at| self.messages[at].role == Role::User);
        let Some(newest) = users.next() else { return [None, None] };
        let previous = users.next().filter(|&previous| {
            let added: usize = self.messages[previous + 1..=newest].iter().map(|message| message.blocks).sum();
            added >= LOOKBACK_BLOCKS
        });
        [previous.and_then(|at| self.messages[at].cacheable_end), self.messages[newest].cacheable_end]
    }
}

/// Whether a text block's text is missing, empty or only white space.
pub(crate) fn is_blank(text: Option<&RawValue>) -> bool {
    text.is_none_or(|text| serde_json::from_str::<Cow<'_, str>>(text.get()).is_ok_and(|text| text.trim().is_empty()))
}

#[cfg(test)]
mod tests;
