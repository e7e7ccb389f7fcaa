//! Money as whole millionths of a US dollar, so that ledgers add up exactly.

use std::{iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// An amount in micro-dollars (1 USD = 1,000,000). Never negative in our ledgers, but refunds may come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Gives the amount in dollars, for the wire, where money is a JSON number.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}
