//! The builder: claims builds and drives each to its end, a few at once.
//!
//! What a build says is written down as it comes, in pieces, so that whoever waits for it can read along. Starting over is
//! harmless: the engine keeps the layers that were done. So a server that stops gives its builds back, and one that
//! crashes leaves a lease that ends; in both cases the next builder takes the build up.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use sandbox::Plan;
use store::builds::ClaimedBuild;
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::drive::Parts;

/// Claims of one build: one that gets this far takes its servers down with it.
const MAX_ATTEMPTS: i32 = 3;

/// How often what was said is written down.
const FLUSH: Duration = Duration::from_millis(500);

/// How much of the end of what was said belongs to the error.
const TAIL_LINES: usize = 15;
const TAIL_BYTES: usize = 4000;

/// Builds until `soft` is cancelled. What is then under way is given back.
pub(crate) async fn work(parts: &Arc<Parts>, soft: &CancellationToken) {
    let permits = Arc::new(Semaphore::new(parts.options.concurrent_builds));
    let tracker = TaskTracker::new();
    while let Some(permit) = soft.run_until_cancelled(permits.clone().acquire_owned()).await {
        let permit = permit.expect("the semaphore is never closed");
        match parts.store.claim_build(parts.options.lease).await {
            Ok(Some(build)) => {
                let (parts, soft) = (parts.clone(), soft.clone());
                let span = tracing::info_span!("build", build_id = %build.id, image = %build.new.image);
                let building = async move {
                    serve(&parts, &build, &soft).await;
                    drop(permit);
                };
                tracker.spawn(building.instrument(span));
                continue;
            }
            Ok(None) => {}
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "cannot claim builds, trying again"),
        }
        drop(permit);
        tokio::select! {
            () = soft.cancelled() => {}
            () = parts.store.hub().builds() => {}
            () = tokio::time::sleep(parts.options.poll) => {}
        }
    }
    tracker.close();
    tracker.wait().await;
}

/// What became of a build here.
enum End {
    Ready,
    Failed(String),
    /// Nobody wants it, or this server stops: it is given back, and its row says which.
    GivenBack,
    /// Another builder has it, or the rows cannot be reached: nothing more is written.
    Lost(store::Error),
}

async fn serve(parts: &Parts, build: &ClaimedBuild, soft: &CancellationToken) {
    let began_at = Instant::now();
    let end = if build.attempt > MAX_ATTEMPTS {
        End::Failed("The build was taken up again and again without coming to an end.".to_owned())
    } else {
        drive(parts, build, soft).await
    };
    let seconds = began_at.elapsed().as_secs();
    let written = match end {
        End::Ready => {
            tracing::info!(seconds, "built an image");
            parts.store.finish_build(build, Ok(())).await
        }
        End::Failed(error) => {
            tracing::info!(seconds, "a build failed: {}", error.lines().next().unwrap_or_default());
            parts.store.finish_build(build, Err(&error)).await
        }
        End::GivenBack => parts.store.release_build(build).await,
        End::Lost(err) => Err(err),
    };
    if let Err(err) = written {
        tracing::warn!(error = &err as &dyn std::error::Error, "cannot write down a build's end; its lease will end");
    }
}

async fn drive(parts: &Parts, build: &ClaimedBuild, soft: &CancellationToken) -> End {
    let new = &build.new;
    let plan = Plan {
        hash: new.hash.clone(),
        image: new.image.clone(),
        base: new.base.clone(),
        dockerfile: new.dockerfile.clone(),
    };
    let mut log = Log::default();
    if build.attempt > 1 {
        log.push("The build was interrupted and begins again.\n");
    }
    let deadline = Instant::now() + parts.options.build_timeout;
    let mut renewals = interval(parts.options.lease / 3);
    let mut flushes = interval(FLUSH);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = pin!(parts.sandboxes.build(&plan));
    let end = loop {
        tokio::select! {
            () = soft.cancelled() => break End::GivenBack,
            () = tokio::time::sleep_until(deadline) => {
                let limit = parts.options.build_timeout.as_secs();
                break End::Failed(log.error(&format!("The build took longer than {limit} s.")));
            }
            _ = renewals.tick() => match parts.store.renew_build(build, parts.options.lease).await {
                Ok(false) => {}
                Ok(true) => break End::GivenBack,
                Err(err) if err.is_unavailable() => {
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot renew the lease, trying again");
                }
                Err(err) => return End::Lost(err),
            },
            _ = flushes.tick() => if let Err(err) = log.flush(parts, build).await {
                return End::Lost(err);
            },
            piece = said.next() => match piece {
                Some(Ok(text)) => log.push(&text),
                Some(Err(sandbox::Error::BuildFailed(reason))) => break End::Failed(log.error(&reason)),
                Some(Err(err)) => {
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot build");
                    let text = err.to_string();
                    break End::Failed(log.error(&text));
                }
                None => break End::Ready,
            },
        }
    };
    match log.flush(parts, build).await {
        Ok(()) => end,
        Err(err) => End::Lost(err),
    }
}

/// What a build says: what is not written down yet, and the end of it all.
#[derive(Default)]
struct Log {
    unwritten: String,
    tail: String,
}

impl Log {
    fn push(&mut self, text: &str) {
        self.unwritten += text;
        self.tail += text;
        if self.tail.len() > 4 * TAIL_BYTES {
            let from = self.tail.ceil_char_boundary(self.tail.len() - TAIL_BYTES);
            self.tail.drain(..from);
        }
    }

    async fn flush(&mut self, parts: &Parts, build: &ClaimedBuild) -> store::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        match parts.store.append_build_log(build, &self.unwritten).await {
            Ok(()) => self.unwritten.clear(),
            // Kept for the next time.
            Err(err) if err.is_unavailable() => {}
            Err(err) => return Err(err),
        }
        Ok(())
    }

    /// Says what failed, and what was said last.
    fn error(&mut self, reason: &str) -> String {
        let lines: Vec<&str> = self.tail.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        let last = &last[last.ceil_char_boundary(last.len().saturating_sub(TAIL_BYTES))..];
        let error = if last.is_empty() { reason.to_owned() } else { format!("{reason}\n{last}") };
        self.push(&format!("{reason}\n"));
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_holds_the_last_lines_and_the_log_the_reason() {
        let mut log = Log::default();
        for n in 0..5000 {
            log.push(&format!("line {n} ä\n\n"));
        }
        let error = log.error("It failed.");
        assert!(error.starts_with("It failed.\nline 4985 ä\n") && error.ends_with("line 4999 ä"), "{error}");
        assert!(log.unwritten.ends_with("line 4999 ä\n\nIt failed.\n"));
        assert!(log.tail.len() < 5 * TAIL_BYTES);
    }
}
