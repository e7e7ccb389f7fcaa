//! The worker: claims runs and drives each in a task of its own, until it is told to stop.
//!
//! A permit is taken before a claim, so a run is never claimed that cannot be driven. A hint says "look again"; the poll
//! under it finds what no hint told of: runs queued by other servers, leases that ended.

use std::{sync::Arc, time::Duration};

use store::{
    Store,
    leases::{Claimed, Renewal},
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    Options,
    agents::Tree,
    builds,
    drive::{self, Parts},
    error::End,
    measure, schedules, side_questions, spans,
    stop::{Stop, StopSignal},
    tools, webhooks,
};

/// Runs claimed by one statement at most.
const CLAIM_BATCH: usize = 16;

/// How often a server is heard of; one that has been silent for a minute is not counted.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15);

/// Drives runs. One per process.
pub struct Executor {
    parts: Arc<Parts>,
}

impl Executor {
    pub fn new(
        store: Store,
        sandboxes: sandbox::Sandboxes,
        ledger: ledger::Ledger,
        claude: claude::Client,
        catalogue: Arc<claude::Catalogue>,
        web: tools::web::Client,
        options: Options,
    ) -> Self {
        let web = web.reaching(&options.mcp.allowed);
        Self { parts: Arc::new(Parts { store, sandboxes, ledger, claude, catalogue, web, options }) }
    }

    /// Works until `soft` is cancelled, then lets each run reach its next checkpoint and gives it back. When `hard` is
    /// cancelled, runs are given back where they stand. Returns when no run is held any more.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) {
        tokio::select! {
            _ = futures::future::join5(
                self.work(&soft, &hard),
                side_questions::work(&self.parts, &soft),
                schedules::work(&self.parts, &soft),
                builds::work(&self.parts, &soft),
                webhooks::work(&self.parts, &soft),
            ) => {}
            never = relay_cancels(&self.parts) => match never {},
            never = announce(&self.parts) => match never {},
        }
        if let Err(err) = self.parts.store.withdraw_server().await {
            tracing::debug!(error = &err as &dyn std::error::Error, "cannot say that this server takes no more runs");
        }
    }

    async fn work(&self, soft: &CancellationToken, hard: &CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.parts.options.concurrent_runs));
        let tracker = TaskTracker::new();
        let mut is_database_away = false;
        while !soft.is_cancelled() {
            let Some(permit) = soft.run_until_cancelled(permits.clone().acquire_owned()).await else { break };
            let permit = permit.expect("the semaphore is never closed");
            let free = 1 + permits.available_permits().min(CLAIM_BATCH - 1);
            let options = &self.parts.options;
            let claimed = match self
                .parts
                .store
                .claim_runs_within(free as i64, options.lease, options.concurrent_per_project, &options.tiers)
                .await
            {
                Ok(claimed) => {
                    if std::mem::take(&mut is_database_away) {
                        tracing::info!("runs can be claimed again");
                    }
                    claimed
                }
                Err(err) => {
                    is_database_away = true;
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot claim runs, trying again");
                    soft.run_until_cancelled(tokio::time::sleep(self.parts.options.poll)).await;
                    continue;
                }
            };
            if claimed.is_empty() {
                drop(permit);
                tokio::select! {
                    () = soft.cancelled() => {}
                    () = self.parts.store.hub().work() => {}
                    () = tokio::time::sleep(self.parts.options.poll) => {}
                }
                continue;
            }
            let mut permit = Some(permit);
            for claimed in claimed {
                // Only this loop takes permits, so the others counted above are still there.
                let permit = match permit.take() {
                    Some(permit) => permit,
                    None => permits.clone().try_acquire_owned().expect("as many permits are free as runs were claimed"),
                };
                let (parts, soft, hard) = (self.parts.clone(), soft.clone(), hard.clone());
                let span = tracing::info_span!("run", run_id = %claimed.run.id, thread_id = %claimed.run.thread_id);
                tracker.spawn(
                    async move {
                        // How it ended is told there.
                        let _ = hold(parts, claimed, StopSignal::default(), soft, hard, None).await;
                        drop(permit);
                    }
                    .instrument(span),
                );
            }
        }
        tracker.close();
        tracker.wait().await;
    }
}

/// Tells the other servers how many runs this one drives, for as long as it does.
async fn announce(parts: &Parts) -> std::convert::Infallible {
    loop {
        if let Err(err) = parts.store.announce_server(parts.options.concurrent_runs).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "cannot tell of this server, trying again");
        }
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

