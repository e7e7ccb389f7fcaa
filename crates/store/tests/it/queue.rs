//! Messages for a busy thread: in order, each once, one at a time, whatever races.

use domain::{
    RunId, ThreadId,
    event::Event,
    run::{Outcome, RunStatus, Spent},
    thread::ThreadStatus,
    tier::{Tier, Tiers},
};
use store::{
    Error, Page,
    messages::Order,
    projects::NewProject,
    queue::{Accepted, IfBusy},
};
use testing::Database;

use crate::{TTL, claim, new_run, start, thread};

pub(crate) async fn send(database: &Database, thread: &ThreadId, content: &str, if_busy: IfBusy) -> Accepted {
    database.store.send(&database.project, thread, new_run(content), if_busy).await.expect("is taken")
}

fn held(accepted: Accepted) -> RunId {
    match accepted {
        Accepted::Held(started) => started.run_id,
        other => panic!("is held: {other:?}"),
    }
}

async fn queue(database: &Database, thread: &ThreadId) -> Vec<String> {
    let held = database.store.list_held(&database.project, thread).await.expect("reads");
    held.into_iter().map(|held| held.content).collect()
}

async fn messages(database: &Database, thread: &ThreadId) -> Vec<String> {
    let messages = database.store.list_messages(thread, Order::OldestFirst, Page::ALL).await.expect("reads");
    messages.items.into_iter().map(|message| message.content).collect()
}

fn done(content: &str) -> Outcome {
    Outcome::Completed { content: content.into() }
}

/// Works until nothing is left to do, answering each run with its number.
async fn work(database: &Database) -> usize {
    let mut runs = 0;
    loop {
        let claimed = database.store.claim_runs(1, TTL).await.expect("claims");
        let Some(claimed) = claimed.into_iter().next() else { return runs };
        runs += 1;
        let outcome = done(&format!("answer {runs}"));
        database.store.finish_run(&claimed.lease, &outcome, Spent::default()).await.expect("finishes");
    }
}

#[tokio::test]
async fn queued_messages_run_in_order_after_the_run_before_them() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    for content in ["one", "two", "three"] {
        held(send(&database, &thread, content, IfBusy::Queue).await);
    }
    assert_eq!(messages(&database, &thread).await, ["hello"], "what waits is not said yet");
    assert_eq!(work(&database).await, 4);
    assert_eq!(
        messages(&database, &thread).await,
        ["hello", "answer 1", "one", "answer 2", "two", "answer 3", "three", "answer 4"]
    );
    let found = database.store.find_thread(&database.project, &thread).await.expect("reads").expect("is there");
    assert_eq!(
        (found.status, found.held, found.stop_reason.as_deref()),
        (ThreadStatus::Completed, 0, Some("completed"))
    );
    let events = database.store.list_events(&thread, 0, None, 100).await.expect("reads");
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_thread_is_never_seen_idle_between_two_of_its_runs() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    held(send(&database, &thread, "next", IfBusy::Queue).await);
    let claimed = claim(&database.store).await;
    database.store.finish_run(&claimed.lease, &done("a"), Spent::default()).await.expect("finishes");
    assert!(database.store.has_active_run(&thread).await.expect("reads"));
    let busy = database.store.start_run(&database.project, &thread, new_run("in between")).await;
    assert!(matches!(busy, Err(Error::Busy)));
    work(&database).await;
}

#[tokio::test]
async fn a_message_that_races_with_the_end_of_a_run_is_never_stranded() {
    let database = Database::start().await;
    for _ in 0..30 {
        let thread = thread(&database).await;
        start(&database, &thread).await;
        let claimed = claim(&database.store).await;
        let outcome = done("a");
        let (finished, sent) = tokio::join!(
            database.store.finish_run(&claimed.lease, &outcome, Spent::default()),
            futures::future::join_all((0..3).map(|n| {
                let database = &database;
                let (thread, mode) = (&thread, [IfBusy::Queue, IfBusy::Interrupt, IfBusy::Steer][n]);
                async move { database.store.send(&database.project, thread, new_run(&format!("m{n}")), mode).await }
            }))
        );
        finished.expect("finishes");
        sent.into_iter().for_each(|sent| drop(sent.expect("is taken")));
        work(&database).await;
        let said = messages(&database, &thread).await;
        for n in 0..3 {
            assert_eq!(said.iter().filter(|said| **said == format!("m{n}")).count(), 1, "{said:?}");
        }
        let found = database.store.find_thread(&database.project, &thread).await.expect("reads").expect("is there");
        assert!(found.held == 0 && !found.status.is_busy(), "{found:?}");
    }
}

