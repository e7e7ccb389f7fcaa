//! What a run may use before it is stopped. An agent, a thread and a message may carry limits, and the narrowest holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{MicroUsd, run::Spent};

/// Caps; `None` is no cap. A cap is checked before each model call, so the call that crosses it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub max_cost: Option<MicroUsd>,
    /// Model calls.
    pub max_turns: Option<u32>,
    /// Tokens of prompts, cached or not, and of replies.
    pub max_tokens: Option<i64>,
    /// Time that is worked. Waiting for a person does not count.
    pub max_duration_ms: Option<u64>,
}

/// What limits are compared with: of one run, or of all runs of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    pub spent: Spent,
    pub turns: u32,
    pub worked: Duration,
}

/// A cap that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    Cost(MicroUsd),
    Turns(u32),
    Tokens(i64),
    Duration(Duration),
}

impl Limits {
    /// Tells whether there is no cap at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The narrower of each two caps.
    pub fn narrowed(self, other: Self) -> Self {
        Self {
            max_cost: narrower(self.max_cost, other.max_cost),
            max_turns: narrower(self.max_turns, other.max_turns),
            max_tokens: narrower(self.max_tokens, other.max_tokens),
            max_duration_ms: narrower(self.max_duration_ms, other.max_duration_ms),
        }
    }

    /// These caps, and those of `defaults` where there is none.
    pub fn or(self, defaults: Self) -> Self {
        Self {
            max_cost: self.max_cost.or(defaults.max_cost),
            max_turns: self.max_turns.or(defaults.max_turns),
            max_tokens: self.max_tokens.or(defaults.max_tokens),
            max_duration_ms: self.max_duration_ms.or(defaults.max_duration_ms),
        }
    }

    /// What is left of the time.
    pub fn time_left(&self, worked: Duration) -> Option<Duration> {
        self.max_duration_ms.map(|most| Duration::from_millis(most).saturating_sub(worked))
    }

    /// Finds a cap that leaves no room for another model call.
    pub fn reached(&self, used: &Used) -> Option<Reached> {
        let Self { max_cost, max_turns, max_tokens, max_duration_ms } = *self;
        let cost = max_cost.filter(|most| used.spent.cost >= *most).map(Reached::Cost);
        let turns = || max_turns.filter(|most| used.turns >= *most).map(Reached::Turns);
        let tokens = || max_tokens.filter(|most| used.spent.total_tokens() >= *most).map(Reached::Tokens);
        let duration =
            || max_duration_ms.map(Duration::from_millis).filter(|most| used.worked >= *most).map(Reached::Duration);
        cost.or_else(turns).or_else(tokens).or_else(duration)
    }
}

fn narrower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Reached {
    /// Gives the stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Cost(_) => "budget",
            Self::Turns(_) => "max_turns",
            Self::Tokens(_) => "max_tokens",
            Self::Duration(_) => "timeout",
        }
    }

    /// Says it as a sentence about `whose` limit, for example `run`.
    pub fn sentence(self, whose: &str) -> String {
        match self {
            Self::Cost(most) => format!("The {whose} was stopped at its budget of {} US dollars.", most.as_usd()),
            Self::Turns(most) => format!("The {whose} was stopped after {most} model calls."),
            Self::Tokens(most) => format!("The {whose} was stopped at its limit of {most} tokens."),
            Self::Duration(most) => {
                format!("The {whose} was stopped at its time limit of {} seconds.", most.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cost: i64, turns: u32) -> Used {
        Used { spent: Spent { cost: MicroUsd(cost), ..Spent::default() }, turns, worked: Duration::from_secs(1) }
    }

    #[test]
    fn a_limit_is_reached_when_nothing_is_left_of_it() {
        let limits = Limits { max_cost: Some(MicroUsd(10)), max_turns: Some(3), ..Limits::default() };
        assert_eq!(limits.reached(&used(9, 2)), None);
        assert_eq!(limits.reached(&used(10, 2)), Some(Reached::Cost(MicroUsd(10))));
        assert_eq!(limits.reached(&used(9, 3)), Some(Reached::Turns(3)));
        assert_eq!(Limits::default().reached(&used(i64::MAX, u32::MAX)), None);
        let limits = Limits { max_duration_ms: Some(1000), ..Limits::default() };
        assert_eq!(limits.reached(&used(0, 0)), Some(Reached::Duration(Duration::from_secs(1))));
    }

    #[test]
    fn the_narrower_of_two_limits_holds() {
        let agent = Limits { max_turns: Some(5), max_tokens: Some(7), ..Limits::default() };
        let message = Limits { max_turns: Some(9), ..Limits::default() };
        let narrowed = agent.narrowed(message);
        assert_eq!((narrowed.max_turns, narrowed.max_tokens, narrowed.max_cost), (Some(5), Some(7), None));
    }
}
