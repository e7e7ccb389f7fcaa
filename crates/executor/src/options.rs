//! The settings of the executor.

use std::{sync::Arc, time::Duration};

use domain::{run::Run, tier::Tiers};

use crate::{mcp, tools, webhooks};

/// How runs are driven. [`Default`] gives what the default settings file says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs driven at once by this process.
    pub concurrent_runs: usize,
    /// How long a lease is valid without renewal; also how long a run of a crashed server stands still at most.
    pub lease: Duration,
    /// How often to look for work that nobody hinted at.
    pub poll: Duration,
    /// Runs of one project driven at once, by all processes together; 0 is no limit.
    pub concurrent_per_project: u32,
    /// What projects of a tier have instead.
    pub tiers: Arc<Tiers>,
    /// Model calls in one run before it is stopped, where neither agent nor message says another number.
    pub max_turns: u32,
    /// The same for what a run may cost; 0 is no limit.
    pub max_cost_usd: f64,
    /// The same for the time it may work.
    pub max_duration: Option<Duration>,
    /// The longest reply asked for, in tokens; lowered to what the model can give.
    pub max_tokens: u32,
    /// How much of the window, in percent of what a reply leaves of it, may be used before the conversation is compacted.
    pub compact_at_percent: u32,
    /// How long somebody has to allow a call before it is denied.
    pub permission_expiry: Duration,
    /// How git is used for the repositories of messages.
    pub git: Arc<sandbox::git::Options>,
    /// How MCP servers are used.
    pub mcp: mcp::Options,
    /// How the web is searched.
    pub search: SearchOptions,
    /// How others are told what happened.
    pub webhooks: webhooks::Options,
    /// Who makes pictures for runs with the skill for it.
    pub images: Option<tools::image::Images>,
    /// Which agents runs may call.
    pub agents: AgentOptions,
    /// How much deep research may take.
    pub research: ResearchOptions,
    /// Images built at once by this process.
    pub concurrent_builds: usize,
    /// How long building an image may take.
    pub build_timeout: Duration,
    /// The model of threads whose agent names none.
    pub default_model: String,
    /// The model that a run goes on with when its own cannot answer after all retries.
    pub fallback_model: Option<String>,
}

/// How many agents a run may call.
#[derive(Debug, Clone, Copy)]
pub struct AgentOptions {
    /// How deep agents may call agents: 1 where only the run of a message may, 0 where nobody may.
    pub max_depth: u32,
    /// Agents of one run that work at once.
    pub max_parallel: usize,
    /// Agents below the run of one message, in all.
    pub max_calls: u32,
}

impl AgentOptions {
    /// Tells whether a run may call agents.
    pub(crate) fn let_call(&self, run: &Run) -> bool {
        run.depth() < self.max_depth && run.options.research().is_none()
    }
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self { max_depth: 2, max_parallel: 4, max_calls: 50 }
    }
}

/// How much one session of deep research may take.
#[derive(Debug, Clone, Copy)]
pub struct ResearchOptions {
    /// What a question is divided into at most; so many agents read.
    pub max_questions: usize,
    /// Model calls of each of them.
    pub max_turns: u32,
    /// What plan and reading may cost; 0 is no limit. The report itself is written all the same.
    pub max_cost_usd: f64,
}

impl Default for ResearchOptions {
    fn default() -> Self {
        Self { max_questions: 5, max_turns: 15, max_cost_usd: 2.5 }
    }
}

/// How runs search the web that have the skill for it.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// The model's back end searches by itself, where the model can.
    pub uses_backend: bool,
    /// What that may look at.
    pub backend: claude::WebSearch,
    /// Searches where the back end does not.
    pub engine: Option<tools::web::search::Search>,
}

impl Options {
    /// Gives the number of tokens from which on a conversation with the model is compacted.
    pub fn compact_at(&self, model: &claude::Model) -> i64 {
        let reply = u64::from(self.max_tokens).min(model.max_output_tokens);
        // A small window must not be all reply.
        let room = model.context_tokens.saturating_sub(reply).max(model.context_tokens / 2);
        i64::try_from(room.saturating_mul(u64::from(self.compact_at_percent)) / 100).unwrap_or(i64::MAX)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent_runs: 256,
            lease: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            concurrent_per_project: 0,
            tiers: Arc::default(),
            max_turns: 500,
            max_cost_usd: 5.0,
            max_duration: Some(Duration::from_secs(6 * 60 * 60)),
            max_tokens: 32_000,
            compact_at_percent: 80,
            permission_expiry: Duration::from_secs(7 * 24 * 3600),
            git: Arc::default(),
            mcp: mcp::Options::default(),
            search: SearchOptions::default(),
            webhooks: webhooks::Options::default(),
            images: None,
            agents: AgentOptions::default(),
            research: ResearchOptions::default(),
            concurrent_builds: 2,
            build_timeout: Duration::from_secs(30 * 60),
            default_model: "claude-sonnet-5-5".into(),
            fallback_model: None,
        }
    }
}
