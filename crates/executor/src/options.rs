//! The settings of the executor.

use std::time::Duration;

/// How runs are driven. [`Default`] gives what the default settings file says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs driven at once by this process.
    pub concurrent_runs: usize,
    /// How long a lease is valid without renewal; also how long a run of a crashed server stands still at most.
    pub lease: Duration,
    /// How often to look for work that nobody hinted at.
    pub poll: Duration,
    /// Model calls in one run before it is stopped as failed.
    pub max_turns: u32,
    /// The longest reply asked for, in tokens; lowered to what the model can give.
    pub max_tokens: u32,
    /// The model of threads whose agent names none.
    pub default_model: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent_runs: 256,
            lease: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            max_turns: 500,
            max_tokens: 32_000,
            default_model: "claude-sonnet-5-5".into(),
        }
    }
}
