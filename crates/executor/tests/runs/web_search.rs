//! The web searched by the model's back end, in the middle of its replies.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    event::{Detail, Event, Item, SearchHit},
    run::{Outcome, RunOptions},
};
use executor::Options;
use scripted_claude::{Block, Reply, ReplyUsage};
use serde_json::{Value, json};

use crate::world::World;

fn raw(block: Value) -> Block {
    let Value::Object(block) = block else { panic!("a block is an object") };
    Block::Raw { block }
}

fn call(id: &str) -> Block {
    raw(json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "rust async"}}))
}

fn results(id: &str) -> Value {
    json!({"type": "web_search_tool_result", "tool_use_id": id, "content": [
        {"type": "web_search_result", "url": "https://a.example/", "title": "A", "encrypted_content": "Zm9v/+==", "page_age": "2 days ago", "later_field": {"b": 1.0e5, "a": null}},
        {"type": "web_search_result", "url": "https://b.example/", "title": "B", "encrypted_content": "YmFy", "page_age": null},
    ]})
}

fn searching() -> RunOptions {
    RunOptions { enabled_skills: Some(vec!["web_search".into()]), ..RunOptions::default() }
}

fn with_backend(options: &mut Options) {
    options.search.uses_backend = true;
    options.search.backend.max_uses = 3;
    options.search.backend.blocked_domains = vec!["spam.example".into()];
}

/// Gives the environment the internet: without, nothing searches.
pub(crate) async fn online(world: &World) {
    let change = |environment: &mut domain::environment::Environment| {
        environment.settings.internet_access = true;
        Ok::<_, store::Error>(())
    };
    let (project, id) = (&world.database.project, &world.environment);
    world.store().update_environment(project, id, None, change).await.expect("is changed");
    // Now, so that no start is cut off half-way by the end of a run that never calls.
    world.warm_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_search_goes_on_byte_for_byte_and_is_counted() {
    let rounds = Arc::new(Mutex::new(0));
    let world = World::new(move |_| {
        let mut round = rounds.lock().expect("not poisoned");
        *round += 1;
        let usage = ReplyUsage { web_search_requests: Some(1), ..ReplyUsage::default() };
        match *round {
            // The back end pauses with a search under way, then one that is over.
            1 => Reply { stop_reason: Some("pause_turn".into()), ..Reply::text("Looking.").and(call("srvtoolu_1")) },
            2 => Reply {
                usage,
                blocks: vec![
                    raw(results("srvtoolu_1")),
                    call("srvtoolu_2"),
                    raw(results("srvtoolu_2")),
                    Block::text("found"),
                ],
                ..Reply::default()
            },
            _ => Reply::text("again"),
        }
    })
    .await;
    online(&world).await;
    let server = world.server_with("node_a", with_backend).await;
    let started = world.send_with("search", searching()).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "found".into() });
    let requests = world.claude.requests();
    let tools = requests[0].json()["tools"].as_array().expect("tools").clone();
    assert_eq!(
        tools.last(),
        Some(&json!({
            "type": "web_search_20260318", "name": "web_search", "max_uses": 3, "blocked_domains": ["spam.example"],
            "allowed_callers": ["direct"],
        }))
    );
    assert!(tools.iter().all(|tool| tool["name"] != "WebSearch"));
    // The paused reply is the end of the next request: nothing is said after it.
    let second = requests[1].json();
    let last = second["messages"].as_array().expect("messages").last().expect("one").clone();
    assert_eq!((&last["role"], &last["content"][1]["id"]), (&json!("assistant"), &json!("srvtoolu_1")));
    // What came back is sent as it came, in a later run, too.
    let again = world.send_with("more", searching()).await;
    world.outcome(&again.run_id).await;
    let third = world.claude.requests()[2].json().to_string();
    for id in ["srvtoolu_1", "srvtoolu_2"] {
        assert!(third.contains(&results(id).to_string()), "{third}");
    }
    let calls = world.finished_calls().await;
    assert_eq!(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["WebSearch", "WebSearch"]);
    let hit = |title: &str, url: &str, date: Option<&str>| SearchHit {
        title: title.into(),
        url: url.into(),
        date: date.map(str::to_owned),
    };
    let hits = vec![hit("A", "https://a.example/", Some("2 days ago")), hit("B", "https://b.example/", None)];
    for call in &calls {
        let result = call.result.as_ref().expect("a result");
        assert_eq!(result.detail, Some(Detail::WebSearch { query: "rust async".into(), hits: hits.clone() }));
    }
    // One request at ten dollars a thousand, beside its tokens.
    let run = world.store().find_run(&world.database.project, &started.run_id).await.expect("reads").expect("is there");
    let spent = &run.spent;
    let tokens = (spent.input_tokens + spent.cache_write_tokens) * 2 + spent.output_tokens * 10;
    assert!(spent.cost.0 >= 10_000 && spent.cost.0 <= 10_000 + 4 * tokens, "{spent:?}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_search_is_told_before_the_model_is_asked() {
    let world = World::new(|_| Reply::text("done")).await;
    let server = world.server("node_a").await;
    let no_internet = world.send_with("a", searching()).await;
    world.outcome(&no_internet.run_id).await;
    online(&world).await;
    let no_engine = world.send_with("b", searching()).await;
    world.outcome(&no_engine.run_id).await;
    let told = world.logged("skills").await;
    assert!(told[0].contains("this run has no internet"), "{told:?}");
    assert!(told[1].contains("no search engine is set up on this server (search.provider)"), "{told:?}");
    for request in world.claude.requests() {
        let json = request.json().to_string();
        assert!(!json.contains("web_search_2") && !json.contains("\"WebSearch\""));
    }
    server.stop_soft().await;
    // Where somebody must be asked, the back end, which does not ask, is not given the tool.
    let server = world.server_with("node_b", with_backend).await;
    let mut options = searching();
    options.stored.insert("permissionSet".into(), json!({"rules": {"ask": ["WebSearch"]}}));
    let asked = world.send_with("c", options).await;
    world.outcome(&asked.run_id).await;
    let last = world.claude.requests().last().expect("asked").json().to_string();
    assert!(!last.contains("web_search_2"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_our_calls_come_alone_while_a_search_of_the_back_end_is_open() {
    let world = World::new(|asked| match asked.round {
        0 => Reply::tool("TodoWrite", json!({"todos": []})).and(call("srvtoolu_1")),
        1 => Reply { blocks: vec![raw(results("srvtoolu_1")), Block::text("done")], ..Reply::default() },
        _ => Reply::text("too many"),
    })
    .await;
    online(&world).await;
    let server = world.server_with("node_a", with_backend).await;
    let started = world.send_with("both", searching()).await;
    let outcome = tokio::time::timeout(Duration::from_secs(60), world.outcome(&started.run_id)).await.expect("it ends");
    assert_eq!(outcome, Outcome::Completed { content: "done".into() });
    let second = world.claude.requests()[1].json();
    let last = second["messages"].as_array().expect("messages").last().expect("one").clone();
    let kinds: Vec<_> = last["content"].as_array().expect("blocks").iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, [json!("tool_result")]);
    let started = world.events().await.iter().any(
        |event| matches!(&event.event, Event::ItemStarted { item: Item::ToolCall(call) } if call.name == "WebSearch"),
    );
    assert!(started);
    server.stop_soft().await;
    world.end().await;
}
