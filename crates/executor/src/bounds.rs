//! The budget guard: what a run may use, looked at before each model call, and a clock for its time.
//!
//! The narrowest of what message and agent say holds for the run, or the server's default where neither says anything;
//! what the thread says holds for all its runs together. Agents that a run has called count with it (`agents::Tree`). What
//! was used survives a crash, since it is in the runs' rows. Besides, budgets hold for all that a project, a key or an
//! agent does together.

use std::{sync::Arc, time::Duration};

use domain::{
    MicroUsd,
    agent::Agent,
    budget,
    limits::{Limits, Reached, Used},
    run::Spent,
};
use tokio::time::Instant;

use crate::{Options, agents::Tree, drive::Driver, error::End};

/// A run's limits, and what had been used when it was taken up.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// What an agent that was called may use by itself. The run at the top has the tree's limits only.
    own: Limits,
    pub tree: Arc<Tree>,
    is_root: bool,
    /// Model calls of this run.
    pub turns: u32,
    worked: Duration,
    taken_up_at: Instant,
}

impl Bounds {
    /// Without limits, unless those of the runs above; the clock runs.
    pub(crate) fn new(run: &domain::run::Run, tree: Option<Arc<Tree>>) -> Self {
        Self {
            own: Limits::default(),
            is_root: tree.is_none(),
            tree: tree.unwrap_or_default(),
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
        let (store, run) = (&self.parts.store, self.run);
        let of_agent = agent.map(|agent| agent.settings.limits).unwrap_or_default();
        let said = run.options.limits.narrowed(of_agent);
        if !self.bounds.is_root {
            self.bounds.own = said;
            return Ok(());
        }
        let of_run = said.or(self.parts.options.default_limits());
        let thread = store.find_thread(&run.project_id, &run.thread_id).await?;
        let of_thread = thread.map(|thread| thread.limits).unwrap_or_default();
        let others = match of_thread.is_empty() {
            true => Used::default(),
            false => store.used_by_others(&run.thread_id, Some(&run.id)).await?,
        };
        // A first attempt finds no agents.
        let (called, below) = match run.attempt {
            ..=1 => (0, Used::default()),
            _ => store.used_by_subagents(&run.id).await?,
        };
        let turns = self.bounds.turns.saturating_add(below.turns);
        let used = Used { spent: self.spent + below.spent, turns, worked: Duration::ZERO };
        self.bounds.tree = Arc::new(Tree::new(of_run, of_thread, others, used, called));
        Ok(())
    }

    /// Counts what was spent, for the run and for all above it.
    pub(crate) fn spend(&mut self, spent: Spent) {
        self.spent += spent;
        self.bounds.tree.spend(spent);
    }

    /// The same of a model call.
    pub(crate) fn count_turn(&mut self) {
        self.bounds.turns += 1;
        self.bounds.tree.count_turn();
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
        let own = bounds.own.reached(&used).map(|reached| (reached, "agent"));
        // The clock of the run at the top rings for all.
        let worked = if bounds.is_root { used.worked } else { Duration::ZERO };
        own.or_else(|| bounds.tree.reached(worked))
    }

    /// How long the run may go on; `None` is for ever.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let bounds = &self.bounds;
        match bounds.is_root {
            true => bounds.tree.time_left(bounds.worked()),
            false => bounds.own.time_left(bounds.worked()),
        }
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
