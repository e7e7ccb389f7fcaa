//! Agents that a run calls: side by side, nested, in the background; under one budget, and gone with the run.

use std::time::Duration;

use domain::{
    event::{Event, Item, Recorded},
    limits::Limits,
    permission::Decision,
    run::{Outcome, Run, RunOptions, RunStatus},
};
use scripted_claude::{Asked, Block, Reply};
use serde_json::json;
use store::permissions::Wish;

use crate::world::{World, bash};

fn agent(prompt: &str) -> Block {
    Block::tool("Agent", json!({"description": format!("do {prompt}"), "prompt": prompt}))
}

fn agents<'a>(prompts: impl IntoIterator<Item = &'a str>) -> Reply {
    let mut blocks = prompts.into_iter().map(agent);
    let first = blocks.next().expect("at least one");
    blocks.fold(Reply::default().and(first), Reply::and)
}

fn done(content: &str) -> Outcome {
    Outcome::Completed { content: content.into() }
}

/// Gives what happened to agents, with the description of each.
fn nested(events: &[Recorded]) -> impl Iterator<Item = (&str, &Event)> {
    events.iter().filter_map(|recorded| match &recorded.event {
        Event::Subagent { agent, event } => Some((agent.description.as_str(), &**event)),
        _ => None,
    })
}

impl World {
    async fn called(&self, parent: &domain::RunId) -> Vec<Run> {
        self.store().list_subagents(parent).await.expect("reads")
    }

