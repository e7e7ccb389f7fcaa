//! The settings: what holds, and where each value comes from.
//!
//! Later sources win: `config/default.toml` (compiled in), a file, the environment, flags. The environment comes in as a
//! value and is never read elsewhere, so that a test can say what it is. A wrong setting is one sentence that names the
//! setting, its source and what is allowed.

mod load;
mod show;
mod units;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use self::units::Text;

pub(crate) use self::load::{Environment, Flags, Loaded, Wrong, absolute, database_options, is_public};
pub(crate) use self::units::{parse_duration, show_bytes};

/// All settings, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) database: Database,
    pub(crate) model: Model,
    pub(crate) sandbox: Sandbox,
    pub(crate) profiles: Profiles,
    pub(crate) history: History,
    pub(crate) git: Git,
    pub(crate) builds: Builds,
    pub(crate) mcp: Mcp,
    pub(crate) webhooks: Webhooks,
    pub(crate) search: Search,
    pub(crate) images: Images,
    pub(crate) runs: Runs,
    pub(crate) agents: Agents,
    pub(crate) research: Research,
    pub(crate) events: Events,
    pub(crate) limits: Limits,
    pub(crate) tiers: BTreeMap<String, Tier>,
    pub(crate) preview: Preview,
    pub(crate) log: Log,
    pub(crate) telemetry: Telemetry,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(deserialize_with = "units::address")]
    pub(crate) listen: SocketAddr,
    #[serde(deserialize_with = "units::path")]
    pub(crate) data_dir: PathBuf,
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) public_url: Option<Url>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) url: Option<SecretString>,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_connections: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) acquire_timeout: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    #[serde(deserialize_with = "units::url")]
    pub(crate) base_url: Url,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) api_key: Option<SecretString>,
    #[serde(deserialize_with = "units::auth")]
    pub(crate) auth: Option<claude::Auth>,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) version: Option<String>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) custom_headers: Option<SecretString>,
    pub(crate) default: Text,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) fallback: Option<String>,
    #[serde(deserialize_with = "units::optional_path")]
    pub(crate) catalogue: Option<PathBuf>,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_retries: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) max_retry_delay: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) silence_limit: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) connect_timeout: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sandbox {
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) docker_socket: Option<String>,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) runtime: Option<String>,
    pub(crate) image: Text,
    pub(crate) images: Vec<String>,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) installation: Option<String>,
    #[serde(deserialize_with = "units::optional_path")]
    pub(crate) guestd: Option<PathBuf>,
    #[serde(deserialize_with = "units::user")]
    pub(crate) user: Option<String>,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) idle_stop: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) disk_check: Duration,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) disk_reserve: u64,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) start_deadline: Duration,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) concurrent_starts: u32,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) warm: u32,
    #[serde(deserialize_with = "units::boolean")]
    pub(crate) allow_unfiltered_egress: bool,
    pub(crate) egress_allow: Vec<String>,
}

/// What computers of each size may use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    pub(crate) lite: Profile,
    pub(crate) standard: Profile,
    pub(crate) power: Profile,
    pub(crate) desktop: Profile,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) memory: u64,
    #[serde(deserialize_with = "units::cpus")]
    pub(crate) cpus: f64,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) pids: u32,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) disk: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) max_file: u64,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_files: u32,
    pub(crate) exclude: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Git {
    pub(crate) author_name: Text,
    pub(crate) author_email: Text,
    #[serde(deserialize_with = "units::url")]
    pub(crate) github_url: Url,
    #[serde(deserialize_with = "units::boolean")]
    pub(crate) allow_private_hosts: bool,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) transfer_timeout: Duration,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) max_output: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Builds {
    #[serde(deserialize_with = "units::positive")]
    pub(crate) concurrent: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) keep: Duration,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) network: Option<String>,
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) apt_mirror: Option<Url>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) pip_index: Option<SecretString>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) npm_registry: Option<SecretString>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) http_proxy: Option<SecretString>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) https_proxy: Option<SecretString>,
    #[serde(deserialize_with = "units::optional_text")]
    pub(crate) no_proxy: Option<String>,
    #[serde(deserialize_with = "units::optional_path")]
    pub(crate) ca_certificates: Option<PathBuf>,
    #[serde(deserialize_with = "units::boolean")]
    pub(crate) mise: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mcp {
    #[serde(deserialize_with = "units::duration")]
    pub(crate) connect_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) first_wait: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) max_age: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) call_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) max_call_time: Duration,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) max_message: u64,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_restarts: u32,
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhooks {
    #[serde(deserialize_with = "units::duration")]
    pub(crate) timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) first_pause: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) patience: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) keep: Duration,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) concurrent: u32,
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runs {
    #[serde(deserialize_with = "units::positive")]
    pub(crate) concurrent: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) lease: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) poll: Duration,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) concurrent_per_project: u32,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_queued: u32,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_turns: u32,
    #[serde(deserialize_with = "units::dollars")]
    pub(crate) max_cost: f64,
    #[serde(deserialize_with = "units::optional_duration")]
    pub(crate) max_duration: Option<Duration>,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_tokens: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) permission_expiry: Duration,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) compact_at: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) drain: Duration,
}

