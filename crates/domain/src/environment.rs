//! An environment: the stored description of a computer. Its running container is a sandbox, its files a workspace.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{EnvironmentId, ProjectId, build::EnvironmentBuild};

/// An environment as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub id: EnvironmentId,
    pub project_id: ProjectId,
    pub name: String,
    pub settings: EnvironmentSettings,
    /// Names of the secrets it has. Their values are sealed and read only where a tool needs them.
    pub secret_keys: Vec<String>,
    pub is_default: bool,
    pub is_active: bool,
    pub build: EnvironmentBuild,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Everything about an environment that no query asks for; one JSON document in the database.
///
/// Fields may be added (with a default), never renamed: old documents must stay readable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentSettings {
    pub description: Option<String>,
    pub base_image: Option<String>,
    pub dockerfile_extensions: Option<String>,
    /// Language to version, for example `python` to `3.11`.
    pub runtimes: BTreeMap<String, String>,
    pub packages: Packages,
    pub environment_variables: Vec<Variable>,
    pub setup_scripts: Vec<String>,
    /// MCP servers by the wire's shape; checked when the environment is written.
    pub mcp_servers: Vec<Value>,
    /// Texts that reach the system prompt of every run here.
    pub documentation: Vec<String>,
    pub internet_access: bool,
    pub compute_profile: Option<ComputeProfile>,
    pub gui_enabled: bool,
    pub office_apps_enabled: bool,
    pub metadata: Option<Map<String, Value>>,
}

impl EnvironmentSettings {
    /// Gives the variables of every command, by name.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.environment_variables.iter().map(|variable| (variable.key.clone(), variable.value.clone()))
    }

    /// Tells whether an image made from these settings would be another than one made from `other`.
    pub fn wants_another_image(&self, other: &Self) -> bool {
        self.base_image != other.base_image
            || self.dockerfile_extensions != other.dockerfile_extensions
            || self.runtimes != other.runtimes
            || self.packages != other.packages
            || self.setup_scripts != other.setup_scripts
    }
}

impl Default for EnvironmentSettings {
    fn default() -> Self {
        Self {
            description: None,
            base_image: None,
            dockerfile_extensions: None,
            runtimes: BTreeMap::new(),
            packages: Packages::default(),
            environment_variables: Vec::new(),
            setup_scripts: Vec::new(),
            mcp_servers: Vec::new(),
            documentation: Vec::new(),
            // The hosted platform's default; a computer without a network is the exception one asks for.
            internet_access: true,
            compute_profile: None,
            gui_enabled: false,
            office_apps_enabled: false,
            metadata: None,
        }
    }
}

/// Packages by the tool that installs them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Packages {
    pub system: Vec<String>,
    pub python: Vec<String>,
    pub node: Vec<String>,
}

/// An environment variable of the tools' processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub key: String,
    pub value: String,
}

/// The size of a computer, in the words of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeProfile {
    Lite,
    Standard,
    Power,
    Desktop,
}

/// Tells whether `key` can name an environment variable: letters, digits and `_`, not starting with a digit.
pub fn is_variable_name(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && key.len() <= 255
}
