//! Following a thread's log: the one function behind every stream, first or tenth.
//!
//! Read what is after N, then wait for a hint, repeat. Interest is registered before the read, so what is committed in
//! between wakes us; and we look again every [`POLL`] anyway, since a hint may come from another server and get lost.
//!
//! Whoever reads a tail may stop in the middle of a read, since its client takes nothing more. So reads are made by tasks
//! of their own: a connection that a future nobody polls has taken would be lost to everybody else.

use std::time::Duration;

use domain::{
    RunId, ThreadId,
    event::{Delta, Event, Recorded},
    run::RunStatus,
};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    Error, Result, Store,
    events::{Gap, Part},
    hub::Watch,
    row::ReadColumn,
};

/// The floor under lost hints.
const POLL: Duration = Duration::from_secs(1);

/// Events read at once.
const BATCH: i64 = 256;

/// Where a tail ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// After the last event of this run.
    RunFinished(RunId),
    /// When everything has been read and no run is under way.
    Idle,
}

/// What a tail gives.
#[derive(Debug, Clone)]
pub enum Tailed {
    /// Durable and numbered: a reader may resume after it.
    Event(Box<Recorded>),
    /// On its way, not numbered; the finished item repeats it.
    Delta(Delta),
    /// Events that the reader has asked for and that are kept no longer. What comes next is numbered above it.
    Gap(Gap),
    /// The run that is followed is over, and its last event is kept no longer. Nothing comes after this.
    EndForgotten,
}

impl Store {
    /// Streams the thread's events after the number `after`, each exactly once and in order, and ends as `until` says.
    ///
    /// Deltas come between the events, never before an event that was committed before them. A reader who is too slow
    /// for deltas loses some; events are never lost, unless they had been forgotten: that is told by a gap. A tail until
    /// the end of a run ends too where that end is forgotten.
    pub fn tail(
        &self,
        thread: ThreadId,
        after: i64,
        until: Until,
    ) -> impl Stream<Item = Result<Tailed>> + Send + 'static {
        let store = self.clone();
        async_stream::try_stream! {
            // Before the first read: what lands meanwhile wakes us.
            let mut watch = store.hub.watch(&thread);
            let mut cursor = after;
            loop {
                watch.sequence.mark_unchanged();
                // Asked before reading: if no run is under way now, the read below sees everything there will be.
                let is_idle = until == Until::Idle && !is_active(&store, &thread).await?;
                loop {
                    let Part { gap, events } = read(&store, &thread, cursor).await?;
                    let is_last = events.len() < BATCH as usize;
                    if let Some(gap) = gap {
                        cursor = gap.to;
                        yield Tailed::Gap(gap);
                        // Runs are forgotten as a whole: of one that began in the gap and is over, nothing follows.
                        if let Until::RunFinished(run) = &until && is_over(&store, run).await? {
                            let is_told = |event: &Recorded| event.run_id.as_ref() == Some(run);
                            if !events.iter().any(is_told) {
                                yield Tailed::EndForgotten;
                                return;
                            }
                        }
                    }
                    for event in events {
                        cursor = event.sequence;
                        let is_end = matches!(
                            (&event.event, &until),
                            (Event::RunFinished { .. }, Until::RunFinished(run)) if event.run_id.as_ref() == Some(run)
                        );
                        yield Tailed::Event(Box::new(event));
                        if is_end {
                            return;
                        }
                    }
                    if is_last {
                        break;
                    }
                }
                if is_idle {
                    return;
                }
                let only = match &until {
                    Until::RunFinished(run) => Some(run),
                    Until::Idle => None,
                };
                while let Some(delta) = next_delta(&mut watch, cursor, only).await {
                    yield Tailed::Delta(delta);
                }
            }
        }
    }

    /// Tells whether a run of the thread is under way: neither held nor over.
    pub async fn has_active_run(&self, thread: &ThreadId) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "-- has_active_run
             select exists(
                 select 1 from runs
                 where thread_id = $1 and status not in ('held', 'completed', 'failed', 'cancelled')
             )",
        )
        .bind(thread.as_str())
        .fetch_one(&self.pool)
        .await?)
    }

    /// Gives a run's status, for those who wait for its end without reading its events.
    pub async fn find_run_status(&self, run: &RunId) -> Result<Option<RunStatus>> {
        let row =
            sqlx::query("select status from runs where id = $1").bind(run.as_str()).fetch_optional(&self.pool).await?;
        row.map(|row| row.parse("status")).transpose()
    }
}

/// Reads on, to the end even where nobody waits for it any more.
async fn read(store: &Store, thread: &ThreadId, after: i64) -> Result<Part> {
    let (store, thread) = (store.clone(), thread.clone());
    detached(async move { store.read_log(&thread, after, None, BATCH).await }).await
}

async fn is_active(store: &Store, thread: &ThreadId) -> Result<bool> {
    let (store, thread) = (store.clone(), thread.clone());
    detached(async move { store.has_active_run(&thread).await }).await
}

async fn is_over(store: &Store, run: &RunId) -> Result<bool> {
    let (store, run) = (store.clone(), run.clone());
    detached(async move { Ok(store.find_run_status(&run).await?.is_some_and(RunStatus::is_over)) }).await
}

/// Runs a read to its end on a task of its own, so that it gives its connection back whether or not it is waited for.
pub async fn detached<T: Send + 'static>(read: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(read).await.unwrap_or_else(|err| Err(Error::unreadable("the log")(err)))
}

/// Waits for something to show: a delta that belongs after `cursor`, or `None` when the log shall be read again.
///
/// While a held run is followed, another run of the thread is at work: its deltas are not for that reader.
async fn next_delta(watch: &mut Watch, cursor: i64, only: Option<&RunId>) -> Option<Delta> {
    loop {
        tokio::select! {
            // Events first: a delta must not overtake an event that was committed before it.
            biased;
            _ = watch.sequence.wait_for(|newest| *newest > cursor) => return None,
            sent = watch.deltas.recv() => match sent {
                // Sent after events that we have not read yet: read them first. The delta itself is lost to us, the
                // item that it becomes part of repeats it.
                Ok(sent) if sent.after > cursor => return None,
                // Left over from before an event we have read: the finished item has told it already.
                Ok(sent) if sent.after < cursor => {}
                Ok(sent) if only.is_some_and(|run| *run != sent.run) => {}
                Ok(sent) => return Some(sent.delta),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(POLL) => return None,
        }
    }
}
