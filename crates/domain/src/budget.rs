//! Budgets: what a project, a key or an agent may spend, by the day, by the month and in all.
//!
//! They are hard: a model is asked only while something is left of each that holds. A call's cost is known when it is over, so
//! every run under way may be above by the one call that was on its way.

use crate::{MicroUsd, word::words};

words! {
    /// Who spends.
    Subject {
        Project = "project",
        Key = "key",
        Agent = "agent",
    }
}

words! {
    /// The time in which something is spent. Days and months are those of UTC.
    Period {
        Day = "day",
        Month = "month",
        /// Ever; of a project with what was added to it.
        Total = "total",
    }
}

/// What may be spent, and what was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub subject: Subject,
    /// The key's or the agent's; empty for a project.
    pub subject_id: String,
    pub period: Period,
    /// What was set, and for a project in all what was added.
    pub limit: MicroUsd,
    pub spent: MicroUsd,
}

impl Budget {
    /// What is left; nothing where more was spent.
    pub fn remaining(&self) -> MicroUsd {
        MicroUsd(self.limit.0.saturating_sub(self.spent.0).max(0))
    }

    /// Tells whether no model call may begin.
    pub fn is_exhausted(&self) -> bool {
        self.spent >= self.limit
    }

    /// Says that it is used up.
    pub fn sentence(&self) -> String {
        let of = match self.subject {
            Subject::Project => "project",
            Subject::Key => "API key",
            Subject::Agent => "agent",
        };
        let period = match self.period {
            Period::Day => " for today",
            Period::Month => " for this month",
            Period::Total => "",
        };
        format!(
            "The budget of the {of}{period} is used up: {} of {} US dollars",
            self.spent.as_usd(),
            self.limit.as_usd()
        )
    }
}

/// Finds the first that is used up.
pub fn exhausted(budgets: &[Budget]) -> Option<&Budget> {
    budgets.iter().find(|budget| budget.is_exhausted())
}

/// A budget as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    pub subject: Subject,
    pub subject_id: String,
    pub period: Period,
    /// `None`: no limit any more.
    pub limit: Option<MicroUsd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: i64, spent: i64) -> Budget {
        let (limit, spent) = (MicroUsd(limit), MicroUsd(spent));
        Budget { subject: Subject::Key, subject_id: "key_1".into(), period: Period::Day, limit, spent }
    }

    #[test]
    fn a_budget_is_used_up_when_nothing_is_left_of_it() {
        for (limit, spent, left, is_exhausted) in [
            (10, 9, 1, false),
            (10, 10, 0, true),
            (10, 11, 0, true),
            (0, 0, 0, true),
            (i64::MAX, 1, i64::MAX - 1, false),
        ] {
            let budget = budget(limit, spent);
            assert_eq!((budget.remaining().0, budget.is_exhausted()), (left, is_exhausted), "{budget:?}");
        }
        let budgets = [budget(10, 9), budget(5, 6)];
        let found = exhausted(&budgets).expect("one is used up");
        let said = "The budget of the API key for today is used up: 0.000006 of 0.000005 US dollars";
        assert_eq!(found.sentence(), said);
    }
}
