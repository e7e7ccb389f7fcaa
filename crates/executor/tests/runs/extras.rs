//! What comes with a message: files, secrets, setup scripts and the shape of the answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    RunId,
    attachment::Attachment,
    event::{Event, Item, Recorded},
    run::{Outcome, RunOptions},
};
use scripted_claude::Reply;
use serde_json::{Map, Value};
use store::runs::{NewRun, Started};

use crate::world::{World, bash};

/// The smallest PNG: one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn attached(filename: &str) -> Attachment {
    Attachment { filename: filename.into(), path: Some(format!("in/{filename}")), url: None, reference: Map::new() }
}

fn answer_with(text: impl Into<String>) -> RunOptions {
    let schema: Value = serde_json::from_str(&text.into()).expect("JSON");
    RunOptions { response_schema: Some(schema), ..RunOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_are_shown_where_they_can_be_and_named_where_not() {
    let world = World::new(|_| Reply::text("seen")).await;
    let directory = world.database.directory().join("data/environments").join(world.environment.as_str());
    let directory = directory.join("workspace/in");
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("dot.png"), STANDARD.decode(PNG).expect("base64")).expect("writes");
    std::fs::write(directory.join("paper.pdf"), "%PDF-1.4\nsomething\n%%EOF\n").expect("writes");
    std::fs::write(directory.join("data.csv"), "a,b\n").expect("writes");
    std::fs::write(directory.join("broken.png"), &STANDARD.decode(PNG).expect("base64")[..30]).expect("writes");
    let server = world.server("node_a").await;
    let names = ["dot.png", "paper.pdf", "data.csv", "broken.png", "gone.png"];
    let options = RunOptions { attachments: names.map(attached).into(), ..RunOptions::default() };
    let started = world.send_with("Look", options).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "seen".into() });
    let request = world.claude.requests()[0].json();
    let blocks = request["messages"][0]["content"].as_array().expect("blocks").clone();
    let kinds: Vec<_> = blocks.iter().map(|block| block["type"].as_str().expect("a type")).collect();
    // The reminder, then line and image, line and document, three lines, and the message.
    assert_eq!(kinds, ["text", "text", "image", "text", "document", "text", "text", "text", "text"]);
    assert_eq!(blocks[2]["source"]["data"], PNG);
    let line = |n: usize| blocks[n]["text"].as_str().expect("text");
    assert!(line(1).contains("dot.png, at /workspace/in/dot.png (PNG image"));
    assert!(line(5).contains("data.csv, at /workspace/in/data.csv\n"));
    assert!(line(6).contains("it is not shown here"));
    assert!(line(7).contains("gone.png"));
    assert_eq!(line(8), "Look");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_messages_secret_reaches_its_commands_and_is_gone_afterwards() {
    let world = World::new(|asked| match asked.round {
        0 => bash("printf %s \"$TOKEN\" | tr a-z A-Z > /workspace/token"),
        _ => Reply::text("ok"),
    })
    .await;
    let server = world.server("node_a").await;
    let id = RunId::generate();
    let secrets = [("TOKEN".to_owned(), "canary-secret".to_owned().into())];
    let secrets = world.store().seal_run_secrets(&id, &secrets);
    let new = NewRun { id: Some(id.clone()), messages: vec!["go".into()], secrets, ..NewRun::default() };
    let Started { run_id, .. } =
        world.store().start_run(&world.database.project, &world.thread, new).await.expect("a run");
    world.outcome(&run_id).await;
    assert_eq!(world.file("token").as_deref(), Some("CANARY-SECRET"));
    assert!(world.store().open_run_secrets(&id).await.expect("reads").is_empty(), "gone with the run");
    let pool = world.database.pool().await;
    let left: i64 = sqlx::query_scalar("select count(*) from run_secrets").fetch_one(&pool).await.expect("reads");
    assert_eq!(left, 0);
    assert!(!format!("{:?}", world.events().await).contains("canary-secret"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_scripts_run_once_before_the_model_which_is_told_what_came_out() {
    let world = World::new(|_| Reply::text("ok")).await;
    let server = world.server("node_a").await;
    let setup_scripts = vec!["echo one >> /workspace/log".to_owned(), "echo broken; exit 3".into(), "cat log".into()];
    let started = world.send_with("Go", RunOptions { setup_scripts, ..RunOptions::default() }).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "ok".into() });
    assert_eq!(world.file("log").as_deref(), Some("one\n"));
    let calls = world.finished_calls().await;
    let failed: Vec<_> = calls.iter().map(|call| call.result.as_ref().expect("a result").is_error).collect();
    assert_eq!((calls[0].name.as_str(), failed), ("Setup", vec![false, true, false]));
    let events = world.events().await;
    let warned = |event: &&Recorded| matches!(&event.event, Event::Log { topic, .. } if topic == "setup");
    assert_eq!(events.iter().filter(warned).count(), 1);
    let request = world.claude.requests()[0].json()["messages"].to_string();
    for part in ["Setup script 1 of 3 was run", "Setup script 2 of 3 failed", "broken", "Setup script 3 of 3", "Go"] {
        assert!(request.contains(part), "{part} in {request}");
    }
    assert_eq!(world.claude.requests().len(), 1);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_that_a_crash_cut_off_is_told_and_not_repeated() {
    let world = World::new(|_| Reply::text("ok")).await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    let setup_scripts = vec!["echo ran >> /workspace/log; sleep 30".to_owned(), "echo second >> /workspace/log".into()];
    let started = world.send_with("Go", RunOptions { setup_scripts, ..RunOptions::default() }).await;
    world
        .wait_for(|events| {
            events
                .iter()
                .find(|event| matches!(&event.event, Event::ItemStarted { item: Item::ToolCall(_) }))
                .map(|_| ())
        })
        .await;
    while world.file("log").as_deref() != Some("ran\n") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.kill();
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "ok".into() });
    assert_eq!(world.file("log").as_deref(), Some("ran\nsecond\n"));
    let requests = world.claude.requests();
    let request = requests.last().expect("one").json()["messages"].to_string();
    assert!(request.contains("Setup script 1 of 2 was interrupted"), "{request}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_held_against_its_schema_and_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let world = World::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::text(r#"{"age": "seven"}"#),
        1 => Reply::text("```json\n{\"age\": 7}\n```"),
        _ => Reply::text("I will not."),
    })
    .await;
    let server = world.server("node_a").await;
    let schema = r#"{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}"#;
    let started = world.send_with("How old?", answer_with(schema)).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: r#"{"age": 7}"#.into() });
    let asked = world.claude.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].json()["messages"].to_string().contains("JSON Schema"));
    let started = world.send_with("stubborn", answer_with(schema)).await;
    match world.outcome(&started.run_id).await {
        Outcome::Failed { code, message } => {
            assert_eq!(code, "response_schema");
            assert!(message.contains("not JSON"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.claude.requests().len(), 2 + 3, "asked, and told twice what is wrong");
    let started = world.send("free text again").await;
    assert!(matches!(world.outcome(&started.run_id).await, Outcome::Completed { .. }));
    server.stop_soft().await;
    world.end().await;
}

/// All that watchers of the thread are shown, to the end of the run.
async fn watched(world: &World, started: &Started) -> String {
    use futures::StreamExt;
    let until = store::tail::Until::RunFinished(started.run_id.clone());
    let tail = world.store().tail(world.thread.clone(), started.after_sequence, until);
    tail.map(|tailed| format!("{:?}\n", tailed.expect("reads"))).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_commands_print_however_they_print_it() {
    let commands = [
        "env; cat /proc/self/environ; echo \"$TOKEN\" > /workspace/leak",
        // In two pieces, with time between them.
        "printf %s \"${TOKEN:0:9}\"; sleep 0.4; echo \"${TOKEN:9}\"",
        // Where long output is cut, whatever stands there.
        "for n in $(seq 4000); do printf '%s ' \"$TOKEN\"; done",
        "cat /workspace/leak; exit 3",
    ];
    let world = World::new(move |asked| match asked.round {
        n if n < commands.len() => bash(commands[n]),
        4 => Reply::tool("Read", serde_json::json!({"file_path": "/workspace/leak"})),
        5 => Reply::tool("Grep", serde_json::json!({"pattern": "canary", "output_mode": "content"})),
        _ => Reply::text("ok"),
    })
    .await;
    let server = world.server("node_a").await;
    let id = RunId::generate();
    let value = "canary-5f2c91d0e7";
    let secrets = [("TOKEN".to_owned(), value.to_owned().into())];
    let secrets = world.store().seal_run_secrets(&id, &secrets);
    let setup_scripts = vec!["echo $TOKEN".to_owned()];
    let options = RunOptions { setup_scripts, ..RunOptions::default() };
    let new = NewRun { id: Some(id), messages: vec!["go".into()], secrets, options, ..NewRun::default() };
    let started = world.store().start_run(&world.database.project, &world.thread, new).await.expect("a run");
    let shown = watched(&world, &started).await;
    assert_eq!(world.finished_calls().await.len(), 7);
    assert_eq!(world.file("leak").as_deref(), Some("canary-5f2c91d0e7\n"), "the commands have it");
    let transcript = format!("{:?}", world.store().load_transcript(&world.thread).await.expect("reads"));
    for (what, text) in [("what is shown", &shown), ("the transcript", &transcript)] {
        // Nor the half of one, where something was cut.
        assert!(!text.contains("canary-5f") && !text.contains("c91d0e7"), "{what}");
        assert!(text.matches("[redacted]").count() >= 7, "{what}");
    }
    for request in world.claude.requests() {
        assert!(!request.json().to_string().contains(value));
    }
    server.stop_soft().await;
    world.end().await;
}
