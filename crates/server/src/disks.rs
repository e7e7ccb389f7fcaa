//! Keeps environments from filling the disk.

use std::time::Duration;

use sandbox::{Overrun, Sandboxes};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// No setting makes it look more often.
const LEAST: Duration = Duration::from_millis(100);

/// Looks every `every` until the token is cancelled.
pub(crate) async fn watch(sandboxes: Sandboxes, every: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(every.max(LEAST))).await.is_some() {
        match stop.run_until_cancelled(sandboxes.watch_disks()).await {
            Some(Ok(overruns)) => overruns.iter().for_each(tell),
            Some(Err(err)) => tracing::warn!(error = &err as &dyn std::error::Error, "cannot watch the disk"),
            None => return,
        }
    }
}

fn tell(overrun: &Overrun) {
    let Overrun { environment, used, killed, is_for_reserve } = overrun;
    let why = if *is_for_reserve { "the disk is nearly full" } else { "the environment is over its limit" };
    tracing::warn!(%environment, bytes = used.bytes, limit = used.limit, killed, "{why}: killed what ran in it");
}
