//! Who may write a run's progress, and that nothing is written twice.

use domain::{
    event::{Event, Item},
    run::{Outcome, RunStatus, Spent},
};
use store::{
    Error,
    leases::{Checkpoint, Turn},
};
use testing::Database;

use crate::{TTL, claim, start, thread};

fn said(text: &str) -> Checkpoint {
    Checkpoint {
        transcript: vec![("assistant", format!(r#"[{{"type":"text","text":"{text}"}}]"#))],
        events: vec![Event::ItemCompleted { item: Item::Text { text: text.into() } }],
        ..Checkpoint::default()
    }
}

#[tokio::test]
async fn a_run_is_claimed_by_one_worker_only() {
    let database = Database::start().await;
    for _ in 0..20 {
        let thread = thread(&database).await;
        start(&database, &thread).await;
    }
    let other = database.another_server("node_other").await;
    let claims = futures::future::join_all((0..16).map(|n| {
        let store = if n % 2 == 0 { &database.store } else { &other };
        store.claim_runs(5, TTL)
    }))
    .await;
    let mut runs: Vec<_> = claims.into_iter().flat_map(|c| c.expect("claims")).map(|c| c.run.id).collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 20);
}

#[tokio::test]
async fn a_second_worker_takes_over_after_the_lease_ends_and_the_first_writes_nothing_more() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let mut first = claim(&database.store).await;
    database.store.checkpoint(&mut first.lease, &said("one")).await.expect("the lease is good");
    let other = database.another_server("node_other").await;
    assert!(other.claim_runs(1, TTL).await.expect("claims").is_empty(), "the lease holds");

    let pool = database.pool().await;
    sqlx::query("update runs set lease_until = now() - interval '1 second'").execute(&pool).await.expect("time passes");
    let mut second = claim(&other).await;
    assert_eq!((second.run.id.clone(), second.run.attempt), (first.run.id.clone(), 2));

    let late = database.store.checkpoint(&mut first.lease, &said("late")).await;
    assert!(matches!(late, Err(Error::LeaseLost)));
    let late = database.store.renew(&first.lease.renewal(), TTL).await;
    assert!(matches!(late, Err(Error::LeaseLost)));
    let late = database.store.finish_run(&first.lease, &Outcome::Cancelled, Spent::default()).await;
    assert!(matches!(late, Err(Error::LeaseLost)));

    other.checkpoint(&mut second.lease, &said("two")).await.expect("the new lease is good");
    let transcript = other.load_transcript(&thread).await.expect("reads");
    assert_eq!(transcript.len(), 2, "nothing of the late writer");
    let events = other.list_events(&thread, 0, None, 100).await.expect("reads");
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (1..=5).collect::<Vec<_>>());
    assert!(matches!(events[3].event, Event::RunResumed { attempt: 2 }));
}

#[tokio::test]
async fn a_checkpoint_whose_answer_was_lost_is_written_once() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let mut lease = claim(&database.store).await.lease;
    let sequence = database.store.checkpoint(&mut lease, &said("one")).await.expect("writes");
    // What the client sees when the second one is committed and the answer to it is lost: the row counts two, the lease
    // still one.
    let pool = database.pool().await;
    sqlx::query("update runs set checkpoints = checkpoints + 1").execute(&pool).await.expect("writes");
    let repeated = database.store.checkpoint(&mut lease, &said("two")).await.expect("is found as written");
    assert_eq!(repeated, sequence, "nothing was appended");
    assert_eq!(database.store.load_transcript(&thread).await.expect("reads").len(), 1);
    database.store.checkpoint(&mut lease, &said("three")).await.expect("writes the next one");
}

