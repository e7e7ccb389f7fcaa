//! Fires the schedules whose moments have come, beside the runs.
//!
//! The store decides which of several servers fires one and does it in one transaction; here is only the clock.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::drive::Parts;

/// How late a schedule is at most, as long as its server is not busy with others.
const TICK: Duration = Duration::from_secs(1);

/// Works until `soft` is cancelled.
pub(crate) async fn work(parts: &Parts, soft: &CancellationToken) {
    while !soft.is_cancelled() {
        match parts.store.fire_next().await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot fire schedules, trying again");
            }
        }
        soft.run_until_cancelled(tokio::time::sleep(TICK)).await;
    }
}
