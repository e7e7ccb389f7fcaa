//! What a run and all agents below it share: one budget, and how many of them there may be.
//!
//! All of them are driven by the process that holds the lease of the run at the top, so the sum is kept in memory; what
//! holds after a crash is in their rows. Each branch looks before each of its calls to the model, so that together they go
//! beyond a limit by at most one call a branch.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    limits::{Limits, Reached, Used},
    run::Spent,
};

/// The limits of a tree of runs, and what it has used.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// What this one is a part of: all that is used here counts there too.
    above: Option<Part>,
    of_run: Limits,
    of_thread: Limits,
    /// What the thread's other runs have used.
    others: Used,
    state: Mutex<State>,
}

/// A tree that is a part of another, with limits of its own.
#[derive(Debug)]
struct Part {
    of: Arc<Tree>,
    /// Whose limits they are, in a word.
    name: &'static str,
}

#[derive(Debug, Default)]
struct State {
    /// Of all runs of the tree, without their time.
    used: Used,
    /// Agents that were called.
    called: u32,
}

impl Tree {
    pub(crate) fn new(of_run: Limits, of_thread: Limits, others: Used, used: Used, called: u32) -> Self {
        Self { above: None, of_run, of_thread, others, state: Mutex::new(State { used, called }) }
    }

    /// Makes a part of a tree that has limits of its own, and has used so much before. The time is left to the whole.
    pub(crate) fn within(of: Arc<Self>, limits: Limits, name: &'static str, used: Used) -> Self {
        Self {
            above: Some(Part { of, name }),
            of_run: limits,
            state: Mutex::new(State { used, called: 0 }),
            ..Self::default()
        }
    }

    pub(crate) fn spend(&self, spent: Spent) {
        self.state().used.spent += spent;
        if let Some(above) = &self.above {
            above.of.spend(spent);
        }
    }

    pub(crate) fn count_turn(&self) {
        self.state().used.turns += 1;
        if let Some(above) = &self.above {
            above.of.count_turn();
        }
    }

    /// Counts a call of an agent, unless there were `most` already.
    pub(crate) fn count_call(&self, most: u32) -> bool {
        if let Some(above) = &self.above {
            return above.of.count_call(most);
        }
        let mut state = self.state();
        let is_free = state.called < most;
        state.called += u32::from(is_free);
        is_free
    }

    /// Finds a limit that leaves no room for another model call, and whose it is. `worked` is the time of the run at the
    /// top, whose clock rings for all.
    pub(crate) fn reached(&self, worked: Duration) -> Option<(Reached, &'static str)> {
        let used = Used { worked, ..self.state().used };
        let of_thread = Used {
            spent: self.others.spent + used.spent,
            turns: self.others.turns.saturating_add(used.turns),
            worked: self.others.worked + worked,
        };
        let name = self.above.as_ref().map_or("run", |above| above.name);
        let own = self.of_run.reached(&used).map(|reached| (reached, name));
        if let Some(above) = &self.above {
            return own.or_else(|| above.of.reached(worked));
        }
        own.or_else(|| self.of_thread.reached(&of_thread).map(|reached| (reached, "thread")))
    }

    /// What is left of the time; `None` is for ever.
    pub(crate) fn time_left(&self, worked: Duration) -> Option<Duration> {
        if let Some(above) = &self.above {
            return above.of.time_left(worked);
        }
        let of_run = self.of_run.time_left(worked);
        let of_thread = self.of_thread.time_left(self.others.worked + worked);
        of_run.into_iter().chain(of_thread).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_branches_count_against_one_limit() {
        let limits = Limits { max_turns: Some(3), ..Limits::default() };
        let of_thread = Limits { max_turns: Some(4), ..Limits::default() };
        let others = Used { turns: 2, ..Used::default() };
        let tree = Tree::new(limits, Limits::default(), others, Used::default(), 0);
        tree.count_turn();
        tree.count_turn();
        assert_eq!(tree.reached(Duration::ZERO), None);
        tree.count_turn();
        assert_eq!(tree.reached(Duration::ZERO), Some((Reached::Turns(3), "run")));
        let tree = Tree::new(Limits::default(), of_thread, others, Used { turns: 2, ..Used::default() }, 0);
        assert_eq!(tree.reached(Duration::ZERO), Some((Reached::Turns(4), "thread")));
    }

    #[test]
    fn what_a_part_uses_counts_for_the_whole() {
        let whole = Arc::new(Tree::new(
            Limits { max_turns: Some(3), ..Limits::default() },
            Limits::default(),
            Used::default(),
            Used::default(),
            0,
        ));
        let limits = Limits { max_turns: Some(2), ..Limits::default() };
        let part = Tree::within(whole.clone(), limits, "research", Used { turns: 1, ..Used::default() });
        part.count_turn();
        assert_eq!(part.reached(Duration::ZERO), Some((Reached::Turns(2), "research")));
        assert_eq!(whole.reached(Duration::ZERO), None);
        whole.count_turn();
        let other = Tree::within(whole.clone(), Limits::default(), "research", Used::default());
        other.count_turn();
        assert_eq!(other.reached(Duration::ZERO), Some((Reached::Turns(3), "run")));
    }

    #[test]
    fn no_more_agents_are_called_than_there_may_be() {
        let tree = Tree::new(Limits::default(), Limits::default(), Used::default(), Used::default(), 1);
        assert_eq!([tree.count_call(3), tree.count_call(3), tree.count_call(3)], [true, true, false]);
    }
}