/// Which agents runs may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agents {
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_depth: u32,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_parallel: u32,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_calls: u32,
}

/// How much one session of deep research may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Research {
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_questions: u32,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_turns: u32,
    #[serde(deserialize_with = "units::dollars")]
    pub(crate) max_cost: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Events {
    #[serde(deserialize_with = "units::optional_duration")]
    pub(crate) retention: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(deserialize_with = "units::whole")]
    pub(crate) requests_per_window: u32,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) requests_per_project: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) window: Duration,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) failed_logins_per_minute: u32,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) events_per_minute: u32,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) max_body: u64,
    #[serde(deserialize_with = "units::bytes")]
    pub(crate) max_upload: u64,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_json_depth: u32,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_connections: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) header_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) write_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) body_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) upload_idle_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) heartbeat: Duration,
}

/// What projects of a tier have instead of what is general; see [`domain::tier`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tier {
    #[serde(default, deserialize_with = "units::optional_whole")]
    pub(crate) concurrent_runs: Option<u32>,
    #[serde(default, deserialize_with = "units::optional_whole")]
    pub(crate) requests_per_window: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preview {
    #[serde(deserialize_with = "units::optional_address")]
    pub(crate) listen: Option<SocketAddr>,
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) url: Option<Url>,
    #[serde(deserialize_with = "units::positive")]
    pub(crate) max_connections: u32,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) response_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) idle_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) default_expiry: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(crate) max_expiry: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    #[serde(deserialize_with = "units::log_level")]
    pub(crate) level: String,
    #[serde(deserialize_with = "units::log_format")]
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) otlp_endpoint: Option<Url>,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) otlp_headers: Option<SecretString>,
    #[serde(deserialize_with = "units::interval")]
    pub(crate) metrics_interval: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    #[serde(deserialize_with = "units::search_provider")]
    pub(crate) provider: SearchProvider,
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) searxng_url: Option<Url>,
    #[serde(deserialize_with = "units::url")]
    pub(crate) brave_url: Url,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) brave_key: Option<SecretString>,
    #[serde(deserialize_with = "units::url")]
    pub(crate) tavily_url: Url,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) tavily_key: Option<SecretString>,
    #[serde(deserialize_with = "units::whole")]
    pub(crate) max_uses: u32,
    #[serde(deserialize_with = "units::dollars")]
    pub(crate) price: f64,
    pub(crate) allowed_domains: Vec<String>,
    pub(crate) blocked_domains: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Images {
    #[serde(deserialize_with = "units::image_provider")]
    pub(crate) provider: ImageProvider,
    #[serde(deserialize_with = "units::url")]
    pub(crate) openai_url: Url,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) openai_key: Option<SecretString>,
    pub(crate) openai_model: Text,
    #[serde(deserialize_with = "units::url")]
    pub(crate) gemini_url: Url,
    #[serde(deserialize_with = "units::optional_secret")]
    pub(crate) gemini_key: Option<SecretString>,
    pub(crate) gemini_model: Text,
    #[serde(deserialize_with = "units::optional_url")]
    pub(crate) automatic1111_url: Option<Url>,
    #[serde(deserialize_with = "units::boolean")]
    pub(crate) changes: bool,
    #[serde(deserialize_with = "units::dollars")]
    pub(crate) price: f64,
}

/// Who makes pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageProvider {
    /// The first that is set up.
    Auto,
    OpenAi,
    Gemini,
    Automatic1111,
    None,
}

/// Who searches the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchProvider {
    /// The model's back end if it can, else the first engine that is set up.
    Auto,
    Claude,
    Searxng,
    Brave,
    Tavily,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[cfg(test)]
mod tests;
