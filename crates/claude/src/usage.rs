//! How many tokens a reply took, folded from the partial counts a stream sends.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Tokens and server tool calls of one reply, or the sum of several.
///
/// The prompt is `input + cache_read + cache_creation`: `input_tokens` counts only what follows the last cache hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub input_tokens: u64,
    /// Includes thinking, as it was generated rather than as it is shown.
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_5m_input_tokens: u64,
    pub cache_creation_1h_input_tokens: u64,
    /// Part of `output_tokens`.
    pub thinking_tokens: u64,
    pub web_search_requests: u64,
    pub web_fetch_requests: u64,
    /// What the server did within one reply, where it tells; bill these instead of the totals (see [`Usage::parts`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iterations: Vec<Iteration>,
}

/// One model call the server made within a reply: a compaction, a fallback, an advisor's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Iteration {
    /// `message`, `compaction`, `fallback_message`, `advisor_message`.
    pub kind: String,
    /// Where another model than the reply's did it.
    pub model: Option<String>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_5m_input_tokens: u64,
    pub cache_creation_1h_input_tokens: u64,
}

impl Usage {
    /// All tokens the model read, cached or not. With `output_tokens` it is how full the window is.
    pub fn prompt_tokens(&self) -> u64 {
        self.input_tokens
            + self.cache_read_input_tokens
            + self.cache_creation_5m_input_tokens
            + self.cache_creation_1h_input_tokens
    }

    /// What is billed: the iterations where the server lists them (their sum may exceed the totals, which leave
    /// compactions out), else the totals as one iteration.
    pub fn parts(&self) -> Vec<Iteration> {
        if !self.iterations.is_empty() {
            return self.iterations.clone();
        }
        vec![Iteration {
            kind: "message".into(),
            model: None,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_input_tokens: self.cache_read_input_tokens,
            cache_creation_5m_input_tokens: self.cache_creation_5m_input_tokens,
            cache_creation_1h_input_tokens: self.cache_creation_1h_input_tokens,
        }]
    }
}

impl AddAssign<&Usage> for Usage {
    /// Adds the totals. Iterations are dropped: they belong to one reply and are billed there.
    fn add_assign(&mut self, other: &Usage) {
        self.iterations.clear();
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_input_tokens += other.cache_read_input_tokens;
        self.cache_creation_5m_input_tokens += other.cache_creation_5m_input_tokens;
        self.cache_creation_1h_input_tokens += other.cache_creation_1h_input_tokens;
        self.thinking_tokens += other.thinking_tokens;
        self.web_search_requests += other.web_search_requests;
        self.web_fetch_requests += other.web_fetch_requests;
    }
}

/// Usage as it travels: every field may be missing or null, and then the earlier value stands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<WireCreation>,
    output_tokens_details: Option<WireOutput>,
    server_tool_use: Option<WireServerTools>,
    iterations: Option<Vec<WireIteration>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireOutput {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireServerTools {
    web_search_requests: Option<u64>,
    web_fetch_requests: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WireIteration {
    r#type: Option<String>,
    model: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<WireCreation>,
}

impl WireUsage {
    /// Counts are cumulative: what is present replaces what `usage` holds.
    pub(crate) fn apply(self, usage: &mut Usage) {
        fn replace(target: &mut u64, value: Option<u64>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        replace(&mut usage.input_tokens, self.input_tokens);
        replace(&mut usage.output_tokens, self.output_tokens);
        replace(&mut usage.cache_read_input_tokens, self.cache_read_input_tokens);
        if let Some((five, hour)) = creation(self.cache_creation_input_tokens, self.cache_creation.as_ref(), usage) {
            usage.cache_creation_5m_input_tokens = five;
            usage.cache_creation_1h_input_tokens = hour;
        }
        if let Some(details) = self.output_tokens_details {
            replace(&mut usage.thinking_tokens, details.thinking_tokens);
        }
        if let Some(tools) = self.server_tool_use {
            replace(&mut usage.web_search_requests, tools.web_search_requests);
            replace(&mut usage.web_fetch_requests, tools.web_fetch_requests);
        }
        if let Some(iterations) = self.iterations {
            usage.iterations = iterations.into_iter().map(Iteration::from).collect();
        }
    }
}

impl From<WireIteration> for Iteration {
    fn from(wire: WireIteration) -> Self {
        let (five, hour) = creation(wire.cache_creation_input_tokens, wire.cache_creation.as_ref(), &Usage::default())
            .unwrap_or((0, 0));
        Self {
            kind: wire.r#type.unwrap_or_default(),
            model: wire.model,
            input_tokens: wire.input_tokens.unwrap_or(0),
            output_tokens: wire.output_tokens.unwrap_or(0),
            cache_read_input_tokens: wire.cache_read_input_tokens.unwrap_or(0),
            cache_creation_5m_input_tokens: five,
            cache_creation_1h_input_tokens: hour,
        }
    }
}

/// Cache writes by lifetime. A total without a breakdown (or beyond it) counts as five minutes, the default lifetime,
/// except that a total which repeats what is already known changes nothing.
fn creation(total: Option<u64>, split: Option<&WireCreation>, known: &Usage) -> Option<(u64, u64)> {
    match (total, split) {
        (None, None) => None,
        (Some(total), None) => {
            let hour = known.cache_creation_1h_input_tokens.min(total);
            Some((total - hour, hour))
        }
        (total, Some(split)) => {
            let hour = split.ephemeral_1h_input_tokens.unwrap_or(0);
            let five = split.ephemeral_5m_input_tokens.unwrap_or(0);
            Some((five.max(total.unwrap_or(0).saturating_sub(hour)), hour))
        }
    }
}
