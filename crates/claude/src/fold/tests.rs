//! Streams as the API sends them, and as it should not.

use serde_json::{Value, json};

use super::*;

fn frame(data: Value) -> Frame {
    Frame { event: data["type"].as_str().unwrap().to_owned(), data: data.to_string() }
}

fn start() -> Frame {
    let usage = json!({
        "input_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30,
        "cache_creation": { "ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20 }, "output_tokens": 1,
    });
    frame(json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [],
        "stop_reason": null, "usage": usage } }))
}

fn open(index: u32, block: Value) -> Frame {
    frame(json!({ "type": "content_block_start", "index": index, "content_block": block }))
}

fn delta(index: u32, delta: Value) -> Frame {
    frame(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
}

fn close(index: u32) -> Frame {
    frame(json!({ "type": "content_block_stop", "index": index }))
}

fn end(reason: Value) -> Frame {
    frame(json!({ "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": null },
        "usage": { "output_tokens": 42, "input_tokens": null, "output_tokens_details": { "thinking_tokens": 12 } } }))
}

fn stop() -> Frame {
    frame(json!({ "type": "message_stop" }))
}

fn text(index: u32, pieces: &[&str]) -> Vec<Frame> {
    let mut frames = vec![open(index, json!({ "type": "text", "text": "" }))];
    frames.extend(pieces.iter().map(|piece| delta(index, json!({ "type": "text_delta", "text": piece }))));
    frames.push(close(index));
    frames
}