#[tokio::test]
async fn an_idle_thread_starts_a_message_of_any_mode_at_once() {
    let database = Database::start().await;
    for mode in [IfBusy::Refuse, IfBusy::Queue, IfBusy::Interrupt, IfBusy::Steer] {
        let thread = thread(&database).await;
        assert!(matches!(send(&database, &thread, "hi", mode).await, Accepted::Started(_)), "{mode:?}");
    }
}

#[tokio::test]
async fn queued_messages_are_edited_reordered_and_deleted() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let mut ids = Vec::new();
    for content in ["one", "two", "three"] {
        ids.push(held(send(&database, &thread, content, IfBusy::Queue).await));
    }
    let (store, project) = (&database.store, &database.project);
    store.change_held(project, &thread, &ids[2], Some("III"), Some(0)).await.expect("changes");
    assert_eq!(queue(&database, &thread).await, ["III", "one", "two"]);
    store.change_held(project, &thread, &ids[2], None, Some(99)).await.expect("changes");
    assert_eq!(queue(&database, &thread).await, ["one", "two", "III"]);
    store.drop_held(project, &thread, &ids[0]).await.expect("deletes");
    assert_eq!(queue(&database, &thread).await, ["two", "III"]);
    assert_eq!(store.find_run_status(&ids[0]).await.expect("reads"), Some(RunStatus::Cancelled));
    let gone = store.drop_held(project, &thread, &ids[0]).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    work(&database).await;
    let said = messages(&database, &thread).await;
    assert_eq!(said, ["hello", "answer 1", "two", "answer 2", "III", "answer 3"]);
    let late = store.change_held(project, &thread, &ids[1], Some("late"), None).await;
    assert!(matches!(late, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_queued_message_has_an_end_even_if_it_never_runs() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let run = held(send(&database, &thread, "never", IfBusy::Queue).await);
    database.store.drop_held(&database.project, &thread, &run).await.expect("deletes");
    let events = database.store.list_events(&thread, 0, None, 100).await.expect("reads");
    let own: Vec<_> = events.into_iter().filter(|event| event.run_id.as_ref() == Some(&run)).map(|e| e.event).collect();
    assert!(matches!(&own[..], [Event::RunQueued, Event::RunFinished { outcome: Outcome::Cancelled, .. }]), "{own:?}");
    work(&database).await;
}

#[tokio::test]
async fn an_interrupt_stops_the_run_and_comes_before_what_was_queued() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    held(send(&database, &thread, "queued", IfBusy::Queue).await);
    held(send(&database, &thread, "now", IfBusy::Interrupt).await);
    let renewed = database.store.renew(&claimed.lease.renewal(), TTL).await.expect("holds");
    assert!(renewed.is_cancel_requested && renewed.is_interrupt);
    assert_eq!(queue(&database, &thread).await, ["now", "queued"]);
    database.store.finish_run(&claimed.lease, &Outcome::Interrupted, Spent::default()).await.expect("finishes");
    work(&database).await;
    assert_eq!(messages(&database, &thread).await, ["hello", "now", "answer 1", "queued", "answer 2"]);
}

#[tokio::test]
async fn an_interrupt_of_a_run_nobody_has_begun_takes_its_place_at_once() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let first = start(&database, &thread).await;
    let second = held(send(&database, &thread, "now", IfBusy::Interrupt).await);
    assert_eq!(database.store.find_run_status(&first.run_id).await.expect("reads"), Some(RunStatus::Cancelled));
    assert_eq!(database.store.find_run_status(&second).await.expect("reads"), Some(RunStatus::Queued));
    let run = database.store.find_run(&database.project, &first.run_id).await.expect("reads").expect("is there");
    assert_eq!(run.outcome, Some(Outcome::Interrupted));
    work(&database).await;
}

