//! Every reader sees every event once and in order, whenever it comes and wherever it was cut off.

use std::pin::pin;

use domain::{
    ThreadId,
    event::{Delta, Event, Item},
    run::{Outcome, Spent},
};
use futures::{Stream, StreamExt};
use store::{
    Store,
    leases::Checkpoint,
    tail::{Tailed, Until},
};
use testing::Database;

use crate::{claim, start, thread};

fn said(text: String) -> Checkpoint {
    Checkpoint { events: vec![Event::ItemCompleted { item: Item::Text { text } }], ..Checkpoint::default() }
}

async fn sequences(tail: impl Stream<Item = store::Result<Tailed>>) -> Vec<i64> {
    tail.filter_map(async |tailed| match tailed.expect("reads") {
        Tailed::Event(event) => Some(event.sequence),
        Tailed::Delta(_) | Tailed::Gap(_) | Tailed::EndForgotten => None,
    })
    .collect()
    .await
}

/// Writes a run of `events` events and its end.
async fn write(store: Store, mut claimed: store::leases::Claimed, events: usize) {
    for number in 0..events {
        store.checkpoint(&mut claimed.lease, &said(number.to_string())).await.expect("writes");
    }
    let outcome = Outcome::Completed { content: "done".into() };
    store.finish_run(&claimed.lease, &outcome, Spent::default()).await.expect("finishes");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_who_come_at_any_time_see_every_event_once_and_in_order() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let started = start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    let until = Until::RunFinished(started.run_id);
    let readers: Vec<_> = (0..20)
        .map(|number: i64| {
            let tail = database.store.tail(thread.clone(), number % 3, until.clone());
            tokio::spawn(async move { (number % 3, sequences(tail).await) })
        })
        .collect();
    // On another server, whose events no hint tells of.
    let other = database.another_server("node_other").await;
    let far = tokio::spawn(sequences(other.tail(thread.clone(), 0, until)));
    write(database.store.clone(), claimed, 300).await;
    for reader in readers {
        let (after, seen) = reader.await.expect("ends");
        assert_eq!(seen, (after + 1..=303).collect::<Vec<_>>());
    }
    assert_eq!(far.await.expect("ends"), (1..=303).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_tail_of_an_idle_thread_ends_after_what_is_there() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    assert!(sequences(database.store.tail(thread.clone(), 0, Until::Idle)).await.is_empty());
    start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    let tail = tokio::spawn(sequences(database.store.tail(thread.clone(), 0, Until::Idle)));
    write(database.store.clone(), claimed, 3).await;
    assert_eq!(tail.await.expect("ends"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(sequences(database.store.tail(thread, 4, Until::Idle)).await, [5, 6]);
}

#[tokio::test]
async fn a_delta_never_comes_before_an_event_committed_before_it_nor_after_its_item() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    let started = start(&database, &thread).await;
    let mut claimed = claim(&database.store).await;
    let mut tail = pin!(database.store.tail(thread.clone(), 0, Until::RunFinished(started.run_id)));
    next_events(&mut tail, 2).await;

    let store = database.store.clone();
    let mut after = claimed.last_sequence;
    let writing = tokio::spawn(async move {
        for number in 0..50 {
            for part in 0..5 {
                store.send_delta(&claimed.lease, after, Delta::Text(format!("{number}.{part}")));
                tokio::task::yield_now().await;
            }
            after = store.checkpoint(&mut claimed.lease, &said(number.to_string())).await.expect("writes");
        }
        let outcome = Outcome::Completed { content: String::new() };
        store.finish_run(&claimed.lease, &outcome, Spent::default()).await.expect("finishes");
    });
    let (mut items, mut deltas) = (0, 0);
    while let Some(tailed) = tail.next().await {
        match tailed.expect("reads") {
            Tailed::Event(event) => items += i32::from(matches!(event.event, Event::ItemCompleted { .. })),
            Tailed::Delta(Delta::Text(text)) => {
                deltas += 1;
                assert_eq!(text.split('.').next(), Some(items.to_string().as_str()), "a delta of the item being made");
            }
            Tailed::Delta(_) | Tailed::Gap(_) | Tailed::EndForgotten => {
                unreachable!("only text is sent, and all is kept")
            }
        }
    }
    writing.await.expect("ends");
    assert_eq!(items, 50);
    assert!(deltas > 100, "most deltas are seen: {deltas}");
    assert!(!database.store.hub().is_watched(&thread), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_who_stop_in_the_middle_of_a_read_keep_no_connection() {
    let database = Database::start().await;
    let thread = thread(&database).await;
    start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    write(database.store.clone(), claimed, 300).await;
    // More of them than the pool has connections (16). Each is polled until it waits for the database, and never again.
    let mut stalled: Vec<_> = (0..60).map(|_| Box::pin(database.store.tail(thread.clone(), 0, Until::Idle))).collect();
    for tail in &mut stalled {
        assert!(futures::poll!(tail.next()).is_pending(), "it waits for the database");
    }
    for _ in 0..20 {
        database.store.ping().await.expect("there is a connection");
    }
    // Whoever reads on has lost nothing.
    assert_eq!(sequences(stalled.remove(30)).await, (1..=303).collect::<Vec<_>>());
    assert_eq!(stalled.len(), 59);
}

async fn next_events(tail: &mut (impl Stream<Item = store::Result<Tailed>> + Unpin), count: usize) {
    for _ in 0..count {
        assert!(matches!(tail.next().await, Some(Ok(Tailed::Event(_)))));
    }
}

#[tokio::test]
async fn a_page_of_events_is_bounded_on_both_sides() {
    let database = Database::start().await;
    let thread: ThreadId = thread(&database).await;
    start(&database, &thread).await;
    let claimed = claim(&database.store).await;
    write(database.store.clone(), claimed, 5).await;
    let page = database.store.list_events(&thread, 2, Some(6), 100).await.expect("reads");
    assert_eq!(page.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 4, 5]);
    let page = database.store.list_events(&thread, 0, None, 2).await.expect("reads");
    assert_eq!(page.len(), 2);
}
