//! How the process stops, in two stages: the first signal drains, the second ends.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tokens every task gets, and the tracker that waits for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    /// Nothing new is begun, streams end, runs reach a checkpoint.
    pub(crate) soft: CancellationToken,
    /// Everything is dropped where it stands.
    pub(crate) hard: CancellationToken,
    pub(crate) tracker: TaskTracker,
    has_crashed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Catches SIGTERM and SIGINT from now on.
    pub(crate) fn catch_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (soft, hard) = (self.soft.clone(), self.hard.clone());
        // Not on the tracker: it outlives what it stops.
        tokio::spawn(async move {
            for token in [soft, hard] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, "stopping{}", if token.is_cancelled() { ", at once" } else { "" });
                token.cancel();
            }
        });
        Ok(())
    }

    /// Spawns what the server is nothing without. If it ends before it was told to, or panics, the server stops.
    pub(crate) fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (task, lifecycle) = (self.tracker.spawn(task), self.clone());
        self.tracker.spawn(async move {
            let ended = task.await;
            if !lifecycle.soft.is_cancelled() {
                let why = ended.err().map_or("it returned".to_owned(), |err| err.to_string());
                tracing::error!(task = name, why, "a vital part has ended by itself, stopping");
                lifecycle.has_crashed.store(true, Ordering::Relaxed);
                lifecycle.soft.cancel();
            }
        });
    }

    /// Tells whether the stop was caused by a crash and not by a signal.
    pub(crate) fn has_crashed(&self) -> bool {
        self.has_crashed.load(Ordering::Relaxed)
    }

    /// Waits until everything has ended: on its own within `drain` of the soft token, or dropped after that.
    pub(crate) async fn drained(&self, drain: Duration) {
        self.soft.cancelled().await;
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = self.hard.cancelled() => {}
            () = tokio::time::sleep(drain) => tracing::warn!("not everything came to its end in time, ending it"),
        }
        self.hard.cancel();
        // What was told to end at once gives its leases back and is done; a database that is away must not hold us.
        if tokio::time::timeout(Duration::from_secs(5), self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "leaving tasks behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_drain_is_ended() {
        let lifecycle = Lifecycle::default();
        let hard = lifecycle.hard.clone();
        lifecycle.tracker.spawn(async move { hard.cancelled().await });
        lifecycle.soft.cancel();
        lifecycle.drained(Duration::from_millis(20)).await;
        assert!(lifecycle.tracker.is_empty());
    }

    #[tokio::test]
    async fn the_end_of_a_vital_part_stops_the_rest() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_vital("test", async {});
        lifecycle.drained(Duration::from_secs(10)).await;
        assert!(lifecycle.has_crashed());
    }

    #[tokio::test]
    async fn a_second_signal_does_not_wait_for_the_deadline() {
        let lifecycle = Lifecycle::default();
        let hard = lifecycle.hard.clone();
        lifecycle.tracker.spawn(async move { hard.cancelled().await });
        lifecycle.soft.cancel();
        lifecycle.hard.cancel();
        let began = tokio::time::Instant::now();
        lifecycle.drained(Duration::from_secs(600)).await;
        assert!(began.elapsed() < Duration::from_secs(300));
    }
}
