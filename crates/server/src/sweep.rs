//! Forgets what has had its time: idempotency keys after a day, the secrets of runs that are over, previews that have
//! expired, what webhooks were told long ago, old events where the operator wants that (`events.retention`).

use std::time::Duration;

use store::Store;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(60);

/// Rows removed by one statement: few enough that nobody waits for their locks.
const BATCH: i64 = 1000;

/// Threads whose logs one statement shortens.
const THREADS: i64 = 20;

/// How long what is kept is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    /// `None`: as long as their thread.
    pub(crate) events: Option<Duration>,
    pub(crate) deliveries: Duration,
}

/// Sweeps until the token is cancelled, the first time at once. Servers may sweep side by side.
pub(crate) async fn run(store: Store, ages: Ages, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match stop.run_until_cancelled(once(&store, ages)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(err)) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot sweep, trying again later")
            }
        }
    }
}

async fn once(store: &Store, ages: Ages) -> store::Result<()> {
    while store.sweep_requests(BATCH).await? > 0 {}
    while store.sweep_run_secrets(BATCH).await? > 0 {}
    while store.sweep_previews(BATCH).await? > 0 {}
    while store.sweep_deliveries(ages.deliveries, BATCH).await? > 0 {}
    while store.sweep_requests_left(BATCH).await? > 0 {}
    if let Some(age) = ages.events {
        while store.forget_events(age, THREADS).await? > 0 {}
    }
    Ok(())
}