/// Looks for cancels that came over other servers.
async fn relay_cancels(parts: &Parts) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(parts.options.poll).await;
        if let Err(err) = parts.store.relay_cancels().await {
            tracing::debug!(error = &err as &dyn std::error::Error, "cannot look for cancels, trying again");
        }
        // What nobody has allowed in time is denied.
        if let Err(err) = parts.store.expire_requests().await {
            tracing::debug!(error = &err as &dyn std::error::Error, "cannot look for late decisions, trying again");
        }
    }
}

/// Drives one run while renewing its lease, and ends it as it deserves. An error says why it is not over.
pub(crate) async fn hold(
    parts: Arc<Parts>,
    mut claimed: Claimed,
    signal: StopSignal,
    soft: CancellationToken,
    hard: CancellationToken,
    tree: Option<Arc<Tree>>,
) -> Result<(), End> {
    if claimed.run.is_cancel_requested {
        signal.stop(if claimed.run.is_interrupt { Stop::Interrupted } else { Stop::Cancelled });
    }
    let (renewal, span) = (claimed.lease.renewal(), spans::run(&claimed.run));
    let began_at = Instant::now();
    let end = {
        let driving = drive::drive(&parts, &mut claimed, &signal, &soft, tree).instrument(span);
        let watching = watch(&parts, &renewal, &signal, &hard);
        tokio::pin!(driving);
        tokio::select! {
            end = &mut driving => end,
            // The watcher ends only by raising the signal; what is being driven then comes to its end by itself, and
            // the run stays ours until it has.
            () = watching => tokio::select! {
                end = driving => end,
                never = keep(&parts, &renewal) => match never {},
            },
        }
    };
    measure::run(began_at.elapsed(), &end);
    let end = end.map(drop);
    match &end {
        Ok(()) => tracing::info!("the run is over"),
        Err(End::Stop(Stop::Waiting)) => tracing::debug!("the run waits for a decision"),
        Err(End::Stop(Stop::LeaseLost)) => tracing::warn!("another worker has taken the run over"),
        Err(End::Stop(Stop::Paused)) => match parts.store.park_paused(claimed.lease).await {
            Ok(true) => tracing::info!("the run stands still until somebody resumes it"),
            Ok(false) => tracing::info!("gave the run back: nobody wants it to stand still any more"),
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot park the run; its lease will end")
            }
        },
        Err(End::Stop(Stop::Cancelled | Stop::Interrupted | Stop::TimedOut | Stop::ShuttingDown)) => match parts
            .store
            .release(claimed.lease)
            .await
        {
            Ok(()) => tracing::info!("gave the run back to be continued"),
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot give the run back; its lease will end")
            }
        },
        Err(end @ (End::Failed { .. } | End::Store(_))) => {
            tracing::error!(
                error = end as &dyn std::error::Error,
                "cannot go on; the run's lease will end and it will be tried again"
            );
        }
    }
    end
}

/// Renews the lease while a run is wound up, whatever comes of it: a lease that is lost shows at the next commit.
async fn keep(parts: &Parts, lease: &Renewal) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(parts.options.lease / 3).await;
        if let Err(err) = parts.store.renew(lease, parts.options.lease).await {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot renew the lease of a run that ends");
        }
    }
}

/// Renews the lease and looks whether the run was cancelled. Returns after raising the signal.
async fn watch(parts: &Parts, lease: &Renewal, signal: &StopSignal, hard: &CancellationToken) {
    let cancels = parts.store.cancel_hints(&lease.run_id);
    let ttl = parts.options.lease;
    let mut renewed_at = Instant::now();
    loop {
        tokio::select! {
            () = hard.cancelled() => return signal.stop(Stop::ShuttingDown),
            _ = signal.stopped() => {}
            () = cancels.next() => {}
            () = tokio::time::sleep(ttl / 3) => {}
        }
        if signal.reason().is_some() {
            return;
        }
        match parts.store.renew(lease, ttl).await {
            Ok(renewed) => {
                renewed_at = Instant::now();
                if renewed.is_cancel_requested {
                    return signal.stop(if renewed.is_interrupt { Stop::Interrupted } else { Stop::Cancelled });
                }
            }
            Err(store::Error::LeaseLost) => return signal.stop(Stop::LeaseLost),
            // The database may be back before the lease ends; after that somebody else may hold the run.
            Err(err) if renewed_at.elapsed() < ttl => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot renew the lease, trying again");
                tokio::time::sleep(parts.options.poll).await;
            }
            Err(_) => return signal.stop(Stop::LeaseLost),
        }
    }
}
