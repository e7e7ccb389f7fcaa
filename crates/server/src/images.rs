//! Removes images that nobody uses any more, at start and from time to time.

use std::time::Duration;

use sandbox::Sandboxes;
use store::Store;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(60 * 60);

/// Sweeps until the token is cancelled. Servers may sweep side by side.
pub(crate) async fn run(store: Store, sandboxes: Sandboxes, keep: Duration, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if stop.run_until_cancelled(once(&store, &sandboxes, keep)).await.is_none() {
            return;
        }
    }
}

async fn once(store: &Store, sandboxes: &Sandboxes, keep: Duration) {
    // The row first: whoever wants the image after that builds it again.
    let expired = match store.expire_images(keep).await {
        Ok(expired) => expired,
        Err(err) => return tracing::warn!(error = &err as &dyn std::error::Error, "cannot list unused images"),
    };
    for image in expired {
        match sandboxes.remove_image(&image).await {
            Ok(()) => tracing::info!(image, "removed an image that nobody uses"),
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, image, "cannot remove an unused image"),
        }
    }
    // After the rows were read nothing that is older than a day becomes wanted again without being built again.
    match store.list_images().await {
        Ok(wanted) => match sandboxes.prune_images(&wanted).await {
            Ok(removed) => removed.iter().for_each(|image| tracing::info!(image, "removed an image that no row names")),
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "cannot remove what builds have left"),
        },
        Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "cannot list the images that are wanted"),
    }
}
