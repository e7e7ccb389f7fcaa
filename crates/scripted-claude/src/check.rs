//! What the real API would refuse, refused with the kind of sentence it uses.
//!
//! Top down: headers, fields, tools, then the messages with their rules between neighbours. The first thing wrong is the
//! answer, as there.

use std::collections::HashSet;

use axum::http::HeaderMap;
use serde_json::Value;

use crate::cache::Prefix;
use crate::reply::error_type;

mod messages;
mod thinking;

pub(crate) use thinking::{call_id, signature};

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

pub(crate) type Checked = Result<(), Refusal>;

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, kind: error_type(status), message: message.into() }
    }
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(400, message))
}

/// The newest version, which took the sampling parameters away.
const NEWEST_VERSION: &str = "2026-10-21";
const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", NEWEST_VERSION];
const FIELDS: [&str; 20] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "container",
    "metadata",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "inference_geo",
    "diagnostics",
    "temperature",
    "top_p",
    "top_k",
];
const BETA_FIELDS: [&str; 7] = [
    "context_management",
    "compaction",
    "fallbacks",
    "fallback_credit_token",
    "mcp_servers",
    "thread",
    "billing_policy",
];

pub(crate) fn headers(headers: &HeaderMap) -> Checked {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer =
        text("authorization").and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|key| !key.trim().is_empty());
    if !bearer && text("x-api-key").is_none_or(str::is_empty) {
        return Err(Refusal::new(401, "x-api-key header is required"));
    }
    match text("anthropic-version") {
        None => bad("anthropic-version: header is required"),
        Some(version) if !VERSIONS.contains(&version) => {
            bad(format!("anthropic-version: {version:?} is not a valid version"))
        }
        Some(_) => Ok(()),
    }
}

/// Whether the caller speaks the newest version.
pub(crate) fn is_newest(headers: &HeaderMap) -> bool {
    headers.get("anthropic-version").is_some_and(|version| version == NEWEST_VERSION)
}

/// Everything about a body but its tokens. `needs_max_tokens` is false for counting.
pub(crate) fn body(body: &Value, headers: &HeaderMap, prefix: &Prefix, needs_max_tokens: bool) -> Checked {
    let Some(fields) = body.as_object() else { return bad("the request body must be a JSON object") };
    let has_beta = headers.contains_key("anthropic-beta");
    for name in fields.keys() {
        let sampling = matches!(name.as_str(), "temperature" | "top_p" | "top_k");
        let known = FIELDS.contains(&name.as_str()) && !(sampling && is_newest(headers));
        let known = known || (has_beta && BETA_FIELDS.contains(&name.as_str()));
        if !known {
            return bad(format!("{name}: Extra inputs are not permitted"));
        }
    }
    match fields.get("model").map(Value::as_str) {
        None => return bad("model: Field required"),
        Some(None) => return bad("model: Input should be a valid string"),
        Some(Some("")) => return bad("model: String should have at least 1 character"),
        Some(Some(_)) => {}
    }
    if needs_max_tokens {
        match fields.get("max_tokens").map(Value::as_u64) {
            None => return bad("max_tokens: Field required"),
            Some(None) => return bad("max_tokens: Input should be a valid integer of at least 0"),
            Some(Some(tokens)) if tokens > 128_000 => {
                return bad(format!(
                    "max_tokens: {tokens} > 128000, which is the maximum allowed number of output tokens"
                ));
            }
            Some(Some(_)) => {}
        }
    }
    if fields.get("stream").is_some_and(|stream| !stream.is_boolean()) {
        return bad("stream: Input should be a valid boolean");
    }
    tools(body)?;
    system(&body["system"])?;
    thinking_parameter(body)?;
    cache_control(body)?;
    let Some(messages) = body["messages"].as_array() else { return bad("messages: Field required") };
    messages::check(messages, body["model"].as_str().unwrap_or_default())?;
    let is_bound = body["thinking"]["block_binding"]["prefix_mismatch_behavior"] != "drop_block";
    thinking::check(messages, prefix, is_bound)
}

fn tools(body: &Value) -> Checked {
    let Some(tools) = body.get("tools") else { return Ok(()) };
    let Some(tools) = tools.as_array() else { return bad("tools: Input should be a valid list") };
    let mut names = HashSet::new();
    for (at, tool) in tools.iter().enumerate() {
        let kind = tool["type"].as_str().unwrap_or("custom");
        if !kind.ends_with("toolset") && !kind.contains("_toolset_") {
            let Some(name) = tool["name"].as_str() else { return bad(format!("tools.{at}.name: Field required")) };
            if !is_tool_name(name) {
                return bad(format!("tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"));
            }
            if !names.insert(name) {
                return bad("tools: Tool names must be unique.");
            }
        }
        if kind.starts_with("web_search_") {
            web_search(tool, kind, &format!("tools.{at}.{kind}"))?;
        }
        if kind == "custom" {
            if !tool["input_schema"].is_object() {
                return bad(format!("tools.{at}.custom.input_schema: Field required"));
            }
            if tool["input_schema"]["type"] != "object" {
                return bad(format!("tools.{at}.custom.input_schema.type: Input should be 'object'"));
            }
            if tool.get("description").is_some_and(|text| !text.is_string()) {
                return bad(format!("tools.{at}.custom.description: Input should be a valid string"));
            }
        }
    }
    Ok(())
}