#[tokio::test]
async fn deleting_a_thread_ends_what_waits_in_it() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let waiting = held(send(&database, &thread, "never", IfBusy::Queue).await);
    database.store.delete_thread(&database.project, &thread).await.expect("deletes");
    assert_eq!(work(&database).await, 0, "nobody had begun it, so it is over at once");
    assert_eq!(database.store.find_run_status(&waiting).await.expect("reads"), Some(RunStatus::Cancelled));
}

#[tokio::test]
async fn a_project_gets_no_more_workers_than_its_limit() {
    let database = Database::start().await;
    let other = database.store.create_project("Other").await.expect("a project");
    for _ in 0..5 {
        let thread = thread(&database).await;
        start(&database, &thread).await;
    }
    let environment = database.store.default_environment(&other).await.expect("an environment").id;
    let theirs = database.store.create_thread(&other, crate::new_thread(environment)).await.expect("a thread").id;
    database.store.start_run(&other, &theirs, new_run("theirs")).await.expect("a run");

    let tiers = Tiers::default();
    let claims = futures::future::join_all((0..4).map(|_| database.store.claim_runs_within(9, TTL, 2, &tiers))).await;
    let claimed: Vec<_> = claims.into_iter().flat_map(|claimed| claimed.expect("claims")).collect();
    let mine: Vec<_> = claimed.iter().filter(|claimed| claimed.run.project_id == database.project).collect();
    assert_eq!((claimed.len(), mine.len()), (3, 2));
    assert!(database.store.claim_runs_within(9, TTL, 2, &tiers).await.expect("claims").is_empty());
    database.store.finish_run(&mine[0].lease, &done("a"), Spent::default()).await.expect("finishes");
    assert_eq!(database.store.claim_runs_within(9, TTL, 2, &tiers).await.expect("claims").len(), 1);
}

#[tokio::test]
async fn a_tier_says_how_many_workers_its_projects_get_and_what_it_leaves_out_is_general() {
    let database = Database::start().await;
    let tiers: Tiers = [("one", Some(1)), ("all", Some(0)), ("silent", None)]
        .map(|(name, concurrent_runs)| (name, Tier { concurrent_runs, requests_per_window: None }))
        .into_iter()
        .collect();
    let organization = "org_default".parse().expect("an id");
    let mut projects = Vec::new();
    for (tier, most) in [(Some("one"), 1), (Some("all"), 4), (Some("silent"), 2), (Some("gone"), 2), (None, 2)] {
        let new = NewProject { name: "tiered".into(), tier: tier.map(str::to_owned), ..NewProject::default() };
        let project = database.store.create_project_in(&organization, new).await.expect("a project");
        assert_eq!(project.tier.as_deref(), tier);
        let environment = database.store.default_environment(&project.id).await.expect("an environment").id;
        for _ in 0..4 {
            let new = crate::new_thread(environment.clone());
            let thread = database.store.create_thread(&project.id, new).await.expect("a thread").id;
            database.store.start_run(&project.id, &thread, new_run("go")).await.expect("a run");
        }
        projects.push((project.id, tier, most));
    }
    let used = [("all", 1), ("gone", 1), ("one", 1), ("silent", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(database.store.list_tiers().await.expect("reads"), used);

    let other = database.another_server("node_other").await;
    let claims = futures::future::join_all(
        [&database.store, &other, &database.store, &other].map(|store| store.claim_runs_within(20, TTL, 2, &tiers)),
    );
    let claimed: Vec<_> = claims.await.into_iter().flat_map(|claimed| claimed.expect("claims")).collect();
    for (project, tier, most) in &projects {
        let count = claimed.iter().filter(|claimed| claimed.run.project_id == *project).count();
        assert_eq!(count, *most, "{tier:?}");
    }
    assert!(other.claim_runs_within(20, TTL, 2, &tiers).await.expect("claims").is_empty());
    // Nothing general: the tiers hold all the same.
    let more = other.claim_runs_within(20, TTL, 0, &tiers).await.expect("claims");
    let of_one = more.iter().filter(|claimed| claimed.run.project_id == projects[0].0).count();
    assert_eq!((more.len(), of_one), (6, 0));
    let first = claimed.iter().find(|claimed| claimed.run.project_id == projects[0].0).expect("one");
    database.store.finish_run(&first.lease, &done("a"), Spent::default()).await.expect("finishes");
    assert_eq!(other.claim_runs_within(20, TTL, 2, &tiers).await.expect("claims").len(), 1);
}
