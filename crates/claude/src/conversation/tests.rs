//! What is sent: joined messages, stable prefixes, moving breakpoints.

use serde_json::{Value, json};

use super::*;
use crate::{Caching, Effort, Request, Thinking, Tool};

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn push(conversation: &mut Conversation, role: Role, blocks: Value) {
    conversation.push(role, &raw(&blocks)).unwrap();
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn result(id: usize) -> Value {
    json!({ "type": "tool_result", "tool_use_id": format!("toolu_{id}"), "content": "ok" })
}

fn call(id: usize) -> Value {
    json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": "Bash", "input": {} })
}

fn rendered(conversation: &Conversation, marker: Option<&str>) -> String {
    let mut body = Vec::new();
    conversation.render(&mut body, marker);
    String::from_utf8(body).unwrap()
}

const MARKER: &str = r#""cache_control":{"type":"ephemeral"}"#;

/// The blocks with a breakpoint, as `message.block`.
fn marked(conversation: &Conversation) -> Vec<String> {
    let messages: Value = serde_json::from_str(&rendered(conversation, Some(MARKER))).unwrap();
    let mut found = Vec::new();
    for (at, message) in messages.as_array().unwrap().iter().enumerate() {
        for (position, block) in message["content"].as_array().unwrap().iter().enumerate() {
            if block.get("cache_control").is_some() {
                found.push(format!("{at}.{position}"));
            }
        }
    }
    found
}

#[test]
fn adjacent_pushes_of_a_role_are_one_message_and_bytes_are_kept() {
    let mut conversation = Conversation::new();
    let odd = RawValue::from_string(r#"[ {"z":1.0,"type" : "text","text":"a"} , {"type":"text","text":" "}]"#.into())
        .unwrap();
    conversation.push(Role::User, &odd).unwrap();
    push(&mut conversation, Role::Assistant, json!([]));
    push(&mut conversation, Role::Assistant, json!([text("")]));
    push(&mut conversation, Role::User, json!([text("b")]));
    push(&mut conversation, Role::Assistant, json!([call(1)]));
    assert_eq!((conversation.len(), conversation.last_role()), (2, Some(Role::Assistant)));
    assert_eq!(
        rendered(&conversation, None),
        concat!(
            r#"[{"role":"user","content":[{"z":1.0,"type" : "text","text":"a"},{"type":"text","text":"b"}]},"#,
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"Bash","input":{}}]}]"#
        )
    );
}

#[test]
fn what_is_no_content_is_refused_and_changes_nothing() {
    let mut conversation = Conversation::new();
    push(&mut conversation, Role::User, json!([text("a")]));
    let before = rendered(&conversation, None);
    let marked = json!([{ "type": "text", "text": "x", "cache_control": { "type": "ephemeral" } }]);
    for bad in [json!("text"), json!({}), json!([1]), json!([{ "text": "no type" }]), json!([text("x"), 3]), marked] {
        assert!(matches!(conversation.push(Role::User, &raw(&bad)), Err(Error::Invalid(_))), "{bad}");
        assert_eq!(rendered(&conversation, None), before);
    }
    assert!(Conversation::new().push(Role::Assistant, &raw(&json!([text("x")]))).is_err());
}

#[test]
fn breakpoints_move_with_the_newest_user_message() {
    let mut conversation = Conversation::new();
    push(&mut conversation, Role::User, json!([text("a"), text("b")]));
    assert_eq!(marked(&conversation), ["0.1"]);
    push(&mut conversation, Role::Assistant, json!([call(1)]));
    push(&mut conversation, Role::User, json!([result(1)]));
    assert_eq!(marked(&conversation), ["2.0"]);

    // A turn of 20 blocks: its predecessor's end would be out of reach.
    let calls: Vec<Value> = (10..20).map(call).collect();
    let results: Vec<Value> = (10..20).map(result).collect();
    push(&mut conversation, Role::Assistant, json!(calls[..9]));
    push(&mut conversation, Role::User, json!(results[..9]));
    assert_eq!(marked(&conversation), ["4.8"]);
    push(&mut conversation, Role::Assistant, json!(calls));
    push(&mut conversation, Role::User, json!(results));
    assert_eq!(marked(&conversation), ["4.8", "6.9"]);
}

