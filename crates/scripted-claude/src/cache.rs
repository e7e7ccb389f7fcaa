//! The prompt cache, as far as its numbers go: which prefixes were written, and how much of a request hits one.
//!
//! A prefix is hashed block by block, in the order tools, system, messages, without cache markers. Thinking blocks are
//! bound to the same hashes, which is how an edited history is noticed without remembering any conversation.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::blocks_of;

pub(crate) type Hash = [u8; 32];

/// How far a lookup walks back from a breakpoint.
const LOOKBACK_BLOCKS: usize = 20;
/// Enough for any test; what has expired goes when it is reached, and else everything.
const MAX_ENTRIES: usize = 100_000;

/// A request as a row of hashed blocks.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    blocks: Vec<HashedBlock>,
    /// For each message, the hash of everything before it.
    before_message: Vec<Hash>,
    /// For each message, the position of its first block.
    first_block: Vec<usize>,
    tokens: u64,
    running: blake3::Hasher,
}

#[derive(Debug)]
struct HashedBlock {
    hash: Hash,
    /// Tokens up to and with this block.
    tokens: u64,
    /// The lifetime of a breakpoint here.
    breakpoint: Option<Duration>,
}

/// Prompt tokens by how they are billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) input: u64,
    pub(crate) read: u64,
    pub(crate) written_5m: u64,
    pub(crate) written_1h: u64,
}

impl Prefix {
    pub(crate) fn of(body: &Value) -> Self {
        let mut prefix = Self::default();
        for tool in body["tools"].as_array().into_iter().flatten() {
            prefix.add("tools", tool);
        }
        for block in blocks_of(&body["system"]) {
            prefix.add("system", &block);
        }
        for message in body["messages"].as_array().into_iter().flatten() {
            let role = message["role"].as_str().unwrap_or_default();
            prefix.before_message.push(*prefix.running.finalize().as_bytes());
            prefix.first_block.push(prefix.blocks.len());
            for block in blocks_of(&message["content"]) {
                prefix.add(role, &block);
            }
        }
        prefix
    }

    fn add(&mut self, place: &str, block: &Value) {
        let mut block = block.clone();
        let marker = block.as_object_mut().and_then(|fields| fields.remove("cache_control"));
        let text = block.to_string();
        self.tokens += tokens(&block, &text);
        self.running.update(place.as_bytes()).update(b"\0").update(text.as_bytes()).update(b"\0");
        self.blocks.push(HashedBlock {
            hash: *self.running.finalize().as_bytes(),
            tokens: self.tokens,
            breakpoint: marker
                .map(|marker| if marker["ttl"] == "1h" { Duration::from_secs(3600) } else { Duration::from_secs(300) }),
        });
    }

    /// The hash of everything.
    pub(crate) fn whole(&self) -> Hash {
        *self.running.finalize().as_bytes()
    }

    /// The hashes of what comes before a block of message `at`, from the message's beginning up to the block: one message
    /// may hold several replies.
    pub(crate) fn boundaries(&self, at: usize, block: usize) -> impl Iterator<Item = &Hash> {
        let first = self.first_block[at];
        let blocks = self.blocks.iter().skip(first).take(block).map(|block| &block.hash);
        std::iter::once(&self.before_message[at]).chain(blocks)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.max(1)
    }
}

/// What prefixes are cached, and until when.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: Mutex<HashMap<Hash, Instant>>,
}

impl Cache {
    /// Counts a request and writes its breakpoints. Prefixes below `min_tokens` are silently not cached.
    pub(crate) fn count(&self, prefix: &Prefix, min_tokens: u64, now: Instant) -> Counted {
        let mut entries = self.entries.lock().expect("nothing panics while holding the lock");
        let breakpoints: Vec<usize> =
            (0..prefix.blocks.len()).filter(|&at| prefix.blocks[at].breakpoint.is_some()).collect();
        let mut counted = Counted::default();
        for &at in breakpoints.iter().rev() {
            let first = (at + 1).saturating_sub(LOOKBACK_BLOCKS);
            let hit =
                (first..=at).rev().find(|&back| entries.get(&prefix.blocks[back].hash).is_some_and(|ends| *ends > now));
            if let Some(hit) = hit {
                counted.read = prefix.blocks[hit].tokens;
                break;
            }
        }
        let mut covered = counted.read;
        if entries.len() > MAX_ENTRIES {
            entries.retain(|_, ends| *ends > now);
            if entries.len() > MAX_ENTRIES {
                entries.clear();
            }
        }
        for &at in &breakpoints {
            let block = &prefix.blocks[at];
            let Some(lifetime) = block.breakpoint.filter(|_| block.tokens >= min_tokens) else { continue };
            let written = block.tokens.saturating_sub(covered);
            covered = covered.max(block.tokens);
            if lifetime > Duration::from_secs(300) {
                counted.written_1h += written;
            } else {
                counted.written_5m += written;
            }
            let ends = now + lifetime;
            entries.entry(block.hash).and_modify(|old| *old = ends.max(*old)).or_insert(ends);
        }
        counted.input = prefix.tokens().saturating_sub(covered).max(1);
        counted
    }
}

/// A guess good enough to be plausible: four bytes a token, a picture by the API's usual size.
fn tokens(block: &Value, text: &str) -> u64 {
    let pictures = match block["type"].as_str() {
        Some("image") => 1,
        _ => block["content"]
            .as_array()
            .map_or(0, |content| content.iter().filter(|inner| inner["type"] == "image").count()),
    };
    if pictures > 0 { pictures as u64 * 1500 } else { text.len() as u64 / 4 + 1 }
}
