//! `atelier serve`: puts the parts together, serves until told to stop, and takes them apart in the opposite order.
//!
//! Everything that can be refused is refused before anything is started that others see: settings, address, data
//! directory, database, engine. After that nothing but a signal ends the process.

use std::{
    fs,
    io::IsTerminal,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, PoisonError},
};

use anyhow::{Context, bail};
use api::Api;
use chrono::Utc;
use domain::scope::Scopes;
use executor::Executor;
use preview::Previews;
use sandbox::Sandboxes;
use secrecy::ExposeSecret;
use store::keys::NewKey;
use tokio::net::TcpListener;

use crate::{
    build,
    config::{Loaded, is_public},
    data_dir::DataDir,
    database::Database,
    disks, http, images,
    lifecycle::Lifecycle,
    log, models, previews, reconcile, recording, sweep,
    telemetry::Telemetry,
    titles, wiring,
};

pub(crate) async fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    let telemetry = Telemetry::start(&config.telemetry)?;
    log::init(&config.log, telemetry.as_ref().map(Telemetry::layer));
    let lifecycle = Lifecycle::default();
    lifecycle.catch_signals().context("cannot catch signals")?;

    let data_dir = DataDir::create(&config.server.data_dir)?;
    let Some(_lock) = data_dir.lock()? else {
        bail!(
            "another server{} uses the data directory {}: stop it with `atelier down`, or choose another with --data-dir",
            data_dir.pid().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
            data_dir.path().display()
        );
    };
    let listener = TcpListener::bind(config.server.listen).await.with_context(|| {
        format!("cannot listen on {} (server.listen, from {})", config.server.listen, loaded.source("server.listen"))
    })?;
    let address = listener.local_addr()?;
    let previews = previews::listen(&loaded, address).await?;
    fs::write(data_dir.pid_file(), format!("{}\n", std::process::id())).context("cannot write the pid file")?;

    let listeners = Listeners { api: listener, address, previews };
    let served = serve(&loaded, &data_dir, listeners, &lifecycle, telemetry.as_ref()).await;
    // Before the lock goes: a file of the next server must not be removed.
    if let Err(err) = fs::remove_file(data_dir.pid_file()) {
        tracing::debug!("cannot remove the pid file: {err}");
    }
    if let Some(telemetry) = telemetry {
        telemetry.finish().await;
    }
    served
}

/// Where the server is reached.
struct Listeners {
    api: TcpListener,
    /// The API's.
    address: SocketAddr,
    previews: TcpListener,
}

