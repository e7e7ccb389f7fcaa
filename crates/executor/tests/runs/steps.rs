//! Steps: what a run did to files, whose it was, and what it costs a run.

use domain::{
    change::{Change, Source, Step},
    run::Outcome,
};
use scripted_claude::{Block, Reply};
use store::{Page, changes::ChangeFilter};

use crate::world::{World, bash};

fn write(path: &str, content: &str) -> Reply {
    Reply::tool("Write", serde_json::json!({"file_path": format!("/workspace/{path}"), "content": content}))
}

async fn steps(world: &World) -> Vec<Step> {
    world.store().list_steps(&world.database.project, &world.thread, Page::ALL).await.expect("reads").items
}

/// Gives all changes, oldest first, each with its paths.
async fn changes(world: &World) -> Vec<(Change, Vec<String>)> {
    let (store, project) = (world.store(), &world.database.project);
    let filter = ChangeFilter::default();
    let listed = store.list_changes(project, &world.environment, &filter, Page::ALL).await.expect("reads").items;
    let mut all = Vec::new();
    for named in listed.into_iter().rev() {
        let paths = store.list_changed_paths(std::slice::from_ref(&named.change.id), 100).await.expect("reads");
        all.push((named.change, paths.into_iter().map(|(_, path)| path.path).collect()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_that_changes_files_is_a_step_with_what_the_shell_did() {
    let world = World::new(|asked| match asked.round {
        0 => write("a.txt", "one\ntwo\n"),
        1 => bash("mkdir sub && echo x > sub/b && rm a.txt && git init -q repo"),
        2 => Reply::tool("Read", serde_json::json!({"file_path": "/workspace/sub/b"})),
        3 => bash("true"),
        _ => Reply::text("done"),
    })
    .await;
    world.warm_up().await;
    std::fs::write(world.path("before"), "was there").expect("writes");
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: "done".into() });

    let steps = steps(&world).await;
    let told: Vec<_> = steps.iter().map(|step| (step.sequence, step.change.title.as_str())).collect();
    let title = "Bash: mkdir sub && echo x > sub/b && rm a.txt && git init -q repo";
    assert_eq!(told, [(1, "Write: a.txt"), (2, title)], "nothing changed, no step");
    assert_eq!((steps[0].change.additions, steps[0].change.deletions), (2, 0));
    assert_eq!(steps[1].change.before_id, steps[0].change.snapshot_id);
    let changes = changes(&world).await;
    assert_eq!(changes[0].1, ["a.txt"], "what was there before is nobody's change");
    assert!(changes[1].1.iter().any(|path| path == "repo/.git/HEAD"));
    assert!(changes[1].1.iter().any(|path| path == "sub/b"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_change_files_takes_no_snapshot() {
    let world = World::new(|asked| match asked.round {
        0 => Reply::tool("Glob", serde_json::json!({"pattern": "*"})),
        _ => Reply::text("done"),
    })
    .await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    world.ask("look").await;
    assert_eq!(world.store().latest_snapshot(&world.environment).await.expect("reads"), None);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_between_runs_is_nobodys_step() {
    let world = World::new(|asked| match asked.round {
        0 => write(&format!("{}.txt", asked.user_text), "x"),
        _ => Reply::text("done"),
    })
    .await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    world.ask("first").await;
    std::fs::write(world.path("by-hand"), "by somebody else").expect("writes");
    world.ask("second").await;
    let told: Vec<_> = changes(&world).await.into_iter().map(|(change, paths)| (change.author.source, paths)).collect();
    let expected = [
        (Source::Run, vec!["first.txt".to_owned()]),
        (Source::Outside, vec!["by-hand".to_owned()]),
        (Source::Run, vec!["second.txt".to_owned()]),
    ];
    assert_eq!(told, expected);
    assert_eq!(steps(&world).await.len(), 2);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_at_once_are_told_apart_and_what_cannot_be_told_says_so() {
    let world = World::new(|asked| {
        let (me, other) = if asked.user_text == "a" { ("a", "b") } else { ("b", "a") };
        match asked.round {
            // Neither shell ends before the other's has begun.
            0 => write(&format!("{me}.txt"), "mine").and(Block::tool(
                "Bash",
                serde_json::json!({"command": format!("touch {me}.sh; while [ ! -e {other}.sh ]; do sleep 0.02; done")}),
            )),
            1 => write(&format!("{me}.txt"), "mine again"),
            _ => Reply::text("done"),
        }
    })
    .await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    let other = world.new_thread().await;
    let first = world.send("a").await;
    let new = store::runs::NewRun { messages: vec!["b".into()], ..Default::default() };
    let second = world.store().start_run(&world.database.project, &other, new).await.expect("a run");
    let done = Outcome::Completed { content: "done".into() };
    assert_eq!(world.outcome(&first.run_id).await, done);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let run = world.store().find_run(&world.database.project, &second.run_id).await.expect("reads");
        match run.and_then(|run| run.outcome) {
            Some(outcome) => break assert_eq!(outcome, done),
            None => assert!(tokio::time::Instant::now() < deadline, "the other run does not end"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (mut own, mut shared) = (Vec::new(), Vec::new());
    for (change, paths) in changes(&world).await {
        let run = change.author.run_id.clone().expect("a run's");
        match change.shared_with.as_slice() {
            [] => own.extend(paths.into_iter().map(|path| (run.clone(), path))),
            [with] => {
                assert_ne!(*with, run);
                shared.extend(paths);
            }
            more => panic!("two runs, not {more:?}"),
        }
    }
    own.sort_by(|a, b| a.1.cmp(&b.1));
    own.dedup();
    assert_eq!(own, [(first.run_id, "a.txt".to_owned()), (second.run_id, "b.txt".to_owned())]);
    shared.sort();
    assert_eq!(shared, ["a.sh", "b.sh"]);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_keeps_the_step_of_the_call_that_was_broken_off() {
    let world = World::new(|_| bash("echo half > half.txt; sleep 600")).await;
    world.warm_up().await;
    let server = world.server("node_a").await;
    let started = world.send("go").await;
    while world.file("half.txt").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    world.store().cancel_active_run(&world.database.project, &world.thread).await.expect("asks");
    assert_eq!(world.outcome(&started.run_id).await, Outcome::Cancelled);
    let changes = changes(&world).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].0.author.run_id.as_ref(), &changes[0].1[..]),
        (Some(&started.run_id), &["half.txt".to_owned()][..])
    );
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_is_a_line_in_the_log_and_the_run_goes_on() {
    let world = World::new(|asked| match asked.round {
        0 => bash("echo x > x").and(Block::tool("Bash", serde_json::json!({"command": "echo y > y"}))),
        _ => Reply::text("done"),
    })
    .await;
    world.warm_up().await;
    // A file where the history's directory should be.
    std::fs::write(world.path("../history"), "in the way").expect("writes");
    let server = world.server("node_a").await;
    assert_eq!(world.ask("go").await, Outcome::Completed { content: "done".into() });
    let logged = world
        .events()
        .await
        .into_iter()
        .filter(|event| matches!(&event.event, domain::event::Event::Log { topic, .. } if topic == "history"));
    assert!(logged.count() >= 1);
    assert_eq!(steps(&world).await, []);
    server.stop_soft().await;
    world.end().await;
}