#[test]
fn a_block_that_cannot_carry_a_breakpoint_passes_it_back() {
    let mut conversation = Conversation::new();
    let thinking = json!({ "type": "thinking", "thinking": "", "signature": "s" });
    push(&mut conversation, Role::User, json!([text("a"), thinking]));
    assert_eq!(marked(&conversation), ["0.0"]);
    let mut only = Conversation::new();
    push(&mut only, Role::User, json!([thinking]));
    assert!(marked(&only).is_empty());
}

#[test]
fn each_turn_extends_the_bytes_of_the_last() {
    let request = Request {
        model: "claude-sonnet-5-5".into(),
        max_tokens: 1000,
        system: vec!["one".into(), " ".into(), "two".into()],
        tools: vec![Tool {
            name: "Bash".into(),
            description: "d".into(),
            input_schema: raw(&json!({ "type": "object" })),
        }],
        ..Request::default()
    };
    let mut conversation = Conversation::new();
    push(&mut conversation, Role::User, json!([text("start")]));
    let body = |conversation: &Conversation| {
        let body = String::from_utf8(request.render(conversation).unwrap().to_vec()).unwrap();
        assert!(body.matches("cache_control").count() <= 4);
        body.replace(&format!(",{MARKER}"), "")
    };
    let mut last = body(&conversation);
    for turn in 0..60 {
        let width = turn % 13 + 1;
        let ids = || (0..width).map(|at| turn * 100 + at);
        push(&mut conversation, Role::Assistant, json!(ids().map(call).collect::<Vec<_>>()));
        for id in ids() {
            push(&mut conversation, Role::User, json!([result(id)]));
        }
        let next = body(&conversation);
        let open = last.strip_suffix("]}]}").unwrap();
        assert!(next.starts_with(open), "turn {turn} changed what came before");
        last = next;
    }
}

#[test]
fn the_body_has_its_fields_in_a_fixed_order() {
    let mut conversation = Conversation::new();
    push(&mut conversation, Role::User, json!([text("hi")]));
    let request = Request {
        model: "m".into(),
        max_tokens: 9,
        system: vec!["be \"brief\"".into()],
        tools: vec![Tool {
            name: "T".into(),
            description: "d".into(),
            input_schema: raw(&json!({ "type": "object" })),
        }],
        anthropic_tools: vec![raw(&json!({ "type": "web_search_20250305", "name": "web_search" }))],
        thinking: Some(Thinking::Enabled { budget_tokens: 1024 }),
        effort: Some(Effort::Xhigh),
        stop_sequences: vec!["END".into()],
        metadata_user: Some("u1".into()),
        betas: vec!["only-a-header".into()],
        caching: Caching::OneHour,
    };
    let body = request.render(&conversation).unwrap();
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        concat!(
            r#"{"model":"m","max_tokens":9,"stream":true,"thinking":{"type":"enabled","budget_tokens":1024},"#,
            r#""output_config":{"effort":"xhigh"},"stop_sequences":["END"],"metadata":{"user_id":"u1"},"#,
            r#""tools":[{"name":"T","description":"d","input_schema":{"type":"object"}},"#,
            r#"{"type":"web_search_20250305","name":"web_search"}],"#,
            r#""system":[{"type":"text","text":"be \"brief\"","cache_control":{"type":"ephemeral","ttl":"1h"}}],"#,
            r#""messages":[{"role":"user","content":[{"type":"text","text":"hi","#,
            r#""cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}"#
        )
    );
    let bare = Request { model: "m".into(), max_tokens: 9, caching: Caching::Off, ..Request::default() };
    let body = bare.render(&conversation).unwrap();
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#
    );
    assert!(bare.render(&Conversation::new()).is_err());

    let no_system = Request { tools: request.tools.clone(), caching: Caching::FiveMinutes, ..bare };
    let body: Value = serde_json::from_slice(&no_system.render(&conversation).unwrap()).unwrap();
    assert_eq!(body["tools"][0]["cache_control"], json!({ "type": "ephemeral" }));
}
