//! A file that came with a message.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An attachment: what its sender said of it, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    pub filename: String,
    /// Relative to the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where it can be fetched, for one that is not in the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The reference as clients see it.
    pub reference: Map<String, Value>,
}
