//! Starting and cancelling runs when two come at once.

use domain::{
    event::Event,
    run::{Outcome, RunStatus, Spent},
    thread::ThreadStatus,
};
use store::{
    Error, Page,
    messages::Order,
    runs::{Idempotency, NewRun},
};
use testing::Database;

use crate::{claim, new_run, new_thread, start, thread};

fn keyed(key: &str, body: &[u8]) -> NewRun {
    let idempotency = Some(Idempotency { key: key.into(), request_hash: body.to_vec() });
    NewRun { idempotency, ..new_run("hello") }
}

#[tokio::test]
async fn of_two_messages_at_once_one_runs_and_the_other_is_told_that_the_thread_is_busy() {
    let database = Database::start().await;
    for _ in 0..10 {
        let thread = thread(&database).await;
        let results = futures::future::join_all(
            (0..4).map(|_| database.store.start_run(&database.project, &thread, new_run("hello"))),
        )
        .await;
        let (started, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(started.len(), 1);
        assert!(refused.iter().all(|result| matches!(result, Err(Error::Busy))), "{refused:?}");
        let thread = database.store.find_thread(&database.project, &thread).await.expect("reads").expect("is there");
        assert_eq!((thread.message_count, thread.last_sequence), (1, 1), "the refused left nothing");
        assert_eq!(thread.title.as_deref(), Some("hello"));
    }
}

#[tokio::test]
async fn a_retried_request_finds_the_first_ones_run_even_when_the_retries_race() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let results = futures::future::join_all(
        (0..8).map(|_| database.store.start_run(&database.project, &thread, keyed("k", b"body"))),
    )
    .await;
    let started: Vec<_> = results.into_iter().map(|result| result.expect("started or found")).collect();
    assert!(started.iter().all(|one| *one == started[0]));
    let other = database.store.start_run(&database.project, &thread, keyed("k", b"other body")).await;
    assert!(matches!(other, Err(Error::KeyReused)));

    let environment = database.store.default_environment(&database.project).await.expect("an environment");
    let create = || {
        let new = new_thread(environment.id.clone());
        database.store.create_thread_with_run(&database.project, new, keyed("create", b"body"))
    };
    let created = futures::future::join_all((0..8).map(|_| create())).await;
    let ids: std::collections::HashSet<_> = created.into_iter().map(|r| r.expect("created or found").0.id).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_thread_created_with_work_begins_its_log_with_itself() {
    let database = Database::start().await;
    let environment = database.store.default_environment(&database.project).await.expect("an environment");
    let (thread, started) = database
        .store
        .create_thread_with_run(&database.project, new_thread(environment.id.clone()), new_run("do it"))
        .await
        .expect("created");
    assert_eq!((thread.status, started.after_sequence), (ThreadStatus::Running, 0));
    let events = database.store.list_events(&thread.id, 0, None, 10).await.expect("reads");
    let [first, second] = events.as_slice() else { panic!("two events: {events:?}") };
    assert!(matches!(&first.event, Event::ThreadCreated { environment_id } if *environment_id == environment.id));
    assert!(matches!(second.event, Event::RunQueued));
}

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked() {
    let database = Database::start().await;
    let store = &database.store;
    let thread = thread(&database).await;
    assert_eq!(store.cancel_active_run(&database.project, &thread).await.expect("reads"), None);

    let started = start(&database, &thread).await;
    assert_eq!(
        store.cancel_active_run(&database.project, &thread).await.expect("cancels"),
        Some(started.run_id.clone())
    );
    assert_eq!(store.find_run_status(&started.run_id).await.expect("reads"), Some(RunStatus::Cancelled));
    assert!(store.claim_runs(1, crate::TTL).await.expect("claims").is_empty());

    let started = start(&database, &thread).await;
    let claimed = claim(store).await;
    let hints = store.cancel_hints(&started.run_id);
    store.cancel_active_run(&database.project, &thread).await.expect("asks");
    hints.next().await;
    let renewed = store.renew(&claimed.lease.renewal(), crate::TTL).await.expect("the lease is good");
    assert!(renewed.is_cancel_requested);
    store.finish_run(&claimed.lease, &Outcome::Cancelled, Spent::default()).await.expect("finishes");
    let runs = store.list_runs(&database.project, &thread, None, Order::NewestFirst, Page::ALL).await.expect("reads");
    assert_eq!(runs.items.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Cancelled; 2]);
    let thread = store.find_thread(&database.project, &thread).await.expect("reads").expect("is there");
    assert_eq!(thread.status, ThreadStatus::Cancelled);
}

#[tokio::test]
async fn a_thread_whose_environment_was_deleted_says_so() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let environment = database.store.default_environment(&database.project).await.expect("an environment");
    database.store.delete_environment(&database.project, &environment.id, false).await.expect("deletes");
    let refused = database.store.start_run(&database.project, &thread, new_run("x")).await;
    assert!(matches!(refused, Err(Error::State(why)) if why.contains("environment was deleted")));
}

#[tokio::test]
async fn deleting_a_thread_asks_its_run_to_stop() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let started = start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    let hints = database.store.cancel_hints(&started.run_id);
    database.store.delete_thread(&database.project, &thread).await.expect("deletes");
    hints.next().await;
    assert!(database.store.renew(&claimed.lease.renewal(), crate::TTL).await.expect("holds").is_cancel_requested);
    assert!(database.store.find_thread(&database.project, &thread).await.expect("reads").is_none());
}
