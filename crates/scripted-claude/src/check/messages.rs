//! What must hold within a message and between neighbours.

use std::collections::HashSet;

use serde_json::Value;

use super::{Checked, bad, blocks_of, is_tool_name, text};

pub(super) fn check(messages: &[Value], model: &str) -> Checked {
    if messages.is_empty() {
        return bad("messages: at least one message is required");
    }
    if messages.len() > 100_000 {
        return bad("messages: List should have at most 100000 items");
    }
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !matches!(role, "user" | "assistant" | "system") {
            return bad(format!("messages.{at}.role: Input should be 'user', 'assistant' or 'system'"));
        }
        if at == 0 && role != "user" {
            return bad("messages: first message must use the \"user\" role");
        }
        match &message["content"] {
            Value::String(text) if text.trim().is_empty() => {
                return bad(format!("messages.{at}: user messages must have non-empty content"));
            }
            Value::String(_) => {}
            Value::Array(blocks) if blocks.is_empty() => {
                return bad(format!("messages.{at}: all messages must have non-empty content"));
            }
            Value::Array(blocks) => {
                for (position, block) in blocks.iter().enumerate() {
                    check_block(block, role, &format!("messages.{at}.content.{position}"))?;
                }
            }
            _ => return bad(format!("messages.{at}.content: Field required")),
        }
    }
    pairs(messages)?;
    let last = messages.last().expect("checked above not to be empty");
    let is_paused = blocks_of(&last["content"]).iter().any(|block| block["type"] == "server_tool_use");
    if last["role"] == "assistant" && !is_paused && !takes_prefill(model) {
        return bad(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        );
    }
    Ok(())
}

fn check_block(block: &Value, role: &str, place: &str) -> Checked {
    let Some(kind) = block["type"].as_str() else { return bad(format!("{place}.type: Field required")) };
    let wrong_role = || bad(format!("{place}: `{kind}` blocks are not allowed in `{role}` messages"));
    match (kind, role) {
        ("text", _) => text(block, place),
        (_, "system") => wrong_role(),
        ("image", "user") => image(block, place),
        ("document" | "search_result" | "container_upload", "user") => Ok(()),
        ("tool_result", "user") => {
            if block["tool_use_id"].as_str().is_none_or(str::is_empty) {
                return bad(format!("{place}.tool_result.tool_use_id: Field required"));
            }
            match &block["content"] {
                Value::Null | Value::String(_) => Ok(()),
                Value::Array(inner) => {
                    for (at, inner) in inner.iter().enumerate() {
                        let place = format!("{place}.tool_result.content.{at}");
                        match inner["type"].as_str() {
                            Some("text") => text(inner, &place)?,
                            Some("image") => image(inner, &place)?,
                            Some("document" | "search_result" | "tool_reference" | "browser_state") => {}
                            _ => {
                                return bad(format!(
                                    "{place}: Input tag should be one of 'text', 'image', 'document', …"
                                ));
                            }
                        }
                    }
                    Ok(())
                }
                _ => bad(format!("{place}.tool_result.content: Input should be a valid string or list")),
            }
        }
        ("tool_use", "assistant") => {
            if block["id"].as_str().is_none_or(str::is_empty) {
                return bad(format!("{place}.tool_use.id: Field required"));
            }
            if !block["name"].as_str().is_some_and(is_tool_name) {
                return bad(format!("{place}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"));
            }
            if !block["input"].is_object() {
                return bad(format!("{place}.tool_use.input: Input should be a valid dictionary"));
            }
            Ok(())
        }
        ("thinking", "assistant") => {
            if block["signature"].as_str().is_none_or(str::is_empty) {
                return bad(format!("{place}.thinking.signature: Field required"));
            }
            Ok(())
        }
        ("tool_use" | "thinking" | "redacted_thinking", _) | ("tool_result" | "image" | "document", _) => wrong_role(),
        // Server tools, compactions, and what scripts make up: they come back as they went out.
        (_, "assistant") => Ok(()),
        _ => bad(format!("{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")),
    }
}

fn image(block: &Value, place: &str) -> Checked {
    let source = &block["source"];
    if source["type"] != "base64" {
        return Ok(());
    }
    match source["media_type"].as_str() {
        Some("image/png" | "image/jpeg" | "image/gif" | "image/webp") if source["data"].is_string() => Ok(()),
        _ => bad(format!(
            "{place}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        )),
    }
}

/// Each call is answered once, in the very next message, before anything else in it.
fn pairs(messages: &[Value]) -> Checked {
    let mut all_ids: HashSet<String> = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    let mut at = 0;
    while at < messages.len() {
        let role = messages[at]["role"].as_str().unwrap_or_default();
        let first = at;
        let mut blocks = Vec::new();
        while at < messages.len() && messages[at]["role"] == role {
            blocks.extend(blocks_of(&messages[at]["content"]));
            at += 1;
        }
        let mut answered: HashSet<String> = HashSet::new();
        let mut seen_other = false;
        for (position, block) in blocks.iter().enumerate() {
            if block["type"] != "tool_result" {
                seen_other = true;
                continue;
            }
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            if !open.iter().any(|open| open == id) {
                return bad(format!(
                    "messages.{first}.content.{position}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each \
                     `tool_result` block must have a corresponding `tool_use` block in the previous message."
                ));
            }
            if seen_other {
                return bad(format!(
                    "messages.{first}.content.{position}: `tool_result` blocks must come first in the message that follows \
                     `tool_use` blocks"
                ));
            }
            if !answered.insert(id.to_owned()) {
                return bad(format!(
                    "messages.{first}.content.{position}: each tool_use must have a single result. Found multiple \
                     `tool_result` blocks with id: {id}"
                ));
            }
        }
        let missing: Vec<&str> = open.iter().filter(|id| !answered.contains(*id)).map(String::as_str).collect();
        if !missing.is_empty() {
            return bad(format!(
                "messages.{first}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
                 `tool_use` block must have a corresponding `tool_result` block in the next message.",
                missing.join(", ")
            ));
        }
        open.clear();
        for block in blocks.iter().filter(|block| block["type"] == "tool_use") {
            let id = block["id"].as_str().unwrap_or_default().to_owned();
            if !all_ids.insert(id.clone()) {
                return bad(format!("messages.{first}: `tool_use` ids must be unique, found {id} twice"));
            }
            open.push(id);
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        bad(format!(
            "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}.",
            messages.len() - 1,
            open.join(", ")
        ))
    }
}

/// Models before 4.6 continue an assistant message.
fn takes_prefill(model: &str) -> bool {
    ["claude-3", "-4-5", "-4-1", "-4-0"].iter().any(|old| model.contains(old))
}
