//! The server over HTTP, as a client meets it.

#![allow(clippy::unwrap_used, reason = "in a test, unwrap is the assertion")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use scripted_claude::{Asked, Block, Checks, Fault, Options, Reply, Rule, Script, ScriptedClaude, When};
use serde_json::{Value, json};

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

async fn post(url: &str, route: &str, body: &Value) -> (StatusCode, Value) {
    let answer = http()
        .post(format!("{url}{route}"))
        .header("x-api-key", "k")
        .header("anthropic-version", "2026-10-21")
        .json(body)
        .send()
        .await
        .unwrap();
    assert!(answer.headers()["request-id"].to_str().unwrap().starts_with("req_"));
    (answer.status(), answer.json().await.unwrap())
}

fn tools() -> Value {
    json!(["Write", "Bash"].map(|name| json!({ "name": name, "input_schema": { "type": "object" } })))
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "text", "text": text }] })
}

/// Runs a whole conversation, answering each call by `result`, and gives the calls and the final text.
async fn converse(url: &str, text: &str, result: impl Fn(&Value) -> String) -> (Vec<Value>, String) {
    let mut messages = vec![user(text)];
    let mut calls = Vec::new();
    for _ in 0..200 {
        let body = json!({ "model": "claude-sonnet-5-5", "max_tokens": 1000, "tools": tools(), "messages": messages });
        let (status, reply) = post(url, "/v1/messages", &body).await;
        assert_eq!(status, 200, "{reply}");
        messages.push(json!({ "role": "assistant", "content": reply["content"] }));
        let blocks = reply["content"].as_array().unwrap();
        let made: Vec<Value> = blocks.iter().filter(|block| block["type"] == "tool_use").cloned().collect();
        if made.is_empty() {
            assert_eq!(reply["stop_reason"], "end_turn");
            return (calls, blocks.last().unwrap()["text"].as_str().unwrap().to_owned());
        }
        let results: Vec<Value> = made
            .iter()
            .map(|call| json!({ "type": "tool_result", "tool_use_id": call["id"], "content": result(call) }))
            .collect();
        messages.push(json!({ "role": "user", "content": results }));
        calls.extend(made);
    }
    panic!("the script never ends");
}

async fn builtin(name: &str) -> ScriptedClaude {
    ScriptedClaude::start(Script::builtin(name, "/workspace").unwrap(), Options::default()).await.unwrap()
}

#[tokio::test]
async fn the_first_task_reports_what_curl_really_said() {
    let server = builtin("first-task").await;
    let answers = |call: &Value| {
        let command = call["input"]["command"].as_str().unwrap_or_default();
        match command {
            _ if command.contains("flask-ready") => "flask-ready",
            _ if command.contains("http_code") => "{\"message\":\"Hello, 4711!\"}\nHTTP 200",
            _ => "ok",
        }
        .to_owned()
    };
    let (calls, text) = converse(&server.url(), "Create a Flask API and run it", answers).await;
    let names: Vec<&str> = calls.iter().map(|call| call["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Write", "Bash", "Bash", "Bash"]);
    assert_eq!(calls[2]["input"]["run_in_background"], true);
    assert!(calls[0]["input"]["content"].as_str().unwrap().contains("from flask import"));
    assert!(text.contains("Hello, 4711!") && text.contains("served by Flask"), "{text}");
}