fn web_search(tool: &Value, kind: &str, place: &str) -> Checked {
    const VERSIONS: [&str; 3] = ["web_search_20250305", "web_search_20260209", "web_search_20260318"];
    const FIELDS: [&str; 7] =
        ["type", "name", "max_uses", "allowed_domains", "blocked_domains", "allowed_callers", "cache_control"];
    if !VERSIONS.contains(&kind) {
        return bad(format!("{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags"));
    }
    if tool["name"] != "web_search" {
        return bad(format!("{place}.name: Input should be 'web_search'"));
    }
    if let Some(name) = tool.as_object().and_then(|tool| tool.keys().find(|name| !FIELDS.contains(&name.as_str()))) {
        return bad(format!("{place}.{name}: Extra inputs are not permitted"));
    }
    if tool.get("allowed_domains").is_some() && tool.get("blocked_domains").is_some() {
        return bad(format!("{place}: only one of allowed_domains and blocked_domains may be given"));
    }
    if tool.get("max_uses").is_some_and(|uses| uses.as_u64().is_none_or(|uses| uses == 0)) {
        return bad(format!("{place}.max_uses: Input should be greater than 0"));
    }
    Ok(())
}

fn system(system: &Value) -> Checked {
    match system {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(blocks) => {
            for (at, block) in blocks.iter().enumerate() {
                if block["type"] != "text" {
                    return bad(format!("system.{at}.type: Input should be 'text'"));
                }
                text(block, &format!("system.{at}"))?;
            }
            Ok(())
        }
        _ => bad("system: Input should be a valid string or list"),
    }
}

fn thinking_parameter(body: &Value) -> Checked {
    let thinking = &body["thinking"];
    match thinking["type"].as_str() {
        None if thinking.is_null() => Ok(()),
        Some("adaptive" | "disabled" | "between_tools") => Ok(()),
        Some("enabled") => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
            if budget < 1024 {
                return bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024");
            }
            if body["max_tokens"].as_u64().is_some_and(|max| max <= budget) {
                return bad("`max_tokens` must be greater than `thinking.budget_tokens`");
            }
            Ok(())
        }
        _ => bad("thinking: Input tag should be one of 'adaptive', 'enabled', 'disabled', 'between_tools'"),
    }
}

fn cache_control(body: &Value) -> Checked {
    let mut markers: Vec<(String, &Value)> = Vec::new();
    let look = |place: &str, block: &Value| -> Result<bool, Refusal> {
        let Some(marker) = block.get("cache_control").filter(|marker| !marker.is_null()) else { return Ok(false) };
        if matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")) {
            return bad(format!("{place}.cache_control: Extra inputs are not permitted"));
        }
        if marker["type"] != "ephemeral" {
            return bad(format!("{place}.cache_control.type: Input should be 'ephemeral'"));
        }
        if !matches!(marker["ttl"].as_str().unwrap_or("5m"), "5m" | "1h") {
            return bad(format!("{place}.cache_control.ttl: Input should be '5m' or '1h'"));
        }
        Ok(true)
    };
    let mut each = |place: String, block| -> Checked {
        if look(&place, block)? {
            markers.push((place, &block["cache_control"]));
        }
        Ok(())
    };
    for (at, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        each(format!("tools.{at}"), tool)?;
    }
    for (at, block) in body["system"].as_array().into_iter().flatten().enumerate() {
        each(format!("system.{at}"), block)?;
    }
    for (at, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        for (position, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            for (inner_at, inner) in block["content"].as_array().into_iter().flatten().enumerate() {
                each(format!("messages.{at}.content.{position}.content.{inner_at}"), inner)?;
            }
            each(format!("messages.{at}.content.{position}"), block)?;
        }
    }
    each("request".into(), body)?;
    if markers.len() > 4 {
        return bad(format!("A maximum of 4 blocks with cache_control may be provided. Found {}.", markers.len()));
    }
    let mut seen_short = false;
    for (place, marker) in markers {
        let is_long = marker["ttl"] == "1h";
        if is_long && seen_short {
            return bad(format!(
                "{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
            ));
        }
        seen_short |= !is_long;
    }
    Ok(())
}

fn text(block: &Value, place: &str) -> Checked {
    match block["text"].as_str() {
        None => bad(format!("{place}.text.text: Field required")),
        Some("") => bad(format!("{place}.text: text content blocks must be non-empty")),
        Some(text) if text.trim().is_empty() => {
            bad(format!("{place}.text: text content blocks must contain non-whitespace text"))
        }
        Some(_) => Ok(()),
    }
}

fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Content as blocks: a string is one text block.
pub(crate) fn blocks_of(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![serde_json::json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
