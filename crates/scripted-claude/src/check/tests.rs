//! A valid request, and one mistake at a time.

use serde_json::json;

use super::*;

fn valid() -> Value {
    json!({
        "model": "claude-sonnet-5-5", "max_tokens": 100, "stream": true,
        "tools": [{ "name": "Bash", "description": "d", "input_schema": { "type": "object" } }],
        "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "a" }] },
            { "role": "assistant", "content": [
                { "type": "text", "text": "b" },
                { "type": "tool_use", "id": "t1", "name": "Bash", "input": {} },
                { "type": "tool_use", "id": "t2", "name": "Bash", "input": { "command": "x" } } ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t1", "content": "one" },
                { "type": "tool_result", "tool_use_id": "t2", "content": [
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA==" } }],
                  "is_error": true },
                { "type": "text", "text": "and go on", "cache_control": { "type": "ephemeral" } } ] },
        ],
    })
}

fn sent_headers(version: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", version.parse().unwrap());
    headers.insert("x-api-key", "k".parse().unwrap());
    headers
}

fn sentence(request: &Value) -> Option<String> {
    let result = body(request, &sent_headers(NEWEST_VERSION), &Prefix::of(request), true);
    result.err().map(|refusal| {
        assert_eq!((refusal.status, refusal.kind), (400, "invalid_request_error"));
        refusal.message
    })
}

#[test]
fn a_valid_request_passes() {
    assert_eq!(sentence(&valid()), None);
    let split = json!([
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "Bash", "input": {} }] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t2", "name": "Bash", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t2" }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "" }] },
    ]);
    let mut request = valid();
    request["messages"] = split;
    assert_eq!(sentence(&request), None, "adjacent messages of a role are one");
}

#[test]
fn each_mistake_has_its_sentence() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str)] = &[
        (|r| drop(r.as_object_mut().unwrap().remove("model")), "model: Field required"),
        (|r| drop(r.as_object_mut().unwrap().remove("max_tokens")), "max_tokens: Field required"),
        (|r| r["max_tokens"] = json!(500_000), "max_tokens: 500000 > 128000"),
        (|r| r["temperature"] = json!(1), "temperature: Extra inputs are not permitted"),
        (|r| r["top_k"] = json!(1), "top_k: Extra inputs"),
        (|r| r["context_management"] = json!({}), "context_management: Extra inputs"),
        (|r| r["thinking"] = json!({ "type": "enabled", "budget_tokens": 10 }), "budget_tokens"),
        (|r| r["thinking"] = json!({ "type": "enabled", "budget_tokens": 2000 }), "must be greater than"),
        (|r| r["messages"] = json!([]), "at least one message"),
        (|r| r["messages"][0]["role"] = json!("assistant"), "first message must use"),
        (|r| r["messages"][0]["role"] = json!("tool"), "messages.0.role"),
        (|r| r["messages"][0]["content"] = json!([]), "non-empty content"),
        (
            |r| r["messages"][0]["content"][0]["text"] = json!(""),
            "messages.0.content.0.text: text content blocks must be non-empty",
        ),
        (|r| r["messages"][0]["content"][0]["text"] = json!(" \n"), "non-whitespace"),
        (|r| r["messages"][1]["content"][1]["input"] = json!("x"), "valid dictionary"),
        (|r| r["messages"][1]["content"][1]["name"] = json!("a b"), "should match pattern"),
        (|r| r["messages"][1]["content"][2]["id"] = json!("t1"), "must be unique"),
        (
            |r| r["messages"][2]["content"][0]["tool_use_id"] = json!("t9"),
            "unexpected `tool_use_id` found in `tool_result` blocks: t9",
        ),
        (|r| r["messages"][2]["content"][1]["tool_use_id"] = json!("t1"), "single result"),
        (
            |r| drop(r["messages"][2]["content"].as_array_mut().unwrap().remove(1)),
            "without `tool_result` blocks immediately after: t2",
        ),
        (|r| r["messages"][2]["content"].as_array_mut().unwrap().reverse(), "must come first"),
        (|r| drop(r["messages"].as_array_mut().unwrap().pop()), "without `tool_result`"),
        (|r| r["messages"].as_array_mut().unwrap().push(json!({ "role": "assistant", "content": "pre" })), "prefill"),
        (|r| r["messages"][2]["content"][1]["content"][0]["source"]["media_type"] = json!("image/bmp"), "media_type"),
        (
            |r| r["messages"][2]["content"][2] = json!({ "type": "tool_use", "id": "x", "name": "n", "input": {} }),
            "not allowed in `user`",
        ),
        (|r| r["messages"][2]["content"][2] = json!({ "type": "hologram" }), "does not match any"),
        (|r| r["tools"][0]["name"] = json!("mcp.tool"), "tools.0.custom.name"),
        (|r| r["tools"][0]["input_schema"] = json!({ "type": "string" }), "Input should be 'object'"),
        (|r| r["tools"] = json!([r["tools"][0], r["tools"][0]]), "must be unique"),
        (|r| r["system"][0]["text"] = json!(""), "system.0.text"),
        (|r| r["system"][0]["cache_control"]["ttl"] = json!("2h"), "ttl"),
        (|r| r["messages"][2]["content"][2]["cache_control"]["ttl"] = json!("1h"), "must not come after a ttl='5m'"),
        (
            |r| {
                for at in 0..2 {
                    r["messages"][1]["content"][at]["cache_control"] = json!({ "type": "ephemeral" });
                    r["messages"][2]["content"][at]["cache_control"] = json!({ "type": "ephemeral" });
                }
            },
            "A maximum of 4 blocks with cache_control may be provided. Found 6.",
        ),
        (
            |r| {
                r["messages"][1]["content"][0] = json!({ "type": "thinking", "thinking": "", "signature": "s", "cache_control": { "type": "ephemeral" } });
            },
            "cache_control: Extra inputs",
        ),
    ];
    for (change, expected) in cases {
        let mut request = valid();
        change(&mut request);
        let sentence = sentence(&request).unwrap_or_default();
        assert!(sentence.contains(expected), "{expected:?} is not in {sentence:?}");
    }
}

