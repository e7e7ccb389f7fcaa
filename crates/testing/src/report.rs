//! What a test counted that tries something many times: one line of JSON, the same for all of them.
//!
//! A figure says more than a test that passes: how often it was tried, and how long the slowest took.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;

/// Counts and times of one test. It passes where nothing was lost, doubled or stuck.
#[derive(Debug)]
pub struct Report {
    test: &'static str,
    /// How often it was tried.
    pub n: usize,
    /// What should be there and is not.
    pub lost: usize,
    /// What is there more than once.
    pub doubled: usize,
    /// What did not come to its end in time.
    pub stuck: usize,
    samples_ms: Vec<u64>,
}

impl Report {
    pub fn new(test: &'static str) -> Self {
        Self { test, n: 0, lost: 0, doubled: 0, stuck: 0, samples_ms: Vec::new() }
    }

    /// Notes how long one try took.
    pub fn sample(&mut self, took: Duration) {
        self.samples_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Gives the time that this share of the tries (in percent) stayed within; 0 where none was measured.
    pub fn percentile_ms(&self, percent: usize) -> u64 {
        let mut sorted = self.samples_ms.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(0)
    }

    /// Prints the line, also to the end of the file that `ATELIER_TEST_REPORT` names, and asserts that all is well.
    ///
    /// # Panics
    /// When something was lost, doubled or stuck, or nothing was tried at all.
    pub fn finish(&self) {
        let pass = self.n > 0 && self.lost + self.doubled + self.stuck == 0;
        let line = json!({
            "test": self.test, "n": self.n, "lost": self.lost, "doubled": self.doubled, "stuck": self.stuck,
            "p50": self.percentile_ms(50), "p95": self.percentile_ms(95), "p99": self.percentile_ms(99), "pass": pass,
        });
        println!("{line}");
        if let Some(path) = std::env::var_os("ATELIER_TEST_REPORT").filter(|path| !path.is_empty()) {
            let file = File::options().create(true).append(true).open(&path);
            let written = file.and_then(|mut file| writeln!(file, "{line}"));
            written.unwrap_or_else(|err| panic!("cannot write {}: {err}", path.display()));
        }
        assert!(pass, "{line}");
    }
}

/// How often to try: what the variable says, or the number that fits into the time of a usual test run.
pub fn times(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => usual,
    }
}

/// Counts tries down. In a usual test run a slow machine tries less often than a fast one, but never less than five times;
/// where the variable is set, it is tried so often however long that takes.
#[derive(Debug)]
pub struct Tries {
    wanted: usize,
    made: usize,
    until: Option<Instant>,
}

/// What one test may take of a usual test run.
const USUAL_TIME: Duration = Duration::from_secs(60);
const FEWEST: usize = 5;

impl Tries {
    pub fn new(variable: &str, usual: usize) -> Self {
        let until = std::env::var_os(variable).is_none().then(|| Instant::now() + USUAL_TIME);
        Self { wanted: times(variable, usual), made: 0, until }
    }

    /// Tells whether to try once more, and counts that.
    pub fn once_more(&mut self) -> bool {
        let has_time = self.made < FEWEST || self.until.is_none_or(|until| Instant::now() < until);
        let goes_on = self.made < self.wanted && has_time;
        self.made += usize::from(goes_on);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_end_with_their_number_or_their_time() {
        let count = |mut tries: Tries| std::iter::repeat_with(|| tries.once_more()).take_while(|more| *more).count();
        assert_eq!(count(Tries { wanted: 9, made: 0, until: None }), 9);
        assert_eq!(count(Tries { wanted: 9, made: 0, until: Some(Instant::now()) }), FEWEST);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut report = Report::new("test");
        assert_eq!(report.percentile_ms(99), 0);
        (1..=200).rev().for_each(|ms| report.sample(Duration::from_millis(ms)));
        assert_eq!([50, 95, 99, 100].map(|percent| report.percentile_ms(percent)), [100, 190, 198, 200]);
    }
}
