//! Stopping is not failing: why a run stops being driven here, and the signal that says so.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a run is no longer driven here, though nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked for it. The run ends as cancelled.
    Cancelled,
    /// Somebody asked for it, to have another message worked on. The run ends as interrupted.
    Interrupted,
    /// Its time is over. The run ends as failed.
    TimedOut,
    /// Somebody wants it to stand still. It is given back and waits.
    Paused,
    /// Another worker holds the run now. Nothing more may be written.
    LeaseLost,
    /// The run waits for somebody to decide. Its rows say so, and nobody holds it.
    Waiting,
    /// This server goes down. The run goes on elsewhere or later.
    ShuttingDown,
}

/// Tells a run's parts to stop, once, with the first reason given.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopSignal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    token: CancellationToken,
    reason: OnceLock<Stop>,
}

impl StopSignal {
    /// Asks to stop. Only the first reason counts.
    pub(crate) fn stop(&self, reason: Stop) {
        // The reason is there before anybody is woken.
        let _ = self.0.reason.set(reason);
        self.0.token.cancel();
    }

    /// Gives the reason, if there is one.
    pub(crate) fn reason(&self) -> Option<Stop> {
        if self.0.token.is_cancelled() { self.0.reason.get().copied() } else { None }
    }

    /// Gives a token that is cancelled with the signal, for parts that need no reason.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    /// Waits for the signal.
    pub(crate) async fn stopped(&self) -> Stop {
        self.0.token.cancelled().await;
        *self.0.reason.get().expect("the reason is set before the token is cancelled")
    }

    /// Waits for `work`, or for the signal if that comes first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            stop = self.stopped() => Err(stop),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts() {
        let signal = StopSignal::default();
        assert_eq!(signal.reason(), None);
        assert_eq!(signal.or(async { 7 }).await, Ok(7));
        signal.stop(Stop::LeaseLost);
        signal.stop(Stop::Cancelled);
        assert_eq!(signal.stopped().await, Stop::LeaseLost);
        assert_eq!(signal.or(std::future::pending::<()>()).await, Err(Stop::LeaseLost));
    }
}
