//! Brings containers back to what the rows want, at start and from time to time.

use std::time::Duration;

use sandbox::Sandboxes;
use store::Store;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(30);

/// Reconciles until the token is cancelled, the first time at once.
pub(crate) async fn run(store: Store, sandboxes: Sandboxes, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // May be dropped anywhere: what is half done is seen by the next pass, of this process or another.
        if stop.run_until_cancelled(once(&store, &sandboxes)).await.is_none() {
            return;
        }
    }
}

async fn once(store: &Store, sandboxes: &Sandboxes) {
    let wanted = match store.list_wanted_environments().await {
        Ok(wanted) => wanted,
        // Without the rows nothing may be removed.
        Err(err) => return tracing::warn!(error = &err as &dyn std::error::Error, "cannot list the environments"),
    };
    wipe(store, sandboxes).await;
    match sandboxes.reconcile(&wanted).await {
        Ok(done) => {
            for container in &done.removed {
                tracing::info!(container, "removed a container that nobody wants");
            }
            for environment in &done.stopped {
                tracing::info!(%environment, "stopped an idle container");
            }
        }
        Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "cannot reconcile the containers"),
    }
}

/// Removes the files of deleted environments that are still there: the API tried once, and may have failed.
async fn wipe(store: &Store, sandboxes: &Sandboxes) {
    let wipes = match store.list_wipes().await {
        Ok(wipes) => wipes,
        Err(err) => return tracing::warn!(error = &err as &dyn std::error::Error, "cannot list what is to be wiped"),
    };
    for environment in wipes {
        if let Err(err) = sandboxes.remove(&environment).await {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(%environment, error, "cannot remove a deleted environment's files, trying again");
        } else if let Err(err) = store.finish_wipe(&environment).await {
            let error = &err as &dyn std::error::Error;
            tracing::warn!(%environment, error, "cannot note that a deleted environment's files are gone");
        }
    }
}