    async fn until_over(&self, run: &domain::RunId, status: RunStatus) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.store().find_run_status(run).await.expect("reads") != Some(status) {
            assert!(tokio::time::Instant::now() < deadline, "not {status}: {:#?}", self.events().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_one_reply_work_side_by_side_and_give_back_their_last_words_only() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("go", 0) => agents(["one", "two", "three"]),
        ("go", _) => Reply::text(format!("I heard: {}", asked.last_result_text().replace('\n', " "))),
        // None of them ends before all have begun.
        (name, 0) => bash(&format!(
            "touch /workspace/{name}.here; until [ $(ls /workspace/*.here | wc -l) = 3 ]; do sleep 0.05; done"
        )),
        (name, _) => Reply::text(format!("{name} is done")),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    for name in ["one", "two", "three"] {
        assert!(content.contains(&format!("{name} is done")), "{content}");
    }
    let called = world.called(&started.run_id).await;
    assert_eq!(called.len(), 3);
    assert!(called.iter().all(|run| run.status == RunStatus::Completed && run.depth() == 1), "{called:?}");

    let events = world.events().await;
    let ends = nested(&events).filter(|(_, event)| matches!(event, Event::RunFinished { .. })).count();
    assert_eq!(ends, 3, "each is told of in the log of its thread");
    // And can be read on its own.
    let is_one = |run: &&Run| run.subagent().is_some_and(|agent| agent.description == "do one");
    let one = called.iter().find(is_one).expect("was called");
    let own = world.store().list_run_events(&world.thread, &one.id, 0, None, 1000).await.expect("reads");
    assert!(own.len() >= 5, "{own:#?}");
    assert!(nested(&own).all(|(description, _)| description == "do one") && nested(&own).count() == own.len());
    // The thread's transcript holds none of it, its sums all of it.
    let transcript = format!("{:?}", world.store().load_transcript(&world.thread).await.expect("reads"));
    assert!(!transcript.contains(".here"), "{transcript}");
    let thread =
        world.store().find_thread(&world.database.project, &world.thread).await.expect("reads").expect("is there");
    let run = world.store().find_run(&world.database.project, &started.run_id).await.expect("reads").expect("is there");
    let sum = called.iter().fold(run.spent, |sum, agent| sum + agent.spent);
    assert_eq!(thread.spent, sum);
    assert_eq!(thread.message_count, 2);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_call_agents_down_to_the_cap_and_no_further() {
    let world = World::new(|asked| match asked.round {
        0 if asked.tools.iter().any(|tool| tool == "Agent") => agents([format!("{} deeper", asked.user_text).as_str()]),
        0 => agents(["beyond the cap"]),
        _ => Reply::text(format!("{} <- {}", asked.user_text, asked.last_result_text())),
    })
    .await;
    let server = world.server_with("node_a", |options| options.agents.max_depth = 2).await;
    let started = world.send("go").await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert!(content.contains("called this deep"), "{content}");
    let pool = world.database.pool().await;
    let depths: Vec<i32> =
        sqlx::query_scalar("select depth from runs order by depth").fetch_all(&pool).await.expect("reads");
    assert_eq!(depths, [0, 1, 2]);
    pool.close().await;
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_agents_are_called_than_there_may_be() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("go", 0) => agents(["a", "b", "c", "d", "e"]),
        ("go", _) => Reply::text(asked.results.iter().filter(|result| result.is_error).count().to_string()),
        _ => Reply::text("fine"),
    })
    .await;
    let server = world.server_with("node_a", |options| options.agents.max_calls = 2).await;
    let started = world.send("go").await;
    assert_eq!(world.outcome(&started.run_id).await, done("3"));
    assert_eq!(world.called(&started.run_id).await.len(), 2);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_all_agents_with_their_processes() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "go" => agents(["one", "two"]),
        name => bash(&format!("touch /workspace/{name}.here; trap '' TERM; setsid sleep 947 & sleep 947")),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    while world.file("one.here").is_none() || world.file("two.here").is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("cancels");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    let called = world.called(&started.run_id).await;
    assert_eq!(called.len(), 2);
    assert!(called.iter().all(|run| run.status == RunStatus::Cancelled), "{called:?}");
    for run in called.iter().map(|run| &run.id).chain([&started.run_id]) {
        let left = world.sandboxes.kill_group(&world.environment, run.as_str()).await.expect("the engine answers");
        assert_eq!(left, 0, "a process of {run} is left");
    }
    // The end of the run is the last event of all.
    let events = world.events().await;
    assert!(matches!(events.last().map(|last| &last.event), Some(Event::RunFinished { .. })), "{events:#?}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_agents_of_a_run_are_under_one_budget() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "go" if asked.round == 0 => agents(["one", "two", "three"]),
        _ => bash("true"),
    })
    .await;
    let server = world.server("node_a").await;
    let limits = Limits { max_turns: Some(10), ..Limits::default() };
    let started = world.send_with("go", RunOptions { limits, ..RunOptions::default() }).await;
    assert_eq!(world.outcome(&started.run_id).await.reason(), "max_turns");
    let turns = world.claude.requests().len();
    // Each branch looks before it asks: beyond the limit there is at most one call of each of the others.
    assert!((10..=12).contains(&turns), "{turns} calls of the model");
    let called = world.called(&started.run_id).await;
    assert!(called.iter().all(|run| run.status == RunStatus::Failed), "{called:?}");
    println!(r#"{{"test":"R20","n":3,"limit":10,"turns":{turns},"pass":true}}"#);
    server.stop_soft().await;
    world.end().await;
}

/// Two agents, each of three rounds that append a line.
fn job(asked: &Asked) -> Reply {
    let append = |line: String| bash(&format!("echo {line} >> /workspace/lines"));
    match (asked.user_text.as_str(), asked.round) {
        ("go", 0) => agents(["one", "two"]).after(Block::text("Both.")),
        ("go", 1) => append("last".into()),
        ("go", _) => Reply::text("all done"),
        (name, round @ 0..=2) => append(format!("{name}{round}")),
        (name, _) => Reply::text(format!("{name} is done")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_event_boundaries_runs_no_agent_twice() {
    let world = World::new(job).await;
    world.warm_up().await;
    let started = world.send("go").await;
    let mut killed = 0;
    for boundary in 3.. {
        let server = world.server("node_a").await;
        let is_over = world.is_over_at(boundary).await;
        if killed % 2 == 1 {
            // In the middle of what comes after it, too.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        server.kill();
        if is_over {
            break;
        }
        killed += 1;
    }
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, done("all done"));
    let called = world.called(&started.run_id).await;
    assert_eq!(called.len(), 2, "one run for each call");
    assert!(called.iter().all(|run| run.status == RunStatus::Completed), "{called:?}");
    let lines = world.file("lines").unwrap_or_default();
    let mut unique: Vec<_> = lines.lines().collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), lines.lines().count(), "no call was run twice: {lines}");
    let events = world.events().await;
    let results: Vec<_> = events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::Subagent { event, .. } => Some(&**event),
            Event::ItemCompleted { item: Item::ToolCall(call) } if call.name == "Agent" => None,
            event => Some(event),
        })
        .filter_map(|event| match event {
            Event::ItemCompleted { item: Item::ToolCall(call) } => call.result.as_ref(),
            _ => None,
        })
        .collect();
    assert_eq!(results.len(), 7, "each call has exactly one result");
    let interrupted = results.iter().filter(|result| result.text.contains("interrupted")).count();
    assert!(unique.len() + interrupted >= 7, "what was not run is told as interrupted: {lines}");
    assert!(killed >= 10, "the gate was tried: {killed}");
    println!(r#"{{"test":"R1-agents","n":{killed},"lost":0,"dup":0,"interrupted":{interrupted},"pass":true}}"#);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_not_over_before_its_agents_in_the_background_are() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "go" if asked.round == 0 => {
            let input = json!({"description": "slow", "prompt": "work", "run_in_background": true});
            Reply::tool("Agent", input)
        }
        "go" => Reply::text("nothing else to do"),
        "work" if asked.round == 0 => bash("until [ -e /workspace/go ]; do sleep 0.05; done"),
        "work" => Reply::text("the slow answer"),
        told => Reply::text(format!("I was told: {told}")),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    let is_said = |event: &Recorded| matches!(&event.event, Event::ItemCompleted { item: Item::Text { text } } if text == "nothing else to do");
    world.wait_for(|events| events.iter().any(is_said).then_some(())).await;
    // It waits through the end of its server, too.
    server.kill();
    let server = world.server("node_a").await;
    std::fs::write(world.path("go"), "").expect("writes");
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert_eq!(content, "I was told: the slow answer");
    let called = world.called(&started.run_id).await;
    assert!(called.iter().all(|run| run.place.as_ref().is_some_and(|place| place.is_told)), "{called:?}");
    assert_eq!(called.len(), 1);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_agent_waits_for_a_decision_waits_without_a_worker() {
    let world = World::new(|asked| match (asked.user_text.as_str(), asked.round) {
        ("go", 0) => agents(["careful"]),
        ("go", _) => Reply::text(format!("It said: {}", asked.last_result_text())),
        (_, 0) => bash("echo x >> /workspace/asked"),
        (_, _) => Reply::text("it was allowed"),
    })
    .await;
    let server = world.server("node_a").await;
    let rules = json!({"rules": {"ask": ["Bash"]}});
    let stored = [("permissionSet".to_owned(), rules)].into_iter().collect();
    let started = world.send_with("go", RunOptions { stored, ..RunOptions::default() }).await;
    world.until_over(&started.run_id, RunStatus::Waiting).await;
    let pool = world.database.pool().await;
    let leases: i64 = sqlx::query_scalar("select count(*) from runs where lease_token is not null")
        .fetch_one(&pool)
        .await
        .expect("counts");
    pool.close().await;
    assert_eq!(leases, 0);
    assert_eq!(world.file("asked"), None);
    let requests = world.store().list_open_requests(&world.database.project, &world.thread).await.expect("reads");
    let [request] = requests.as_slice() else { panic!("one request of the thread: {requests:?}") };
    let wish = Wish { decision: Decision::Allow, reason: None, updated_input: None };
    world.store().decide_request(&world.database.project, &world.thread, &request.id, &wish).await.expect("decides");
    assert_eq!(world.outcome(&started.run_id).await, done("It said: it was allowed"));
    assert_eq!(world.file("asked").as_deref(), Some("x\n"));
    assert_eq!(world.called(&started.run_id).await.len(), 1);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_with_its_agents_is_cancelled_as_a_whole() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        "go" => agents(["one", "two"]),
        "again" => Reply::text("still here"),
        _ => bash("true"),
    })
    .await;
    let server = world.server("node_a").await;
    let rules = json!({"rules": {"ask": ["Bash"]}});
    let stored = [("permissionSet".to_owned(), rules)].into_iter().collect();
    let started = world.send_with("go", RunOptions { stored, ..RunOptions::default() }).await;
    world.until_over(&started.run_id, RunStatus::Waiting).await;
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("cancels");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    assert!(world.called(&started.run_id).await.iter().all(|run| run.status == RunStatus::Cancelled));
    assert_eq!(world.ask("again").await, done("still here"));
    server.stop_soft().await;
    world.end().await;
}