fn call(index: u32, pieces: &[&str]) -> Vec<Frame> {
    let block =
        json!({ "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}, "caller": { "type": "direct" } });
    let mut frames = vec![open(index, block)];
    frames
        .extend(pieces.iter().map(|piece| delta(index, json!({ "type": "input_json_delta", "partial_json": piece }))));
    frames.push(close(index));
    frames
}

fn whole(blocks: Vec<Vec<Frame>>, reason: &str) -> Vec<Frame> {
    let mut frames = vec![start()];
    frames.extend(blocks.into_iter().flatten());
    frames.extend([end(json!(reason)), stop()]);
    frames
}

fn fold(frames: &[Frame]) -> Result<(Vec<Update>, Response), Error> {
    let mut fold = Fold::default();
    let mut updates = Vec::new();
    for frame in frames {
        fold.frame(frame, &mut updates)?;
    }
    fold.end_of_stream(&mut updates)?;
    Ok((updates, fold.into_response(Some("req_1".into()))))
}

fn content(blocks: Vec<Vec<Frame>>) -> String {
    fold(&whole(blocks, "end_turn")).unwrap().1.content.get().to_owned()
}

#[test]
fn a_whole_reply_becomes_updates_and_bytes() {
    let mut frames = whole(
        vec![
            vec![
                open(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
                delta(0, json!({ "type": "thinking_delta", "thinking": "hm", "estimated_tokens": 3 })),
                delta(0, json!({ "type": "signature_delta", "signature": "sig==" })),
                close(0),
            ],
            text(1, &["Hel", "lo ö"]),
            call(2, &["", "{\"command\": ", "\"ls  -1\"}"]),
        ],
        "tool_use",
    );
    frames.insert(3, frame(json!({ "type": "ping" })));
    let (updates, response) = fold(&frames).unwrap();
    assert_eq!(
        response.content.get(),
        concat!(
            r#"[{"type":"thinking","thinking":"hm","signature":"sig=="},{"type":"text","text":"Hello ö"},"#,
            r#"{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command": "ls  -1"},"caller":{"type":"direct"}}]"#
        )
    );
    assert_eq!(response.text, "Hello ö");
    assert_eq!(response.stop_reason, StopReason::ToolUse);
    assert_eq!(response.tool_uses[0].input.as_ref().unwrap().get(), r#"{"command": "ls  -1"}"#);
    let usage = Usage {
        input_tokens: 7,
        output_tokens: 42,
        cache_read_input_tokens: 100,
        cache_creation_5m_input_tokens: 10,
        cache_creation_1h_input_tokens: 20,
        thinking_tokens: 12,
        ..Usage::default()
    };
    assert_eq!(response.usage, usage);
    assert_eq!(response.usage.prompt_tokens(), 137);
    let kinds: Vec<&str> = updates
        .iter()
        .map(|update| match update {
            Update::Started { .. } => "started",
            Update::Text(_) => "text",
            Update::Thinking(_) => "thinking",
            Update::ToolInput { .. } => "input",
            Update::Block(_) => "block",
            Update::Retrying { .. } | Update::Finished(_) => "other",
        })
        .collect();
    assert_eq!(kinds, ["started", "thinking", "block", "text", "text", "block", "input", "input", "block"]);
}

#[test]
fn blocks_come_back_as_the_api_takes_them() {
    let cases: Vec<(&str, Vec<Vec<Frame>>, &str)> = vec![
        ("no delta means no input", vec![call(0, &[])], r#"[{"type":"tool_use","id":"toolu_1","name":"Bash","input":{},"caller":{"type":"direct"}}]"#),
        ("blank text is left out", vec![text(0, &[]), text(1, &[" ", "\n"]), text(2, &["x"])], r#"[{"type":"text","text":"x"}]"#),
        (
            "an unknown block keeps its bytes, numbers and order",
            vec![vec![
                Frame {
                    event: "content_block_start".into(),
                    data: r#"{"type":"content_block_start","index":0,"content_block":{"z":1.50e2, "type":"dream","a":{"n":123456789012345678901}}}"#.into(),
                },
                delta(0, json!({ "type": "dream_delta", "x": 1 })),
                close(0),
            ]],
            r#"[{"z":1.50e2, "type":"dream","a":{"n":123456789012345678901}}]"#,
        ),
        (
            "citations are collected",
            vec![vec![
                open(0, json!({ "type": "text", "text": "", "citations": [] })),
                delta(0, json!({ "type": "text_delta", "text": "so" })),
                delta(0, json!({ "type": "citations_delta", "citation": { "type": "page_location", "page": 1 } })),
                delta(0, json!({ "type": "citations_delta", "citation": { "type": "page_location", "page": 2 } })),
                close(0),
            ]],
            r#"[{"type":"text","text":"so","citations":[{"type":"page_location","page":1},{"type":"page_location","page":2}]}]"#,
        ),
        (
            "server tools come whole",
            vec![
                vec![open(0, json!({ "type": "redacted_thinking", "data": "xx" })), close(0)],
                vec![open(1, json!({ "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{ "encrypted_content": "e" }] })), close(1)],
            ],
            r#"[{"type":"redacted_thinking","data":"xx"},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"encrypted_content":"e"}]}]"#,
        ),
        (
            "an input given in the start is taken",
            vec![vec![open(0, json!({ "type": "tool_use", "id": "t", "name": "n", "input": { "a": 1 } })), close(0)]],
            r#"[{"type":"tool_use","id":"t","name":"n","input":{"a":1}}]"#,
        ),
        (
            "a compaction is one delta",
            vec![vec![
                open(0, json!({ "type": "compaction", "content": null })),
                delta(0, json!({ "type": "compaction_delta", "content": "sum", "encrypted_content": "enc" })),
                close(0),
            ]],
            r#"[{"type":"compaction","content":"sum","encrypted_content":"enc"}]"#,
        ),
    ];
    for (story, blocks, expected) in cases {
        assert_eq!(content(blocks), expected, "{story}");
    }
}

#[test]
fn an_input_that_is_no_object_is_kept_beside_a_placeholder() {
    for bad in ["{\"command\": \"ls", "[1]", "\"text\"", "null", "{\"a\": \"\\ud800\"}"] {
        let (_, response) = fold(&whole(vec![call(0, &[bad])], "max_tokens")).unwrap();
        assert_eq!(response.tool_uses[0].input.as_ref().map(|input| input.get()), Err(&bad.to_owned()));
        assert!(response.content.get().contains(r#""input":{}"#), "{bad}");
    }
}

#[test]
fn what_repeats_is_ignored() {
    let frames = whole(vec![text(0, &["a"]), call(1, &["{\"x\":1}"])], "tool_use");
    let mut doubled: Vec<Frame> = Vec::new();
    for frame in &frames {
        doubled.push(frame.clone());
        if frame.event != "content_block_delta" {
            doubled.push(frame.clone());
        }
    }
    // The whole of block 0 again, after it was finished.
    doubled.splice(doubled.len() - 4..doubled.len() - 4, text(0, &["a"]));
    let (plain, once) = fold(&frames).unwrap();
    let (updates, twice) = fold(&doubled).unwrap();
    assert_eq!(once.content.get(), twice.content.get());
    assert_eq!(plain.len(), updates.len());
    assert_eq!(twice.usage, once.usage);
}

#[test]
fn what_nobody_knows_is_skipped() {
    let mut frames = whole(vec![text(0, &["a"])], "end_turn");
    frames.insert(1, Frame { event: "invented".into(), data: "not json".into() });
    frames.insert(1, Frame { event: String::new(), data: r#"{"type":"message_stop"}"#.into() });
    frames.insert(4, delta(0, json!({ "type": "invented_delta", "text": "no" })));
    frames.insert(4, delta(9, json!({ "type": "invented_delta" })));
    assert_eq!(fold(&frames).unwrap().1.text, "a");
}

#[test]
fn what_is_missing_is_an_error_that_tells_of_output() {
    let all = whole(vec![text(0, &["a"]), text(1, &["b"])], "end_turn");
    let is_truncated = |frames: &[Frame]| match fold(frames) {
        Err(Error::Truncated { after_output, .. }) => Some(after_output),
        _ => None,
    };
    assert_eq!(is_truncated(&[]), Some(false));
    assert_eq!(is_truncated(&all[..3]), Some(false));
    assert_eq!(is_truncated(&all[..4]), Some(true));
    assert_eq!(is_truncated(&all[..6]), Some(true));
    // Only the last line is missing, and it carries nothing.
    assert_eq!(fold(&all[..8]).unwrap().1.text, "ab");

    let broken = Frame { event: "content_block_delta".into(), data: "{\"type\":".into() };
    let lost = delta(5, json!({ "type": "text_delta", "text": "x" }));
    for bad in [broken, lost] {
        for (at, seen) in [(2, false), (4, true)] {
            let mut frames = all.clone();
            frames.insert(at, bad.clone());
            assert!(matches!(fold(&frames), Err(Error::Protocol { after_output, .. }) if after_output == seen));
        }
    }
    assert!(matches!(fold(&all[1..]), Err(Error::Protocol { .. })));
}

#[test]
fn an_error_event_is_told_apart_by_its_type() {
    let error = |kind: &str| {
        frame(json!({ "type": "error", "error": { "type": kind, "message": "m" }, "request_id": "req_9" }))
    };
    let with = |kind| fold(&[start(), error(kind)]).map(|_| ()).unwrap_err();
    assert!(matches!(with("overloaded_error"), Error::Overloaded { status: None, .. }));
    assert!(with("api_error").is_retryable());
    assert!(!with("invalid_request_error").is_retryable());
    assert_eq!(with("api_error").request_id(), Some("req_9"));
}

#[test]
fn a_fallback_changes_the_model() {
    let block = json!({ "type": "fallback", "from": { "model": "a" }, "to": { "model": "claude-opus-5" }, "trigger": "refusal" });
    let frames = whole(vec![vec![open(0, block), close(0)], text(1, &["x"])], "end_turn");
    assert_eq!(fold(&frames).unwrap().1.model, "claude-opus-5");
}

#[test]
fn iterations_and_totals_without_a_breakdown_are_counted() {
    let mut frames = whole(vec![text(0, &["x"])], "end_turn");
    let at = frames.len() - 2;
    frames[at] = frame(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": {
        "output_tokens": 5, "cache_creation_input_tokens": 50, "server_tool_use": { "web_search_requests": 2 },
        "iterations": [{ "type": "compaction", "input_tokens": 900, "output_tokens": 80 },
            { "type": "message", "input_tokens": 7, "output_tokens": 5, "cache_creation_input_tokens": 9 }] } }));
    let usage = fold(&frames).unwrap().1.usage;
    assert_eq!((usage.cache_creation_5m_input_tokens, usage.cache_creation_1h_input_tokens), (30, 20));
    assert_eq!(usage.web_search_requests, 2);
    let parts = usage.parts();
    assert_eq!(parts.iter().map(|part| part.input_tokens).sum::<u64>(), 907);
    assert_eq!(parts[1].cache_creation_5m_input_tokens, 9);
}
