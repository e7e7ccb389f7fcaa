//! The figures, each with the baseline it is to be read beside.

mod files;
mod history;
mod job;
mod load;
mod log;
mod mcp;
mod preview;
mod start;
mod submit;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use scripted_claude::Timing;

use crate::{baseline::Baselines, client::Seen, report::Report, samples::Samples, system::System};

/// What figures are measured with and written to.
pub(crate) struct Bench<'a> {
    pub system: &'a System,
    pub baselines: Baselines,
    pub report: &'a mut Report,
    pub is_quick: bool,
}

impl Bench<'_> {
    /// Measures the named parts, all if none is named.
    pub(crate) async fn run(&mut self, only: &[String]) -> anyhow::Result<()> {
        let wants = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
        if wants("memory") {
            // First: idle is what a server is that has not worked yet.
            self.idle_memory();
        }
        // What a first use costs (caches, plans, page faults) is not what we ask.
        let environment = self.system.client.environment().await?;
        self.work(&environment, &Task { writes: 2, bashes: 2, ..Task::default() }).await?;
        if wants("job") {
            self.job(&environment).await?;
        }
        if wants("submit") {
            self.submit(&environment).await?;
        }
        if wants("delta") {
            self.deltas(&environment).await?;
        }
        if wants("mcp") {
            self.mcp_servers(&environment).await?;
        }
        if wants("preview") {
            self.preview(&environment).await?;
        }
        if wants("cold") {
            self.cold_start().await?;
        }
        if wants("memory") {
            self.memory_of_runs().await?;
        }
        if wants("threads") {
            self.threads().await?;
        }
        if wants("events") {
            self.events().await?;
        }
        if wants("history") {
            self.history()?;
        }
        if wants("files") {
            self.files(&environment).await?;
        }
        if wants("long") {
            self.long_thread(&environment).await?;
        }
        Ok(())
    }

    /// `full` samples, or a few.
    fn count(&self, full: usize) -> usize {
        if self.is_quick { full.min(2) } else { full }
    }

    /// Does a task in a new thread.
    async fn work(&self, environment: &str, task: &Task) -> anyhow::Result<Done> {
        let thread = self.system.client.thread(environment).await?;
        let message = task.message();
        let seen = self.system.client.run(&thread, &message).await?;
        Ok(Done { seen, message })
    }

    /// Gives what the model saw of a task, by round.
    fn exchanges(&self, done: &Done) -> HashMap<usize, Timing> {
        let timings = self.system.model.timings().into_iter();
        timings.filter(|timing| timing.user_text == done.message).map(|timing| (timing.round, timing)).collect()
    }
}

/// What the model shall ask for, one call a turn.
#[derive(Debug, Clone, Copy, Default)]
struct Task {
    writes: usize,
    bashes: usize,
    deltas: usize,
    delay_ms: usize,
}

impl Task {
    /// The message that makes the scripted model do it; no two are alike.
    fn message(self) -> String {
        static JOBS: AtomicUsize = AtomicUsize::new(1);
        let job = JOBS.fetch_add(1, Ordering::Relaxed);
        let Self { writes, bashes, deltas, delay_ms } = self;
        format!("bench writes={writes} bashes={bashes} deltas={deltas} delay={delay_ms} job={job}")
    }
}

/// A task that was done.
struct Done {
    seen: Seen,
    message: String,
}

/// Gives how long after the last byte of the reply of `round` the next request was there as a whole.
fn overhead(exchanges: &HashMap<usize, Timing>, round: usize) -> Option<Duration> {
    let answered_at = *exchanges.get(&round)?.sent_at.last()?;
    Some(exchanges.get(&(round + 1))?.body_at.saturating_duration_since(answered_at))
}

/// Takes the overheads of some rounds.
fn take_overheads(samples: &mut Samples, exchanges: &HashMap<usize, Timing>, rounds: impl Iterator<Item = usize>) {
    rounds.filter_map(|round| overhead(exchanges, round)).for_each(|took| samples.took(took));
}

/// Gives the milliseconds from one time to a later one.
fn between(samples: &mut Samples, from: Instant, to: Instant) {
    samples.took(to.saturating_duration_since(from));
}
