//! The budget guard: what a run may use, looked at before each model call, and a clock for its time.
//!
//! The narrowest of what message and agent say holds for the run, or the server's default where neither says anything;
//! what the thread says holds for all its runs together. What was used survives a crash, since it is in the run's row.
//! Besides, budgets hold for all that a project, a key or an agent does together.

use std::time::Duration;

use domain::{
    MicroUsd,
    agent::Agent,
    budget,
    limits::{Limits, Reached, Used},
};
use tokio::time::Instant;

use crate::{Options, drive::Driver, error::End};

/// A run's limits, and what had been used when it was taken up.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    of_run: Limits,
    of_thread: Limits,
    /// What the thread's other runs have used.
    others: Used,
    /// Model calls of this run.
    pub turns: u32,
    worked: Duration,
    taken_up_at: Instant,
}

impl Bounds {
    /// No limits yet; the clock runs.
    pub(crate) fn new(run: &domain::run::Run) -> Self {
        Self {
            of_run: Limits::default(),
            of_thread: Limits::default(),
            others: Used::default(),
            turns: run.turns.unsigned_abs(),
            worked: run.worked,
            taken_up_at: Instant::now(),
        }
    }

    fn worked(&self) -> Duration {
        self.worked + self.taken_up_at.elapsed()
    }
}

impl Options {
    /// The limits of runs about which nobody said anything.
    fn default_limits(&self) -> Limits {
        Limits {
            max_cost: (self.max_cost_usd > 0.0).then(|| MicroUsd((self.max_cost_usd * 1e6).ceil() as i64)),
            max_turns: Some(self.max_turns),
            max_tokens: None,
            max_duration_ms: self.max_duration.map(|most| u64::try_from(most.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Driver<'_> {
    /// Learns the limits.
    pub(crate) async fn read_bounds(&mut self, agent: Option<&Agent>) -> Result<(), End> {
        let of_agent = agent.map(|agent| agent.settings.limits).unwrap_or_default();
        let said = self.run.options.limits.narrowed(of_agent);
        self.bounds.of_run = said.or(self.parts.options.default_limits());
        let thread = self.parts.store.find_thread(&self.run.project_id, &self.run.thread_id).await?;
        self.bounds.of_thread = thread.map(|thread| thread.limits).unwrap_or_default();
        if !self.bounds.of_thread.is_empty() {
            self.bounds.others = self.parts.store.used_by_others(&self.run.thread_id, Some(&self.run.id)).await?;
        }
        Ok(())
    }

    /// Tells why the model may not be asked again, if it may not.
    pub(crate) async fn check_bounds(&self) -> Result<(), End> {
        if let Some((reached, whose)) = self.reached() {
            return Err(End::failed(reached.code(), reached.sentence(whose)));
        }
        // Read anew each time: what others spend meanwhile counts. So a run is above by one call at most, its own.
        let run = self.run;
        let key = run.options.key_id.as_ref();
        let budgets = self.parts.store.budgets_in_force(&run.project_id, run.agent_id.as_ref(), key).await?;
        match budget::exhausted(&budgets) {
            Some(exhausted) => Err(End::failed("budget", format!("{}.", exhausted.sentence()))),
            None => Ok(()),
        }
    }

    fn reached(&self) -> Option<(Reached, &'static str)> {
        let bounds = &self.bounds;
        let used = Used { spent: self.spent, turns: bounds.turns, worked: bounds.worked() };
        let of_thread = Used {
            spent: bounds.others.spent + used.spent,
            turns: bounds.others.turns.saturating_add(used.turns),
            worked: bounds.others.worked + used.worked,
        };
        let of_run = bounds.of_run.reached(&used).map(|reached| (reached, "run"));
        of_run.or_else(|| bounds.of_thread.reached(&of_thread).map(|reached| (reached, "thread")))
    }

    /// How long the run may go on; `None` is for ever.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let bounds = &self.bounds;
        let of_run = bounds.of_run.time_left(bounds.worked());
        let of_thread = bounds.of_thread.time_left(bounds.others.worked + bounds.worked());
        of_run.into_iter().chain(of_thread).min()
    }

    /// Says how a run ends whose time is over.
    pub(crate) fn timed_out(&self) -> (&'static str, String) {
        match self.reached() {
            Some((reached @ Reached::Duration(_), whose)) => (reached.code(), reached.sentence(whose)),
            // The clock that rang and the one read now differ by less than what either can tell.
            _ => ("timeout", "The run was stopped at its time limit.".into()),
        }
    }
}

/// Tells whether a failure's code is that of a limit.
pub(crate) fn is_limit(code: &str) -> bool {
    matches!(code, "budget" | "max_turns" | "max_tokens" | "timeout")
}