#[tokio::test]
async fn the_first_task_is_honest_without_flask_and_without_an_answer() {
    let server = builtin("first-task").await;
    let (calls, text) = converse(&server.url(), "Build a flask app", |call| {
        let command = call["input"]["command"].as_str().unwrap_or_default();
        if command.contains("http_code") { "curl: (7) refused" } else { "no flask here" }.to_owned()
    })
    .await;
    assert_eq!(calls.len(), 5);
    assert!(calls[2]["input"]["content"].as_str().unwrap().contains("http.server"));
    assert!(text.contains("did not answer") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn simple_wishes_are_granted_and_others_answered_honestly() {
    let server = builtin("first-task").await;
    let url = server.url();
    let (calls, text) =
        converse(&url, "Please create a file notes/a.txt with \"hello there\"", |_| "written".into()).await;
    assert_eq!(calls[0]["input"], json!({ "file_path": "/workspace/notes/a.txt", "content": "hello there\n" }));
    assert!(text.contains("written"));
    for (wish, command) in [("List the files", "ls -la /workspace"), ("run: uname -a", "uname -a"), ("Run `id`", "id")]
    {
        let (calls, text) = converse(&url, wish, |_| "shown".into()).await;
        assert_eq!(calls[0]["input"]["command"], command);
        assert!(text.contains("shown"));
    }
    let (calls, text) = converse(&url, "What is the meaning of life?", |_| String::new()).await;
    assert!(calls.is_empty() && text.contains("stand-in") && text.contains("meaning of life"));
}

#[tokio::test]
async fn bench_makes_the_calls_it_is_told_to() {
    let options = Options { checks: Checks::Lenient, keeps_requests: false, ..Options::default() };
    let script = Script::builtin("bench", "/w").unwrap();
    let server = ScriptedClaude::start(script, options).await.unwrap();
    let (calls, text) = converse(&server.url(), "bench writes=3 bashes=2 deltas=4", |_| "ok".into()).await;
    let names: Vec<&str> = calls.iter().map(|call| call["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Write", "Write", "Write", "Bash", "Bash"]);
    let ids: std::collections::HashSet<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(text.split(' ').count(), 4);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_file_of_rules_decides() {
    let toml = r#"
        [[rules]]
        times = 1
        [rules.when]
        text_contains = "deploy"
        [rules.reply.fault]
        status = 529
        headers = { retry-after = "1" }

        [[rules]]
        when = { text_matches = "(?i)^deploy", round = 0 }
        [[rules.reply.blocks]]
        type = "thinking"
        thinking = "about {{user_text}}"
        [[rules.reply.blocks]]
        type = "tool_use"
        name = "Bash"
        input = { command = "echo {{model}}" }

        [[rules]]
        when = { round = 1, result_contains = "sonnet" }
        reply = { blocks = [{ type = "text", text = "It said {{last_tool_result}} in round {{round}}." }] }
    "#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script.toml");
    std::fs::write(&path, toml).unwrap();
    let server = ScriptedClaude::start(Script::load(&path).unwrap(), Options::default()).await.unwrap();
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [user("Deploy or deploy?")] });
    let (status, error) = post(&server.url(), "/v1/messages", &body).await;
    assert_eq!((status.as_u16(), &error["error"]["type"]), (529, &json!("overloaded_error")));
    let (calls, text) = converse(&server.url(), "Deploy or deploy?", |call| {
        call["input"]["command"].as_str().unwrap().trim_start_matches("echo ").to_owned()
    })
    .await;
    assert_eq!((calls.len(), text.as_str()), (1, "It said claude-sonnet-5-5 in round 1."));
    let (_, text) = converse(&server.url(), "unknown", |_| String::new()).await;
    assert!(text.contains("no rule"));

    let json = directory.path().join("script.json");
    std::fs::write(&json, r#"{"rules":[{"reply":{"blocks":[{"type":"text","text":"from JSON"}]}}]}"#).unwrap();
    server.set_script(Script::load(&json).unwrap());
    assert_eq!(converse(&server.url(), "x", |_| String::new()).await.1, "from JSON");
    let bad = Rule { when: When { text_matches: Some("(".into()), ..When::default() }, ..Rule::default() };
    assert!(Script::rules([bad]).is_err());
}

#[tokio::test]
async fn a_request_is_read_as_it_was_meant() {
    let server = builtin("echo").await;
    let messages = json!([
        user("first"),
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "Bash", "input": {} }] },
        // Interrupted, and the user spoke again.
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "a", "content": "interrupted", "is_error": true },
            { "type": "text", "text": "the date is …" }, { "type": "text", "text": "second" } ] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "b", "name": "Bash", "input": { "command": "x" } }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "b", "content": [{ "type": "text", "text": "r" }] },
            { "type": "text", "text": "<system-reminder>be brief</system-reminder>" } ] },
    ]);
    let body = json!({ "model": "m", "max_tokens": 9, "tools": tools(), "messages": messages });
    let (_, reply) = post(&server.url(), "/v1/messages", &body).await;
    assert_eq!(reply["content"], json!([{ "type": "text", "text": "second" }]));
    let asked: Asked = server.requests()[0].asked.clone().unwrap();
    assert_eq!((asked.round, asked.user_message.as_str()), (1, "the date is …\nsecond"));
    assert_eq!((asked.calls.len(), asked.results.len(), asked.last_result_text().as_str()), (1, 1, "r"));
    assert_eq!(asked.tools, ["Write", "Bash"]);
}

