//! What callers call a run, and keep on it. Nothing of it changes what the run does.

use serde_json::{Map, Value};

/// The label of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunLabel {
    pub name: Option<String>,
    /// What the caller calls its agent.
    pub agent_name: Option<String>,
    pub title: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    /// Labels that only the caller understands, by their names on the wire.
    pub stored: Map<String, Value>,
}