#[tokio::test]
async fn a_restarted_node_takes_its_own_runs_back_at_once_and_nobody_elses() {
    let database = Database::start().await;
    let (mine, theirs) = (thread(&database).await, thread(&database).await);
    start(&database, &mine).await;
    let _held = claim(&database.store).await;
    start(&database, &theirs).await;
    let other = database.another_server("node_other").await;
    let _held_by_other = claim(&other).await;

    let restarted = database.another_server("node_test").await;
    assert_eq!(restarted.end_own_leases().await.expect("writes"), 1);
    let again = claim(&restarted).await;
    assert_eq!(again.run.thread_id, mine);
    assert!(restarted.claim_runs(9, TTL).await.expect("claims").is_empty());
}

#[tokio::test]
async fn a_released_run_is_claimed_again_at_once() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    database.store.release(claimed.lease).await.expect("releases");
    assert_eq!(claim(&database.store).await.run.attempt, 2);
}

#[tokio::test]
async fn spending_adds_up_from_turn_to_run_to_thread_to_the_micro_dollar() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let mut claimed = claim(&database.store).await;
    let spent = Spent {
        input_tokens: 10,
        output_tokens: 7,
        cache_read_tokens: 100,
        cache_write_tokens: 30,
        cost: domain::MicroUsd(1_234_567),
    };
    for number in 0..3 {
        let turn = Turn {
            model: "claude-test".into(),
            request_id: Some(format!("req_{number}")),
            stop_reason: "end_turn".into(),
            spent,
            duration: std::time::Duration::from_millis(5),
        };
        let checkpoint = Checkpoint { turn: Some(turn), calls: 2, ..said("x") };
        database.store.checkpoint(&mut claimed.lease, &checkpoint).await.expect("writes");
    }
    let total = spent + spent + spent;
    let outcome = Outcome::Completed { content: "nul \0 and done".into() };
    database.store.finish_run(&claimed.lease, &outcome, total).await.expect("finishes");

    let run = database.store.find_run(&database.project, &claimed.run.id).await.expect("reads").expect("is there");
    assert_eq!((run.status, run.spent, run.turns, run.calls), (RunStatus::Completed, total, 3, 6));
    let thread = database.store.find_thread(&database.project, &thread).await.expect("reads").expect("is there");
    assert_eq!(thread.spent, total);
    assert_eq!(thread.message_count, 2);
    let pool = database.pool().await;
    let ledger: i64 =
        sqlx::query_scalar("select sum(cost_micro_usd)::bigint from turns").fetch_one(&pool).await.expect("reads");
    assert_eq!(ledger, total.cost.0);
    let messages = database
        .store
        .list_messages(&thread.id, store::messages::Order::OldestFirst, store::Page::ALL)
        .await
        .expect("reads");
    assert_eq!(messages.items[1].content, "nul \u{fffd} and done");
    assert_eq!(messages.items[1].actions_count, Some(6));
}

#[tokio::test]
async fn a_run_that_cannot_be_read_fails_alone() {
    let database = Database::start().await;
    let mut started = Vec::new();
    for _ in 0..3 {
        let thread = thread(&database).await;
        started.push(start(&database, &thread).await);
    }
    let pool = database.pool().await;
    sqlx::query("update runs set options = '{\"kind\": \"of a later version\"}' where id = $1")
        .bind(started[1].run_id.as_str())
        .execute(&pool)
        .await
        .expect("writes");
    let claimed = database.store.claim_runs(10, TTL).await.expect("the batch is claimed");
    let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.run.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, [started[0].run_id.clone(), started[2].run_id.clone()]);
    let status = database.store.find_run_status(&started[1].run_id).await.expect("reads");
    assert_eq!(status, Some(RunStatus::Failed));
    let events = database.store.list_events(&started[1].thread_id, 0, None, 100).await.expect("reads");
    let last = events.last().expect("events");
    assert!(matches!(
        &last.event,
        Event::RunFinished { outcome: Outcome::Failed { code, .. }, .. } if code == "unreadable_run"
    ));
    // The thread can go on.
    start(&database, &started[1].thread_id).await;
    assert_eq!(database.store.claim_runs(10, TTL).await.expect("claims").len(), 1);
}
