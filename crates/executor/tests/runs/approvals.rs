//! Calls that somebody must allow: made exactly once or never, whatever dies and whoever races.

use std::time::Duration;

use domain::{
    PermissionRequestId,
    event::{Event, Item},
    permission::{Decider, Decision, Request},
    run::{Outcome, RunOptions, RunStatus},
    thread::ThreadStatus,
};
use scripted_claude::{Asked, Block, Reply};
use serde_json::{Value, json};
use store::{
    permissions::{Settled, UNANSWERED, Wish},
    runs::Started,
};

use crate::world::{World, bash};

/// A job of six rounds. Even ones append a line freely, then ask to append another; odd ones only look.
fn job(asked: &Asked) -> Reply {
    let round = asked.round;
    match round {
        6.. => Reply::text("all done"),
        round if round % 2 == 0 => bash(&format!("echo free{round} >> /workspace/lines")).and(Block::tool(
            "Bash",
            json!({"command": format!("echo asked{round} >> /workspace/lines && true asked")}),
        )),
        _ => bash("cat /workspace/lines"),
    }
}

/// What the job asks about.
fn rules() -> Value {
    json!({"rules": {"ask": ["Bash(* asked)"]}})
}

fn options(permissions: Value) -> RunOptions {
    let stored = [("permissionSet".to_owned(), permissions)].into_iter().collect();
    RunOptions { stored, ..RunOptions::default() }
}

pub(crate) fn allow() -> Wish {
    Wish { decision: Decision::Allow, reason: None, updated_input: None }
}

pub(crate) fn deny(reason: &str) -> Wish {
    Wish { decision: Decision::Deny, reason: Some(reason.into()), updated_input: None }
}

impl World {
    async fn requests(&self) -> Vec<Request> {
        self.store().list_open_requests(&self.database.project, &self.thread).await.expect("reads")
    }

    pub(crate) async fn decide(&self, request: &PermissionRequestId, wish: Wish) -> Settled {
        self.store().decide_request(&self.database.project, &self.thread, request, &wish).await.expect("decides")
    }

    /// Waits until the run waits, and gives what for.
    pub(crate) async fn until_waiting(&self, started: &Started) -> Vec<Request> {
        self.until_status(started, RunStatus::Waiting).await;
        self.requests().await
    }