async fn serve(
    loaded: &Loaded,
    data_dir: &DataDir,
    listeners: Listeners,
    lifecycle: &Lifecycle,
    telemetry: Option<&Telemetry>,
) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    let address = listeners.address;
    let site = previews::site(loaded, listeners.previews.local_addr()?)?;
    wiring::find_guestd(config)?;
    let sandboxes = Sandboxes::connect(wiring::sandbox_options(config, data_dir)?).await;
    let sandboxes = sandboxes.context("the container engine cannot be used; `atelier doctor` tells why")?;
    let web = wiring::web_client(loaded)?;
    let claude = claude::Client::new(wiring::claude_options(config)?)?;
    let catalogue = Arc::new(wiring::catalogue(loaded)?);
    let runs = wiring::executor_options(loaded, address, wiring::search_options(config, &claude)?)?;

    let Some(database) = lifecycle.soft.run_until_cancelled(Database::serve(config, data_dir)).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let database = database?;
    tracing::info!(database = database.describe().await, "the database is ready");
    let prepared = prepare(loaded, data_dir, &database, address).await;
    let is_well = match prepared {
        Ok(()) => {
            let metrics = recording::start(lifecycle, telemetry)?;
            let counting = telemetry.and_then(|it| it.count(database.store.clone(), lifecycle.soft.clone()));
            counting.map(|counting| lifecycle.tracker.spawn(counting));
            let mut api = Api::new(
                database.store.clone(),
                sandboxes,
                wiring::api_settings(config, data_dir, site.clone()),
                lifecycle.soft.clone(),
                move || metrics.render(),
            );
            *api.models.write().unwrap_or_else(PoisonError::into_inner) = models::from_catalogue(&catalogue, &runs);
            api.make_title = Some(titles::maker(claude.clone(), catalogue.clone(), api.models.clone()));
            let (known, chosen) = (catalogue.clone(), runs.clone());
            api.why_unavailable =
                Some(Arc::new(move |skill, model| executor::why_unavailable(&chosen, &known, skill, model)));
            let sign_ins = executor::mcp::SignIns::new(api.store.clone(), web.clone(), &runs.mcp);
            api.sign_ins = Some(wiring::sign_ins(sign_ins));
            let previews = wiring::preview_options(config, site);
            let (store, sandboxes) = (api.store.clone(), api.sandboxes.clone());
            let opener = Previews::new(store, sandboxes, previews, lifecycle.soft.clone(), lifecycle.tracker.clone());
            previews::start(loaded, lifecycle, opener, listeners.previews);
            start(loaded, lifecycle, api, Ends { claude, catalogue, web, runs }, listeners.api);
            announce(loaded, address);
            lifecycle.drained(config.runs.drain).await;
            Ok(())
        }
        Err(err) => Err(err),
    };
    database.close().await?;
    is_well?;
    tracing::info!("stopped");
    Ok(if lifecycle.has_crashed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Brings the rows into the state that a server starts from.
async fn prepare(loaded: &Loaded, data_dir: &DataDir, database: &Database, address: SocketAddr) -> anyhow::Result<()> {
    let store = &database.store;
    let taken_back = store.end_own_leases().await?;
    if taken_back > 0 {
        tracing::info!(runs = taken_back, "taking back the runs of this server's earlier life");
    }
    let project = store.default_project().await?;
    for (tier, projects) in store.list_tiers().await? {
        if !loaded.config.tiers.contains_key(&tier) {
            tracing::warn!(tier, projects, "projects are of a tier that is not in the settings: the general ones hold");
        }
    }
    let all = store.list_keys().await?;
    if is_public(address) && !all.iter().any(|key| key.is_active(Utc::now())) {
        bail!(
            "server.listen (from {}) is {address}, which others can reach, and there is no valid API key: make one first \
             with `atelier keys create`, or listen on 127.0.0.1",
            loaded.source("server.listen")
        );
    }
    if all.is_empty() {
        // Whoever starts the server is the one who may do everything.
        let first = NewKey { scopes: Scopes::admin(), ..NewKey::named("first") };
        let (_, key) = store.create_key_with(&project, first).await?;
        data_dir.write_api_key(&key)?;
        tracing::info!(file = %data_dir.api_key_file().display(), "made the first API key");
        // Not into a log, which is what standard output is when it is no terminal.
        if std::io::stdout().is_terminal() {
            println!("API key (shown only now): {}", key.expose_secret());
        }
    }
    if loaded.config.model.api_key.is_none() {
        tracing::warn!("no key for the model is set (ANTHROPIC_API_KEY or model.api_key): runs will fail");
    }
    Ok(())
}

/// What leaves this machine, and what is known of it.
struct Ends {
    claude: claude::Client,
    catalogue: Arc<claude::Catalogue>,
    web: executor::tools::web::Client,
    runs: executor::Options,
}

/// Starts everything that lives until the process stops.
fn start(loaded: &Loaded, lifecycle: &Lifecycle, api: Api, ends: Ends, listener: TcpListener) {
    let Ends { claude, catalogue, web, runs } = ends;
    let (soft, hard, tracker) = (&lifecycle.soft, &lifecycle.hard, &lifecycle.tracker);
    let executor = Executor::new(
        api.store.clone(),
        api.sandboxes.clone(),
        api.ledger.clone(),
        claude.clone(),
        catalogue.clone(),
        web,
        runs.clone(),
    );
    lifecycle.spawn_vital("executor", executor.run(soft.clone(), hard.clone()));
    let warm = api.sandboxes.clone();
    tracker.spawn(soft.clone().run_until_cancelled_owned(async move { warm.keep_warm().await }));
    let disk_check = loaded.config.sandbox.disk_check;
    tracker.spawn(disks::watch(api.sandboxes.clone(), disk_check, soft.clone()));
    tracker.spawn(reconcile::run(api.store.clone(), api.sandboxes.clone(), soft.clone()));
    let keep = loaded.config.builds.keep;
    tracker.spawn(images::run(api.store.clone(), api.sandboxes.clone(), keep, soft.clone()));
    let ages = sweep::Ages { events: loaded.config.events.retention, deliveries: loaded.config.webhooks.keep };
    tracker.spawn(sweep::run(api.store.clone(), ages, soft.clone()));
    let asking = models::ask(claude, catalogue, runs, api.models.clone());
    tracker.spawn(soft.clone().run_until_cancelled_owned(asking));
    let limits = http::Limits {
        header_timeout: api.settings.header_timeout,
        write_timeout: loaded.config.limits.write_timeout,
        max_connections: loaded.config.limits.max_connections as usize,
        has_http2: true,
    };
    lifecycle.spawn_vital("http", http::serve_router(listener, api::router(api), limits, lifecycle.clone()));
}

fn announce(loaded: &Loaded, address: SocketAddr) {
    let url = match &loaded.config.server.public_url {
        Some(url) => url.to_string(),
        None => format!("http://{address}"),
    };
    tracing::info!(version = build::VERSION.as_str(), "Atelier runs at {url}");
}
