//! What the model reads: the same bytes again in every turn, and what is new at the end.

use domain::run::Outcome;
use scripted_claude::{Block, Reply};
use serde_json::{Value, json};

use crate::world::{World, bash};

/// Takes the cache markers out, which move and are not part of what is cached.
pub(crate) fn without_markers(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            object.remove("cache_control");
            object.values_mut().for_each(|value| *value = without_markers(value.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without_markers(value.take())),
        _ => {}
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_begins_with_the_one_before_it_even_when_the_instructions_change() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("first", 0) => {
            Reply::tool("Write", json!({"file_path": "/workspace/CLAUDE.md", "content": "Speak in rhymes."}))
        }
        ("first", 1) => bash("cat CLAUDE.md").after(Block::thinking("hm")),
        ("first", _) => Reply::text("written"),
        _ => Reply::text("rhyme time"),
    })
    .await;
    let server = world.server("node_a").await;
    world.ask("first").await;
    world.ask("second").await;
    world.ask("third").await;
    server.stop_soft().await;

    let requests: Vec<Value> = world.claude.requests().iter().map(|request| without_markers(request.json())).collect();
    assert_eq!(requests.len(), 5);
    for pair in requests.windows(2) {
        assert_eq!((&pair[0]["system"], &pair[0]["tools"]), (&pair[1]["system"], &pair[1]["tools"]));
        let (before, after) =
            (pair[0]["messages"].as_array().expect("a list"), pair[1]["messages"].as_array().expect("a list"));
        assert_eq!(before.as_slice(), &after[..before.len()], "history is only appended to");
    }
    let told = |request: &Value| request["messages"].as_array().and_then(|all| all.last()).map(Value::to_string);
    assert!(told(&requests[3]).is_some_and(|text| text.contains("Speak in rhymes.")), "the change is told once");
    assert!(told(&requests[4]).is_some_and(|text| !text.contains("Speak in rhymes.")), "and not again");

    // What was cached grows with every turn: the prefix is found again.
    let pool = world.database.pool().await;
    let read: Vec<i64> = sqlx::query_scalar("select cache_read_tokens from turns order by created_at, number")
        .fetch_all(&pool)
        .await
        .expect("reads");
    assert!(read[0] == 0 && read.windows(2).all(|pair| pair[0] < pair[1]), "{read:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_only_look_run_side_by_side_and_the_others_in_order() {
    let read = |name: &str| Block::tool("Bash", json!({"command": format!("sleep 0.2; cat /workspace/{name}")}));
    let world = World::new(move |asked| match asked.round {
        0 => Reply::tool("Write", json!({"file_path": "/workspace/a", "content": "A"}))
            .and(Block::tool("Write", json!({"file_path": "/workspace/b", "content": "B"})))
            .and(read("a"))
            .and(Block::tool("Read", json!({"file_path": "/workspace/a"})))
            .and(Block::tool("Read", json!({"file_path": "/workspace/b"})))
            .and(Block::tool("Read", json!({"file_path": "/workspace/missing"}))),
        _ => Reply::text("ok"),
    })
    .await;
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: "ok".into() });
    let calls = world.finished_calls().await;
    assert_eq!(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>()[..3], ["Write", "Write", "Bash"]);
    let errors = calls.iter().filter(|call| call.result.as_ref().is_some_and(|result| result.is_error)).count();
    assert_eq!((calls.len(), errors), (6, 1));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_messages_own_wishes_reach_the_model_and_the_commands() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo $COLOUR"),
        _ => Reply::text(format!("{} {}", asked.last_result_text().trim(), asked.model)),
    })
    .await;
    let server = world.server("node_a").await;
    let options = domain::run::RunOptions {
        model: Some("claude-opus-5".into()),
        instructions: Some("Be brief.".into()),
        execution_content: Some("what the model reads".into()),
        environment_variables: [("COLOUR".to_owned(), "green".to_owned())].into(),
        ..Default::default()
    };
    let started = world.send_with("what people see", options).await;
    let outcome = world.outcome(&started.run_id).await;
    assert_eq!(outcome, Outcome::Completed { content: "green claude-opus-5".into() });
    let request = world.claude.requests().remove(0).json().to_string();
    assert!(request.contains("Be brief.") && request.contains("what the model reads"));
    assert!(!request.contains("what people see"));
    server.stop_soft().await;
    world.end().await;
}