    pub(crate) async fn until_status(&self, started: &Started, status: RunStatus) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.store().find_run_status(&started.run_id).await.expect("reads");
            if found == Some(status) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}, not {status}: {:#?}", self.events().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn thread_status(&self) -> ThreadStatus {
        let thread = self.store().find_thread(&self.database.project, &self.thread).await.expect("reads");
        thread.expect("is there").status
    }

    /// Counts the events that are more than somebody's having begun.
    async fn work(&self) -> usize {
        let is_work = |event: &domain::event::Recorded| {
            !matches!(
                event.event,
                Event::RunQueued
                    | Event::RunStarted
                    | Event::RunResumed { .. }
                    | Event::RunContinued { .. }
                    | Event::ComputerStarting
            )
        };
        self.events().await.iter().filter(|event| is_work(event)).count()
    }

    /// Gives the result texts of the calls whose command holds `part`.
    async fn results_of(&self, part: &str) -> Vec<String> {
        let calls = self.finished_calls().await;
        let calls = calls.into_iter().filter(|call| call.input.get().contains(part));
        calls.map(|call| call.result.expect("is finished").text).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_without_a_worker_and_is_made_when_it_is_allowed() {
    let world = World::new(job).await;
    let server = world.server("node_a").await;
    let started = world.send_with("go", options(rules())).await;
    let requests = world.until_waiting(&started).await;
    let [request] = requests.as_slice() else { panic!("one request: {requests:?}") };
    assert_eq!((request.tool.as_str(), request.rule.as_str()), ("Bash", "Bash(* asked)"));
    assert_eq!(request.expires_at - request.created_at, chrono::TimeDelta::days(7));
    // What is allowed was made; what is asked about was not.
    assert_eq!(world.file("lines").as_deref(), Some("free0\n"));
    assert_eq!(world.thread_status().await, ThreadStatus::PermissionAsked);
    let pool = world.database.pool().await;
    let leases: i64 = sqlx::query_scalar("select count(*) from runs where lease_token is not null")
        .fetch_one(&pool)
        .await
        .expect("counts");
    assert_eq!(leases, 0, "nobody holds a run that waits");
    let new = store::runs::NewRun { messages: vec!["me too".into()], ..store::runs::NewRun::default() };
    let second = world.store().start_run(&world.database.project, &world.thread, new).await;
    assert!(matches!(second, Err(store::Error::Busy)), "{second:?}");

    let settled = world.decide(&request.id, allow()).await;
    assert!(settled.is_yours);
    for round in [2, 4] {
        let requests = world.until_waiting(&started).await;
        assert!(requests[0].input.contains(&format!("asked{round}")), "{requests:?}");
        world.decide(&requests[0].id, allow()).await;
        world
            .wait_for(|events| {
                let runs = |event: &&domain::event::Recorded| matches!(event.event, Event::RunContinued { .. });
                (events.iter().filter(runs).count() > round / 2).then_some(())
            })
            .await;
    }
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "all done".into() });
    assert_eq!(world.file("lines").as_deref(), Some("free0\nasked0\nfree2\nasked2\nfree4\nasked4\n"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_every_event_boundary_makes_every_allowed_call_once_or_tells_it() {
    let world = World::new(job).await;
    world.warm_up().await;
    let started = world.send_with("go", options(rules())).await;
    let (mut killed, mut boundary) = (0, 1);
    loop {
        let server = world.server("node_a").await;
        let target = boundary;
        // Until the next boundary, or until the run can get no further by itself.
        let is_over = loop {
            let events = world.work().await;
            let status = world.store().find_run_status(&started.run_id).await.expect("reads").expect("is there");
            if status.is_over() || events >= target {
                break status.is_over();
            }
            if status == RunStatus::Waiting {
                // Kill first, decide with nobody there: the decision must carry the run all the same.
                break false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        server.kill();
        if is_over {
            break;
        }
        killed += 1;
        for request in world.requests().await {
            world.decide(&request.id, allow()).await;
        }
        boundary = world.work().await + 1;
    }
    let server = world.server("node_a").await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "all done".into() });
    let lines = world.file("lines").expect("was written");
    let mut unique: Vec<_> = lines.lines().collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), lines.lines().count(), "no call was made twice: {lines}");
    let mut interrupted = 0;
    for round in [0, 2, 4] {
        for name in [format!("free{round}"), format!("asked{round}")] {
            let results = world.results_of(&format!("echo {name}")).await;
            assert_eq!(results.len(), 1, "{name} has one result: {results:?}");
            let was_told = results[0].contains("interrupted");
            interrupted += usize::from(was_told);
            assert!(
                was_told || lines.lines().any(|line| line == name),
                "{name} was neither made nor told: {results:?}"
            );
        }
    }
    assert!(killed >= 10, "it was killed: {killed}");
    println!(r#"{{"test":"R15","kills":{killed},"lost":0,"dup":0,"interrupted":{interrupted},"pass":true}}"#);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_still_waiting_after_three_restarts_and_is_made_once() {
    let world = World::new(job).await;
    let started = world.send_with("go", options(rules())).await;
    for _ in 0..3 {
        let server = world.server("node_a").await;
        world.until_waiting(&started).await;
        server.stop_hard().await;
    }
    let requests = world.requests().await;
    assert_eq!(requests.len(), 1);
    // Decided while no server is there.
    assert!(world.decide(&requests[0].id, allow()).await.is_yours);
    assert_eq!(world.store().find_run_status(&started.run_id).await.expect("reads"), Some(RunStatus::Queued));
    let server = world.server("node_b").await;
    let next = world.wait_for(|events| {
        let asked = |event: &domain::event::Recorded| match &event.event {
            Event::PermissionAsked { request } if request.input.contains("asked2") => Some(request.request_id.clone()),
            _ => None,
        };
        events.iter().find_map(asked)
    });
    next.await;
    assert_eq!(world.file("lines").expect("is there").matches("asked0").count(), 1);
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("cancels");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_to_deny_reaches_the_model_and_several_calls_are_asked_about_together() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo one >> /workspace/lines")
            .and(Block::tool("Bash", json!({"command": "echo two >> /workspace/lines"})))
            .and(Block::tool("Bash", json!({"command": "echo three >> /workspace/lines"}))),
        _ => {
            let results: Vec<_> = asked.last_results().map(|result| (result.is_error, result.text.clone())).collect();
            Reply::text(format!("{results:?}"))
        }
    })
    .await;
    let server = world.server("node_a").await;
    let started =
        world.send_with("go", options(json!({"rules": {"ask": ["Bash"], "deny": ["Bash(* three *)"]}}))).await;
    let requests = world.until_waiting(&started).await;
    assert_eq!(requests.len(), 2);
    world.decide(&requests[1].id, deny("Two is a bad number")).await;
    assert_eq!(world.store().find_run_status(&started.run_id).await.expect("reads"), Some(RunStatus::Waiting));
    assert!(world.file("lines").is_none(), "nothing is made before everything is decided");
    let input = json!({"command": "echo changed >> /workspace/lines"}).to_string();
    world.decide(&requests[0].id, Wish { updated_input: Some(input), ..allow() }).await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert!(content.contains("Their reason: Two is a bad number"), "{content}");
    assert!(content.contains("This call was not made: Bash(* three *) denies it."), "{content}");
    assert!(content.contains("The user changed the input of this call"), "{content}");
    assert_eq!(world.file("lines").as_deref(), Some("changed\n"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_races_of_deciders_have_one_winner_each() {
    let world = World::new(|asked| match asked.round {
        0 => {
            let call = |n: usize| Block::tool("Bash", json!({"command": format!("echo {n} >> /workspace/lines")}));
            (1..50).fold(bash("echo 0 >> /workspace/lines"), |reply, n| reply.and(call(n)))
        }
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    let started =
        world.send_with("go", options(json!({"actions": {"local_shell": {"access": "ask_for_permission"}}}))).await;
    let requests = world.until_waiting(&started).await;
    assert_eq!(requests.len(), 50);
    let other = world.database.another_server("node_other").await;
    let mut allowed = Vec::new();
    for (n, request) in requests.iter().enumerate() {
        let store = world.store();
        let (project, thread, id) = (&world.database.project, &world.thread, &request.id);
        let (yes, no) = (allow(), deny("no"));
        let (a, b, c) = tokio::join!(
            store.decide_request(project, thread, id, &yes),
            other.decide_request(project, thread, id, &no),
            store.decide_request(project, thread, id, &no),
        );
        let all = [a.expect("decides"), b.expect("decides"), c.expect("decides")];
        assert_eq!(all.iter().filter(|settled| settled.is_yours).count(), 1, "{all:?}");
        let decisions: Vec<_> =
            all.iter().map(|settled| settled.request.decided.as_ref().expect("is decided").decision).collect();
        assert!(decisions.iter().all(|decision| *decision == decisions[0]), "all are told the same: {decisions:?}");
        if decisions[0] == Decision::Allow {
            allowed.push(n.to_string());
        }
    }
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
    let lines = world.file("lines").unwrap_or_default();
    assert_eq!(lines.lines().collect::<Vec<_>>(), allowed, "what was allowed was made, once and in order");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_is_over_at_once_and_a_decision_after_that_changes_nothing() {
    let world = World::new(|asked| match asked.user_text.as_str() {
        text if text.contains("again") => Reply::text(format!("I saw: {}", asked.last_result_text())),
        _ => bash("echo x >> /workspace/lines"),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send_with("go", options(json!({"rules": {"ask": ["Bash"]}}))).await;
    let requests = world.until_waiting(&started).await;
    server.stop_soft().await;
    // No server is there, and the run ends all the same.
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("cancels");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    assert_eq!(world.thread_status().await, ThreadStatus::Cancelled);
    let late = world.decide(&requests[0].id, allow()).await;
    assert!(!late.is_yours);
    let decided = late.request.decided.expect("is decided");
    assert_eq!((decided.decision, decided.by), (Decision::Deny, Decider::Cancel));
    let last = world.events().await.pop().expect("an event");
    assert!(matches!(last.event, Event::RunFinished { .. }), "nothing follows the end: {last:?}");
    assert_eq!(world.results_of("echo x").await, [UNANSWERED]);

    let server = world.server("node_a").await;
    assert!(matches!(world.ask("again").await, Outcome::Completed { .. }));
    assert!(world.file("lines").is_none());
    let request = world.claude.requests().pop().expect("was asked").json().to_string();
    assert!(request.contains(UNANSWERED), "{request}");
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_in_time_is_denied() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo x >> /workspace/lines"),
        _ => Reply::text(asked.last_result_text()),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send_with("go", options(json!({"rules": {"ask": ["Bash"]}}))).await;
    let requests = world.until_waiting(&started).await;
    server.stop_soft().await;
    let pool = world.database.pool().await;
    sqlx::query("update permission_requests set created_at = created_at - interval '8 days', expires_at = expires_at - interval '8 days'")
        .execute(&pool)
        .await
        .expect("time passes");
    // Before anybody has swept, the wish to allow comes too late already.
    let late = world.decide(&requests[0].id, allow()).await;
    assert!(!late.is_yours);
    assert_eq!(late.request.decided.expect("is decided").by, Decider::Expiry);
    let server = world.server("node_a").await;
    let outcome = world.outcome(&started.run_id).await;
    assert_eq!(
        outcome,
        Outcome::Completed { content: "Nobody allowed this call in time, and it was not made.".into() }
    );
    assert!(world.file("lines").is_none());
    server.stop_soft().await;

    // And without anybody wishing anything, the sweep does it.
    let server = world.server_with("node_a", |options| options.permission_expiry = Duration::from_millis(200)).await;
    let started = world.send_with("once more", options(json!({"rules": {"ask": ["Bash"]}}))).await;
    assert!(matches!(world.outcome(&started.run_id).await, Outcome::Completed { .. }));
    assert!(world.file("lines").is_none());
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_takes_away_and_never_gives() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo x >> /workspace/lines")
            .and(Block::tool("Write", json!({"file_path": "/workspace/w", "content": "w"})))
            .and(Block::tool("Read", json!({"file_path": "/etc/hostname"}))),
        _ => Reply::text("done"),
    })
    .await;
    let server = world.server("node_a").await;
    let (store, project) = (world.store(), &world.database.project);
    let set = json!({"rules": {"deny": ["Bash"], "ask": ["Write"]}});
    let settings = domain::agent::AgentSettings {
        stored: [("permissionSet".to_owned(), set)].into_iter().collect(),
        ..Default::default()
    };
    let new = store::agents::NewAgent {
        id: None,
        name: "careful".into(),
        model: "claude-sonnet-4-5".into(),
        settings,
        is_default: false,
        is_system: false,
    };
    let agent = store.create_agent(project, new).await.expect("an agent").id;
    store.update_thread(project, &world.thread, |thread| thread.agent_id = Some(agent.clone())).await.expect("changes");
    let wide = json!({"defaultAccess": "full_access", "rules": {"allow": ["Bash", "Write", "Read"], "deny": ["Read(/etc/**)"]}});
    let started = world.send_with("go", options(wide)).await;
    let requests = world.until_waiting(&started).await;
    assert_eq!(requests.iter().map(|request| request.tool.as_str()).collect::<Vec<_>>(), ["Write"]);
    assert_eq!(world.results_of("echo x").await, ["This call was not made: Bash denies it."]);
    assert_eq!(world.results_of("/etc/hostname").await, ["This call was not made: Read(/etc/**) denies it."]);
    // What is changed before it is allowed is judged again.
    let input = json!({"file_path": "/workspace/other", "content": "w"}).to_string();
    world.decide(&requests[0].id, Wish { updated_input: Some(input), ..allow() }).await;
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Completed { content: "done".into() });
    assert!(world.file("other").is_some() && world.file("w").is_none());
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_an_allowed_call_is_told_and_the_call_not_repeated() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo x >> /workspace/count; sleep 60"),
        _ => Reply::text(asked.last_result_text()),
    })
    .await;
    let server = world.server("node_a").await;
    let started = world.send_with("go", options(json!({"rules": {"ask": ["Bash"]}}))).await;
    let requests = world.until_waiting(&started).await;
    world.decide(&requests[0].id, allow()).await;
    // Written, not only made: a kill in between would leave a part of it.
    while world.file("count").as_deref() != Some("x\n") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill();
    let server = world.server("node_a").await;
    let Outcome::Completed { content } = world.outcome(&started.run_id).await else { panic!("completes") };
    assert!(content.contains("interrupted"), "{content}");
    assert_eq!(world.file("count").as_deref(), Some("x\n"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_thread_ends_what_waits() {
    let world = World::new(|_| bash("echo x >> /workspace/lines")).await;
    let server = world.server("node_a").await;
    let started = world.send_with("go", options(json!({"rules": {"ask": ["Bash"]}}))).await;
    let requests = world.until_waiting(&started).await;
    world.store().delete_thread(&world.database.project, &world.thread).await.expect("deletes");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    let late = world.store().decide_request(&world.database.project, &world.thread, &requests[0].id, &allow()).await;
    assert!(matches!(late, Err(store::Error::NotFound { .. })), "{late:?}");
    let asked = world.events().await.into_iter().filter(|event| {
        matches!(&event.event, Event::ItemCompleted { item: Item::ToolCall(_) } | Event::PermissionDecided { .. })
    });
    assert_eq!(asked.count(), 2, "the call was answered and the request closed");
    server.stop_soft().await;
    world.end().await;
}
