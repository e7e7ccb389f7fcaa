//! Signatures: how thinking that was edited, dropped or moved is noticed without remembering any conversation.
//!
//! A signature names the prefix the thinking was made under and digests its text; the id of a call that followed it
//! repeats the digest, so that a call without its thinking shows too.

use serde_json::Value;

use super::{Checked, bad, blocks_of};
use crate::cache::{Hash, Prefix};

/// Thinking comes back as it went out, all of it, and under the prefix it was made under.
pub(super) fn check(messages: &[Value], prefix: &Prefix, is_bound: bool) -> Checked {
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| message["role"] == "assistant") {
        let blocks = blocks_of(&message["content"]);
        for (position, block) in blocks.iter().enumerate() {
            let place = format!("messages.{at}.content.{position}");
            if block["type"] == "thinking" {
                let signature = block["signature"].as_str().unwrap_or_default();
                let Some((bound, digest)) = signature.strip_prefix(SIGNATURE).and_then(|rest| rest.split_once('.'))
                else {
                    continue; // Of another model.
                };
                if digest != thinking_digest(block["thinking"].as_str().unwrap_or_default()) {
                    return bad(format!("{place}: Invalid `signature` in `thinking` block"));
                }
                if is_bound && !prefix.boundaries(at, position).any(|hash| binding(hash) == bound) {
                    return bad(format!(
                        "{place}: this `thinking` block is bound to another conversation: the system prompt, the tools or an \
                         earlier message have changed since it was made"
                    ));
                }
            }
            if let Some(digest) =
                block["id"].as_str().and_then(thinking_of_call).filter(|_| block["type"] == "tool_use")
            {
                let is_there = blocks[..position].iter().any(|earlier| {
                    earlier["type"] == "thinking"
                        && earlier["signature"].as_str().is_some_and(|signature| signature.ends_with(digest))
                });
                if !is_there {
                    return bad(format!(
                        "{place}.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. `thinking` blocks of \
                         the latest assistant message cannot be modified or left out."
                    ));
                }
            }
        }
    }
    Ok(())
}

const SIGNATURE: &str = "c2NyaXB0ZWQ";
const DIGEST_LEN: usize = 16;

/// The signature of thinking made after `before`: what it is bound to, and what it says.
pub(crate) fn signature(before: &Hash, thinking: &str) -> String {
    format!("{SIGNATURE}{}.{}", binding(before), thinking_digest(thinking))
}

/// The id of a call, which remembers the thinking it followed.
pub(crate) fn call_id(seed: &str, at: usize, thinking: Option<&str>) -> String {
    let digest = thinking.map_or_else(|| "0".repeat(DIGEST_LEN), thinking_digest);
    format!("toolu_{seed}{at:02x}{digest}")
}

fn thinking_of_call(id: &str) -> Option<&str> {
    let rest = id.strip_prefix("toolu_").filter(|rest| rest.len() == 10 + DIGEST_LEN && rest.is_ascii())?;
    let digest = &rest[10..];
    digest.bytes().any(|byte| byte != b'0').then_some(digest)
}

fn binding(hash: &Hash) -> String {
    blake3::Hash::from_bytes(*hash).to_hex()[..32].to_owned()
}

fn thinking_digest(thinking: &str) -> String {
    blake3::hash(thinking.as_bytes()).to_hex()[..DIGEST_LEN].to_owned()
}
