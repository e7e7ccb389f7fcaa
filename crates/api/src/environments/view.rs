//! An environment as clients see it: the union of what all of them read.

use std::collections::BTreeMap;

use domain::{
    build::Recipe,
    environment::{ComputeProfile, Environment, Packages},
};
use sandbox::Limits;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{builds, secrets::SecretView, servers};
use crate::timestamp::Timestamp;

/// Keys of `metadata` that tell of the environment itself; they are not stored there.
pub(super) const DERIVED_METADATA: [&str; 5] =
    ["computeProfile", "computeResources", "pricing", "guiEnabled", "officeAppsEnabled"];

/// An environment: the stored description of a computer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Environment)]
pub(crate) struct EnvironmentView {
    #[schema(example = "env_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    organization_id: Option<String>,
    created_by_user_id: Option<String>,
    project_id: String,
    #[schema(example = "web")]
    name: String,
    description: Option<String>,
    /// `running`, `building` or `stopped`. A stopped one starts by itself when it is needed.
    #[schema(example = "stopped")]
    status: &'static str,
    base_image: Option<String>,
    dockerfile_extensions: Option<String>,
    /// Language to version.
    #[schema(example = json!({"python": "3.11"}))]
    runtimes: BTreeMap<String, String>,
    packages: PackagesView,
    environment_variables: Vec<VariableView>,
    /// Names with masked values.
    secrets: Vec<SecretView>,
    setup_scripts: Vec<String>,
    #[schema(value_type = Vec<McpServer>)]
    mcp_servers: Vec<Value>,
    documentation: Vec<String>,
    internet_access: bool,
    #[schema(value_type = Option<ComputeProfileView>)]
    compute_profile: Option<ComputeProfile>,
    gui_enabled: bool,
    office_apps_enabled: bool,
    /// `pending` (nobody has asked for the image since the settings changed), `building`, `ready` or `failed`.
    #[schema(example = "ready")]
    build_status: &'static str,
    build_hash: Option<String>,
    build_error: Option<String>,
    /// Always null: `build/logs` gives them.
    build_logs: Option<String>,
    last_build_at: Option<Timestamp>,
    /// The image in use.
    image_tag: Option<String>,
    /// Your own keys, and what the computer is: `computeProfile`, `computeResources`, `guiEnabled`, `officeAppsEnabled`.
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    is_default: bool,
    is_active: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Packages by the tool that installs them.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Packages)]
pub(super) struct PackagesView {
    system: Vec<String>,
    python: Vec<String>,
    node: Vec<String>,
}

impl From<Packages> for PackagesView {
    fn from(packages: Packages) -> Self {
        Self { system: packages.system, python: packages.python, node: packages.node }
    }
}

/// An environment variable of everything that runs there.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Variable)]
pub(super) struct VariableView {
    #[schema(example = "FLASK_ENV")]
    key: String,
    value: String,
}

/// The size of a computer.
#[derive(ToSchema)]
#[schema(as = ComputeProfile, rename_all = "lowercase")]
#[allow(dead_code, reason = "describes the words of domain::environment::ComputeProfile")]
pub(super) enum ComputeProfileView {
    Lite,
    Standard,
    Power,
    Desktop,
}

/// An MCP server that agents working here can use.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"type": "http", "name": "docs", "url": "https://example.com/mcp"}))]
#[allow(dead_code, reason = "describes what is kept as it was sent, once checked")]
pub(crate) struct McpServer {
    /// `stdio`, `http` or `sse`; told from `url` if absent.
    #[schema(rename = "type")]
    kind: Option<String>,
    name: String,
    /// For `stdio`: the program, run inside the environment's container.
    command: Option<String>,
    args: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    env: Option<Value>,
    /// For `http` and `sse`. Here and in all texts below, `${NAME}` and `${NAME:-default}` stand for the run's variables.
    url: Option<String>,
    /// Shown as `********`, as are the values of `env` and `headers`; a mask that is sent keeps the value that is there.
    bearer_token: Option<String>,
    /// For `http` and `sse` that want OAuth: the client that is registered there. Without, one is registered by itself.
    client_id: Option<String>,
    /// Shown as `********`.
    client_secret: Option<String>,
    /// For `http` and `sse`: sent with each request.
    #[schema(value_type = Option<Object>)]
    headers: Option<Value>,
    /// How long a call may go on in silence, in milliseconds.
    timeout: Option<u64>,
    /// True if absent.
    enabled: Option<bool>,
}

impl EnvironmentView {
    /// Makes the view; `limits` are those of its profile.
    pub(super) fn new(environment: Environment, recipe: &Recipe, is_running: bool, limits: Limits) -> Self {
        let is_trivial = recipe.is_trivial();
        let latest = environment.build.latest.filter(|_| !is_trivial);
        let build_status = if is_trivial { "ready" } else { builds::word(latest.as_ref()) };
        let settings = environment.settings;
        let profile = settings.compute_profile.unwrap_or(ComputeProfile::Standard);
        let mut metadata = settings.metadata.unwrap_or_default();
        metadata.insert("computeProfile".into(), json!(profile));
        let resources = json!({"cpuCores": limits.cpus, "memoryMb": limits.memory_bytes / (1024 * 1024)});
        metadata.insert("computeResources".into(), resources);
        metadata.insert("guiEnabled".into(), json!(settings.gui_enabled));
        metadata.insert("officeAppsEnabled".into(), json!(settings.office_apps_enabled));
        let variables = settings.environment_variables.into_iter();
        Self {
            id: environment.id.into(),
            user_id: environment.project_id.to_string(),
            organization_id: None,
            created_by_user_id: None,
            project_id: environment.project_id.into(),
            name: environment.name,
            description: settings.description,
            status: match build_status {
                _ if is_running => "running",
                "building" => "building",
                _ => "stopped",
            },
            base_image: settings.base_image,
            dockerfile_extensions: settings.dockerfile_extensions,
            runtimes: settings.runtimes,
            packages: settings.packages.into(),
            environment_variables: variables
                .map(|variable| VariableView { key: variable.key, value: variable.value })
                .collect(),
            secrets: environment.secret_keys.into_iter().map(SecretView::from).collect(),
            setup_scripts: settings.setup_scripts,
            mcp_servers: settings.mcp_servers.into_iter().map(servers::mask).collect(),
            documentation: settings.documentation,
            internet_access: settings.internet_access,
            compute_profile: settings.compute_profile,
            gui_enabled: settings.gui_enabled,
            office_apps_enabled: settings.office_apps_enabled,
            build_status,
            build_hash: latest.as_ref().map(|build| build.hash.clone()),
            last_build_at: latest.as_ref().and_then(|build| build.completed_at).map(Into::into),
            build_error: latest.and_then(|build| build.error),
            build_logs: None,
            image_tag: if is_trivial { Some(recipe.base.clone()) } else { environment.build.image },
            metadata,
            is_default: environment.is_default,
            is_active: environment.is_active,
            created_at: environment.created_at.into(),
            updated_at: environment.updated_at.into(),
        }
    }
}

/// `{environment}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnvironmentEnvelope {
    pub environment: EnvironmentView,
}

/// An environment, flat and under `environment`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefaultEnvironment {
    #[serde(flatten)]
    flat: EnvironmentView,
    environment: EnvironmentView,
}

impl From<EnvironmentView> for DefaultEnvironment {
    fn from(view: EnvironmentView) -> Self {
        Self { flat: view.clone(), environment: view }
    }
}