#[test]
fn headers_are_needed() {
    let without = |name: &str| {
        let mut headers = sent_headers("2023-06-01");
        headers.remove(name);
        super::headers(&headers).unwrap_err().status
    };
    assert_eq!((without("x-api-key"), without("anthropic-version")), (401, 400));
    assert!(headers(&sent_headers("2023-06-01")).is_ok());
    assert!(headers(&sent_headers("1999-01-01")).is_err());
    let mut bearer = sent_headers("2026-10-21");
    bearer.remove("x-api-key");
    bearer.insert("authorization", "Bearer k".parse().unwrap());
    assert!(headers(&bearer).is_ok());
    bearer.insert("authorization", "Basic k".parse().unwrap());
    assert!(headers(&bearer).is_err());
    let mut request = valid();
    request["temperature"] = json!(1);
    assert!(body(&request, &sent_headers("2023-06-01"), &Prefix::of(&request), true).is_ok(), "the old version has it");
}

#[test]
fn thinking_goes_back_unmodified_and_under_its_prefix() {
    let mut request = valid();
    let history = request["messages"].as_array().unwrap().clone();
    let prompt = Prefix::of(&request).whole();
    let reply = json!([
        { "type": "thinking", "thinking": "hm", "signature": signature(&prompt, "hm") },
        { "type": "tool_use", "id": call_id("0123abcd", 1, Some("hm")), "name": "Bash", "input": {} },
    ]);
    let id = reply[1]["id"].clone();
    let mut messages = history;
    messages.push(json!({ "role": "assistant", "content": reply }));
    messages.push(json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id }] }));
    request["messages"] = json!(messages);
    assert_eq!(sentence(&request), None);

    type Change = fn(&mut Value);
    let cases: &[(Change, Option<&str>)] = &[
        (|r| r["messages"][3]["content"][0]["thinking"] = json!("edited"), Some("Invalid `signature`")),
        (|r| drop(r["messages"][3]["content"].as_array_mut().unwrap().remove(0)), Some("Expected `thinking`")),
        (|r| r["messages"][0]["content"][0]["text"] = json!("another past"), Some("bound to another conversation")),
        (|r| r["system"][0]["text"] = json!("another prompt"), Some("bound to another conversation")),
        (|r| r["tools"][0]["description"] = json!("another tool"), Some("bound to another conversation")),
        (|r| drop(r["system"][0].as_object_mut().unwrap().remove("cache_control")), None),
        (
            |r| {
                r["system"][0]["text"] = json!("another prompt");
                r["thinking"] =
                    json!({ "type": "adaptive", "block_binding": { "prefix_mismatch_behavior": "drop_block" } });
            },
            None,
        ),
    ];
    for (change, expected) in cases {
        let mut changed = request.clone();
        change(&mut changed);
        let sentence = sentence(&changed);
        match expected {
            Some(expected) => assert!(sentence.as_deref().is_some_and(|text| text.contains(expected)), "{sentence:?}"),
            None => assert_eq!(sentence, None),
        }
    }
}
