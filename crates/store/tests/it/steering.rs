//! Notes to a run under way, pausing it, and going on where one ended.

use domain::{
    event::{Event, SteeringMode},
    run::{Outcome, RunKind, RunStatus, Spent},
};
use store::{
    Error, Page,
    leases::Checkpoint,
    messages::Order,
    queue::{Accepted, IfBusy},
};
use testing::Database;

use crate::{TTL, claim, new_run, queue::send, start, thread};

fn done() -> Outcome {
    Outcome::Completed { content: "done".into() }
}

#[tokio::test]
async fn a_note_is_taken_with_its_transcript_entry_and_only_once() {
    let database = Database::start().await;
    let (store, thread) = (&database.store, thread(&database).await);
    let started = start(&database, &thread).await;
    let mut claimed = claim(store).await;
    let accepted = send(&database, &thread, "look left", IfBusy::Steer).await;
    assert!(matches!(&accepted, Accepted::Steered(run, _) if run.run_id == started.run_id), "{accepted:?}");
    assert!(!claimed.lease.has_steers());
    store.checkpoint(&mut claimed.lease, &Checkpoint::default()).await.expect("writes");
    assert!(claimed.lease.has_steers(), "the next checkpoint learns of it");

    let notes = store.list_steering(&started.run_id).await.expect("reads");
    assert_eq!(notes.iter().map(|note| note.content.as_str()).collect::<Vec<_>>(), ["look left"]);
    let events = notes.iter().map(|note| Event::SteeringDelivered { steering: note.clone() }).collect();
    let taking = Checkpoint {
        transcript: vec![("user", r#"[{"type":"text","text":"look left"}]"#.into())],
        events,
        steering: notes,
        ..Checkpoint::default()
    };
    store.checkpoint(&mut claimed.lease, &taking).await.expect("writes");
    assert!(!claimed.lease.has_steers());
    assert!(store.list_steering(&started.run_id).await.expect("reads").is_empty());
    store.finish_run(&claimed.lease, &done(), Spent::default()).await.expect("finishes");
    assert!(!store.has_active_run(&thread).await.expect("reads"), "nothing is left to follow it");
    let said = store.list_messages(&thread, Order::OldestFirst, Page::ALL).await.expect("reads");
    assert_eq!(said.items.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["hello", "look left", "done"]);
}

#[tokio::test]
async fn a_note_that_the_run_did_not_read_becomes_the_next_message() {
    let database = Database::start().await;
    let (store, thread) = (&database.store, thread(&database).await);
    let started = start(&database, &thread).await;
    let claimed = claim(store).await;
    send(&database, &thread, "queued", IfBusy::Queue).await;
    send(&database, &thread, "too late", IfBusy::Steer).await;
    let project = &database.project;
    let known = store.steer_run(project, &thread, &started.run_id, SteeringMode::Fyi, "by the way").await;
    known.expect("is taken");
    store.finish_run(&claimed.lease, &done(), Spent::default()).await.expect("finishes");
    let next = claim(store).await;
    let messages = store.list_run_messages(&thread, &next.run.id).await.expect("reads");
    assert_eq!(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["too late"]);
    let transcript = store.load_transcript(&thread).await.expect("reads");
    assert!(transcript.last().is_some_and(|entry| entry.blocks.contains("by the way")), "{transcript:?}");
    store.finish_run(&next.lease, &done(), Spent::default()).await.expect("finishes");
    let last = claim(store).await;
    let messages = store.list_run_messages(&thread, &last.run.id).await.expect("reads");
    assert_eq!(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["queued"]);
    store.finish_run(&last.lease, &done(), Spent::default()).await.expect("finishes");
    let events = store.list_events(&thread, 0, None, 100).await.expect("reads");
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_steers_a_run_that_is_over_or_another_projects() {
    let database = Database::start().await;
    let (store, thread) = (&database.store, thread(&database).await);
    let run = start(&database, &thread).await.run_id;
    let other = store.create_project("Other").await.expect("a project");
    let foreign = store.steer_run(&other, &thread, &run, SteeringMode::Checkpoint, "x").await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    assert!(matches!(store.pause_run(&other, &thread, &run).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.cancel_run(&other, &thread, &run).await, Err(Error::NotFound { .. })));
    store.cancel_run(&database.project, &thread, &run).await.expect("cancels");
    let late = store.steer_run(&database.project, &thread, &run, SteeringMode::Checkpoint, "x").await;
    assert!(matches!(late, Err(Error::State(_))));
}

#[tokio::test]
async fn a_paused_run_has_no_lease_keeps_its_thread_busy_and_goes_on() {
    let database = Database::start().await;
    let (store, project, thread) = (&database.store, &database.project, thread(&database).await);
    let run = start(&database, &thread).await.run_id;
    let mut claimed = claim(store).await;
    assert_eq!(store.pause_run(project, &thread, &run).await.expect("asks"), RunStatus::Running);
    store.checkpoint(&mut claimed.lease, &Checkpoint::default()).await.expect("writes");
    assert!(claimed.lease.is_pause_requested());
    assert!(store.park_paused(claimed.lease).await.expect("parks"));
    assert!(store.claim_runs(9, TTL).await.expect("claims").is_empty());
    assert!(matches!(store.start_run(project, &thread, new_run("x")).await, Err(Error::Busy)));
    assert_eq!(store.resume_run(project, &thread, &run).await.expect("resumes"), RunStatus::Queued);
    let again = claim(store).await;
    assert_eq!((again.run.id.clone(), again.run.is_pause_requested), (run, false));
    store.finish_run(&again.lease, &done(), Spent::default()).await.expect("finishes");
}

#[tokio::test]
async fn a_paused_run_that_is_cancelled_is_over_at_once_and_the_queue_moves_on() {
    let database = Database::start().await;
    let (store, project, thread) = (&database.store, &database.project, thread(&database).await);
    let run = start(&database, &thread).await.run_id;
    assert_eq!(store.pause_run(project, &thread, &run).await.expect("pauses"), RunStatus::Paused);
    send(&database, &thread, "next", IfBusy::Queue).await;
    store.cancel_run(project, &thread, &run).await.expect("cancels");
    assert_eq!(store.find_run_status(&run).await.expect("reads"), Some(RunStatus::Cancelled));
    let next = claim(store).await;
    store.finish_run(&next.lease, &done(), Spent::default()).await.expect("finishes");
}

#[tokio::test]
async fn a_pause_taken_back_before_it_came_to_it_does_not_strand_the_run() {
    let database = Database::start().await;
    let (store, project, thread) = (&database.store, &database.project, thread(&database).await);
    let run = start(&database, &thread).await.run_id;
    let claimed = claim(store).await;
    store.pause_run(project, &thread, &run).await.expect("asks");
    store.resume_run(project, &thread, &run).await.expect("takes it back");
    assert!(!store.park_paused(claimed.lease).await.expect("gives back"));
    let again = claim(store).await;
    store.finish_run(&again.lease, &done(), Spent::default()).await.expect("finishes");
}

#[tokio::test]
async fn a_thread_goes_on_only_where_its_last_run_ended_too_soon() {
    let database = Database::start().await;
    let (store, project, thread) = (&database.store, &database.project, thread(&database).await);
    assert!(matches!(store.continue_thread(project, &thread).await, Err(Error::State(_))), "nothing was begun");
    start(&database, &thread).await;
    assert!(matches!(store.continue_thread(project, &thread).await, Err(Error::Busy)));
    let claimed = claim(store).await;
    let failed = Outcome::Failed { code: "budget".into(), message: "no more".into() };
    store.finish_run(&claimed.lease, &failed, Spent::default()).await.expect("finishes");
    let found = store.find_thread(project, &thread).await.expect("reads").expect("is there");
    assert_eq!(found.stop_reason.as_deref(), Some("budget"));

    let started = store.continue_thread(project, &thread).await.expect("goes on");
    let claimed = claim(store).await;
    assert_eq!((claimed.run.id.clone(), claimed.run.options.kind), (started.run_id, RunKind::Resume));
    assert!(store.list_run_messages(&thread, &claimed.run.id).await.expect("reads").is_empty());
    store.finish_run(&claimed.lease, &done(), Spent::default()).await.expect("finishes");
    assert!(matches!(store.continue_thread(project, &thread).await, Err(Error::State(_))), "it is done");
}