#[tokio::test]
async fn streams_have_the_frames_of_the_api() {
    let reply = Reply::tool(
        "Bash",
        json!({ "command": "echo a rather long command, so that it comes in some pieces, please" }),
    )
    .after(Block::text("words and more words, also in pieces"))
    .after(Block::thinking("hm"));
    let server = ScriptedClaude::start(Script::sequence([reply]), Options::default()).await.unwrap();
    let body = json!({ "model": "m", "max_tokens": 9, "stream": true, "messages": [user("x")] });
    let answer = http()
        .post(format!("{}/v1/messages?beta=true", server.url()))
        .header("authorization", "Bearer k")
        .header("anthropic-version", "2023-06-01")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = answer.text().await.unwrap();
    let mut events: Vec<String> = Vec::new();
    for frame in text.trim_end().split("\n\n") {
        let (event, data) = frame.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event.strip_prefix("event: ").unwrap(), data["type"]);
        let kind = data["delta"]["type"].as_str().or(data["content_block"]["type"].as_str());
        events.push(kind.unwrap_or(data["type"].as_str().unwrap()).to_owned());
    }
    events.dedup();
    let expected = [
        "message_start",
        "thinking",
        "ping",
        "thinking_delta",
        "signature_delta",
        "content_block_stop",
        "text",
        "text_delta",
        "content_block_stop",
        "tool_use",
        "input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn the_other_routes_answer() {
    let server = builtin("echo").await;
    let url = server.url();
    let body = json!({ "model": "m", "messages": [user("count me")] });
    let (status, counted) = post(&url, "/v1/messages/count_tokens", &body).await;
    assert!(status.is_success() && counted["input_tokens"].as_u64().unwrap() > 5);
    assert_eq!(post(&url, "/v1/messages", &body).await.0, 400);
    assert_eq!(post(&url, "/v1/nothing", &body).await.0, 404);
    assert_eq!(post(&url, "/v1/models", &body).await.0, 405);
    let get = async |route: &str, key: &str| {
        let request =
            http().get(format!("{url}{route}")).header("x-api-key", key).header("anthropic-version", "2023-06-01");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let mut ids: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = get(&format!("/v1/models?limit=3{after}"), "k").await;
        ids.extend(page["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            break;
        }
        after = format!("&after_id={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(ids.len(), 4);
    assert_eq!(get("/v1/models/claude-opus-5-5", "k").await.1["display_name"], "Claude Opus 5.5");
    assert_eq!(get("/v1/models/none", "k").await.0, 404);
    assert_eq!(get("/v1/models", "").await.0, 401);
    let huge = http()
        .post(format!("{url}/v1/messages"))
        .header("x-api-key", "k")
        .header("anthropic-version", "2023-06-01")
        .body(vec![b' '; 33 << 20])
        .send()
        .await;
    // The server may close before it has read everything.
    assert!(huge.map_or(true, |answer| answer.status() == 413));
}

#[tokio::test]
async fn a_reply_waits_until_it_is_released() {
    let held = Fault { hold: Some("gate".into()), ..Fault::default() };
    let script = Script::sequence([Reply::text("go").with_fault(held)]);
    let server = ScriptedClaude::start(script, Options::default()).await.unwrap();
    let url = server.url();
    let asking = tokio::spawn(async move {
        post(&url, "/v1/messages", &json!({ "model": "m", "max_tokens": 9, "messages": [user("x")] })).await
    });
    server.wait_for_requests(1).await;
    assert!(!asking.is_finished());
    server.pause();
    server.release("gate");
    server.resume();
    assert_eq!(asking.await.unwrap().1["content"][0]["text"], "go");
}

#[tokio::test]
async fn the_program_prints_its_address_and_logs_without_keys() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_scripted-claude"))
        .args(["--script", "echo", "--delta-delay-ms", "1", "--log"])
        .arg(&log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said["script"], "echo");
    let (_, text) = converse(said["url"].as_str().unwrap(), "hello", |_| String::new()).await;
    assert_eq!(text, "hello");
    child.kill().unwrap();
    child.wait().unwrap();
    let logged = std::fs::read_to_string(log).unwrap();
    assert!(logged.contains("anthropic-version") && !logged.contains("x-api-key"), "{logged}");
    let failed = Command::new(env!("CARGO_BIN_EXE_scripted-claude")).args(["--script", "nothing"]).output().unwrap();
    assert!(!failed.status.success());
}
