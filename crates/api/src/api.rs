//! What every handler is given: the parts of the server it may use, and the settings.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use axum::extract::FromRef;
use domain::tier::Tiers;
use ledger::Ledger;
use preview::Site;
use sandbox::Sandboxes;
use store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    MakeTitle, Models, SignIns, WhyUnavailable,
    files::thumbnail,
    system::{Checked, Counted},
    uses::Uses,
};

/// The state of the API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub sandboxes: Sandboxes,
    /// Who changed what. The executor of the same process must have this one.
    pub ledger: Ledger,
    pub settings: Arc<Settings>,
    /// What `GET /agents/models` offers; replaced as a whole when the server has read a new catalogue.
    pub models: Arc<RwLock<Models>>,
    /// Cancelled when the server begins to stop: streams end, nothing new is begun.
    pub stopping: CancellationToken,
    /// When the server started, for `uptime`.
    pub started: Instant,
    /// Renders the process's metrics as Prometheus text.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Asks a model for a thread's title. `None`, as it is at first: titles are made from the text.
    pub make_title: Option<MakeTitle>,
    /// Says why a built-in skill cannot be used with a model here. `None`, as it is at first: all can.
    pub why_unavailable: Option<WhyUnavailable>,
    /// Signs in to MCP servers. `None`, as it is at first: nobody can.
    pub sign_ins: Option<SignIns>,
    /// Images that may be decoded at once.
    pub(crate) thumbnails: Arc<Semaphore>,
    pub(crate) checked: Checked,
    pub(crate) counted: Counted,
    /// How much each key was used, until it is written down.
    pub(crate) uses: Uses,
}

impl Api {
    /// Puts the parts together. `render_metrics` gives the process's own metrics as Prometheus text.
    pub fn new(
        store: Store,
        sandboxes: Sandboxes,
        settings: Settings,
        stopping: CancellationToken,
        render_metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let ledger = Ledger::new(store.clone(), sandboxes.clone(), settings.history.clone());
        Self {
            store,
            ledger,
            sandboxes,
            settings: Arc::new(settings),
            models: Arc::default(),
            stopping,
            started: Instant::now(),
            render_metrics: Arc::new(render_metrics),
            make_title: None,
            why_unavailable: None,
            sign_ins: None,
            thumbnails: Arc::new(Semaphore::new(thumbnail::AT_ONCE)),
            checked: Checked::default(),
            counted: Counted::default(),
            uses: Uses::default(),
        }
    }
}

impl FromRef<Api> for Arc<Settings> {
    fn from_ref(api: &Api) -> Self {
        Arc::clone(&api.settings)
    }
}

/// Settings of the API. All have defaults that suit one machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests that one key may make in a window; 0 is no limit.
    pub requests_per_window: u32,
    /// The same for all keys of a project together.
    pub requests_per_project: u32,
    pub window: Duration,
    /// Wrong keys taken from one address in a minute before it gets 429 for them.
    pub failed_logins_per_minute: u32,
    /// The largest JSON body.
    pub max_body_bytes: usize,
    /// The largest uploaded file.
    pub max_upload_bytes: u64,
    /// How deep arrays and objects of a body may nest.
    pub max_json_depth: usize,
    /// How long the whole of a JSON body may take to arrive.
    pub body_timeout: Duration,
    /// How long an upload may be silent.
    pub upload_idle_timeout: Duration,
    /// A stream with nothing to say says that, this often.
    pub heartbeat: Duration,
    /// How git is used in environments.
    pub git: Arc<sandbox::git::Options>,
    /// How long a connection may take to send a request's headers. The server process sets it on its listener.
    pub header_timeout: Duration,
    /// The model of agents that name none, and of threads without an agent.
    pub default_model: String,
    /// Runs that this server drives at once.
    pub concurrent_runs: u32,
    /// Runs of one project driven at once by all servers; 0 is no limit.
    pub concurrent_per_project: u32,
    /// What projects of a tier have instead of what is general.
    pub tiers: Arc<Tiers>,
    /// Runs that may wait for a worker before messages are refused; 0 is no limit.
    pub max_queued: u32,
    /// Where the server keeps its files; `/health` tells how full it is.
    pub data_dir: PathBuf,
    /// What is remembered of files.
    pub history: ledger::Options,
    pub version: Version,
    pub previews: Previews,
    /// How others reach the server; what is sent to triggers goes there.
    pub public_url: String,
    /// Events that one trigger takes in a minute; 0 is no limit.
    pub events_per_minute: u32,
}

/// What links to previews look like, and how long they are good.
#[derive(Debug, Clone)]
pub struct Previews {
    pub site: Site,
    /// Where a request does not say.
    pub default_expiry: Duration,
    pub max_expiry: Duration,
}

impl Default for Previews {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { site: Site::local(8081), default_expiry: day, max_expiry: 30 * day }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_per_window: 1000,
            requests_per_project: 0,
            window: Duration::from_secs(15 * 60),
            failed_logins_per_minute: 20,
            max_body_bytes: 10 * 1024 * 1024,
            max_upload_bytes: 2 * 1024 * 1024 * 1024,
            max_json_depth: 64,
            body_timeout: Duration::from_secs(30),
            upload_idle_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            git: Arc::default(),
            header_timeout: Duration::from_secs(10),
            default_model: "claude-sonnet-5-5".to_owned(),
            concurrent_runs: 256,
            concurrent_per_project: 0,
            tiers: Arc::default(),
            max_queued: 10_000,
            data_dir: PathBuf::from("."),
            history: ledger::Options::default(),
            version: Version::default(),
            previews: Previews::default(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            events_per_minute: 120,
        }
    }
}

/// What this build is.
#[derive(Debug, Clone)]
pub struct Version {
    pub version: String,
    /// RFC 3339.
    pub built_at: Option<String>,
    pub git_commit: Option<String>,
}

impl Default for Version {
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), built_at: None, git_commit: None }
    }
}
