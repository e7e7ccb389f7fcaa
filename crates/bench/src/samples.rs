//! Samples of one quantity.

use std::time::{Duration, Instant};

/// Durations or rates, in any order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a duration, in milliseconds.
    pub(crate) fn took(&mut self, duration: Duration) {
        self.push(duration.as_secs_f64() * 1000.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.share(0.5)
    }

    pub(crate) fn p95(&self) -> f64 {
        self.share(0.95)
    }

    /// The smallest value that this share of all values does not exceed; 0 without any.
    fn share(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Times `work` and gives what it gave.
pub(crate) async fn timed<T>(
    samples: &mut Samples,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let began_at = Instant::now();
    let done = work.await?;
    samples.took(began_at.elapsed());
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_values_that_were_measured() {
        let samples = Samples((1..=20).rev().map(f64::from).collect());
        assert_eq!((samples.median(), samples.p95(), samples.count()), (10.0, 19.0, 20));
        assert_eq!(Samples(vec![3.0]).p95(), 3.0);
        assert_eq!(Samples::default().median(), 0.0);
    }
}
