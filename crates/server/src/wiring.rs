//! What the settings mean for each part.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use domain::tier::{Tier, Tiers};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    build,
    config::{Builds, Config, ImageProvider, Loaded, Profile, SearchProvider},
    data_dir::DataDir,
};

/// Where guestd may be, relative to this program: beside it, where `make` builds it, where a package puts it.
const GUESTD_PLACES: [&str; 3] = ["guestd", "../guestd/guestd", "../lib/atelier/guestd"];
const GUESTD_PACKAGED: &str = "/usr/lib/atelier/guestd";

/// Gives the places where guestd is looked for, in order.
pub(crate) fn guestd_places(config: &Config) -> Vec<PathBuf> {
    if let Some(path) = &config.sandbox.guestd {
        return vec![crate::config::absolute(path)];
    }
    let executable = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let beside = executable.parent().unwrap_or(Path::new("/"));
    let places = GUESTD_PLACES.iter().map(|place| beside.join(place));
    places.chain([PathBuf::from(GUESTD_PACKAGED)]).collect()
}

/// Finds guestd.
///
/// # Errors
/// A sentence that names the places looked at.
pub(crate) fn find_guestd(config: &Config) -> anyhow::Result<PathBuf> {
    let places = guestd_places(config);
    let found = places.iter().find(|place| place.is_file()).and_then(|place| place.canonicalize().ok());
    found.with_context(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "guestd, the daemon inside the containers, is not at {}: build it with scripts/guestd.sh, or say where it is \
             with sandbox.guestd",
            places.join(" or ")
        )
    })
}

/// Gives the sandboxes' options. A guestd that is missing is told by [`find_guestd`], not here.
pub(crate) fn sandbox_options(config: &Config, data_dir: &DataDir) -> anyhow::Result<sandbox::Options> {
    let settings = &config.sandbox;
    let defaults = sandbox::Options::default();
    let installation = match &settings.installation {
        Some(name) => name.clone(),
        // Short, as it becomes part of names.
        None => data_dir.node()?.chars().filter(char::is_ascii_hexdigit).take(12).collect(),
    };
    Ok(sandbox::Options {
        data_dir: data_dir.path().to_owned(),
        docker_socket: settings.docker_socket.clone(),
        runtime: settings.runtime.clone(),
        image: settings.image.to_string(),
        images: settings.images.clone(),
        installation,
        guestd: find_guestd(config).unwrap_or(defaults.guestd),
        idle_stop: settings.idle_stop,
        disk_reserve: settings.disk_reserve,
        start_deadline: settings.start_deadline,
        warm: settings.warm as usize,
        concurrent_starts: settings.concurrent_starts as usize,
        user: settings.user.clone().unwrap_or(defaults.user),
        sizes: sandbox::Sizes {
            lite: limits(&config.profiles.lite),
            standard: limits(&config.profiles.standard),
            power: limits(&config.profiles.power),
            desktop: limits(&config.profiles.desktop),
        },
        allow_unfiltered_egress: settings.allow_unfiltered_egress,
        egress_allow: settings.egress_allow.clone(),
        builds: build_options(&config.builds)?,
    })
}

fn limits(profile: &Profile) -> sandbox::Limits {
    sandbox::Limits { memory_bytes: profile.memory, cpus: profile.cpus, pids: profile.pids, disk_bytes: profile.disk }
}

/// How git is used, by the API and by runs alike.
pub(crate) fn git_options(config: &Config) -> sandbox::git::Options {
    let settings = &config.git;
    sandbox::git::Options {
        author: sandbox::git::Author {
            name: settings.author_name.to_string(),
            email: settings.author_email.to_string(),
        },
        github_url: settings.github_url.clone(),
        allow_private_hosts: settings.allow_private_hosts,
        timeout: settings.timeout,
        transfer_timeout: settings.transfer_timeout,
        max_output_bytes: usize::try_from(settings.max_output).unwrap_or(usize::MAX),
    }
}

/// Gives what a site adds to every image. The certificates are read here, once.
fn build_options(settings: &Builds) -> anyhow::Result<sandbox::BuildOptions> {
    let no_proxy = settings.no_proxy.clone().map(SecretString::from);
    let variables = [
        ("PIP_INDEX_URL", &settings.pip_index),
        ("npm_config_registry", &settings.npm_registry),
        ("http_proxy", &settings.http_proxy),
        ("HTTP_PROXY", &settings.http_proxy),
        ("https_proxy", &settings.https_proxy),
        ("HTTPS_PROXY", &settings.https_proxy),
        ("no_proxy", &no_proxy),
        ("NO_PROXY", &no_proxy),
    ];
    let variables = variables
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| (name.to_owned(), value.expose_secret().to_owned())));
    let apt_mirror = settings.apt_mirror.as_ref().map(ToString::to_string);
    if apt_mirror.iter().any(|mirror| mirror.contains(['\'', '"', '#', '&', '\\', '$', '`', '|'])) {
        bail!("the setting builds.apt_mirror must be the address of a directory, like http://mirror.example/debian");
    }
    let certificates = match &settings.ca_certificates {
        None => Vec::new(),
        Some(path) => {
            let path = crate::config::absolute(path);
            let wrong = || format!("cannot use {} (builds.ca_certificates)", path.display());
            let text = std::fs::read_to_string(&path).with_context(wrong)?;
            let certificates = split_certificates(&text);
            if certificates.is_empty() {
                bail!("{}: it holds no certificate in the form of PEM", wrong());
            }
            certificates
        }
    };
    Ok(sandbox::BuildOptions {
        network: settings.network.clone(),
        variables: variables.collect(),
        apt_mirror,
        certificates,
        has_mise: settings.mise,
    })
}

/// Cuts a file of certificates into one text for each: tools that hash them want them so.
fn split_certificates(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let parts = text.split_inclusive(END).filter_map(|part| part.find(BEGIN).map(|at| &part[at..]));
    parts.filter(|part| part.ends_with(END)).map(|part| format!("{part}\n")).collect()
}

pub(crate) fn claude_options(config: &Config) -> anyhow::Result<claude::Options> {
    let settings = &config.model;
    let mut options = claude::Options::new(settings.base_url.clone(), settings.api_key.clone());
    if let Some(auth) = settings.auth {
        options.auth = auth;
    }
    if let Some(version) = &settings.version {
        options.version.clone_from(version);
    }
    if let Some(headers) = &settings.custom_headers {
        options.custom_headers = claude::parse_custom_headers(headers.expose_secret())?;
    }
    options.max_retries = settings.max_retries;
    options.max_retry_delay = settings.max_retry_delay;
    options.silence_limit = settings.silence_limit;
    options.connect_timeout = settings.connect_timeout;
    Ok(options)
}

/// Reads the catalogue of models: the built-in one, and the operator's file over it.
pub(crate) fn catalogue(loaded: &Loaded) -> anyhow::Result<claude::Catalogue> {
    let builtin = claude::Catalogue::builtin();
    let Some(path) = &loaded.config.model.catalogue else { return Ok(builtin) };
    let wrong = || format!("the setting model.catalogue (from {}) is not usable", loaded.source("model.catalogue"));
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    builtin.with(&text.with_context(wrong)?).with_context(wrong)
}

/// The client of the tool WebFetch. It runs here and not in a container, and reaches what containers may reach.
pub(crate) fn web_client(loaded: &Loaded) -> anyhow::Result<executor::tools::web::Client> {
    let allowed = networks(loaded, "sandbox.egress_allow", &loaded.config.sandbox.egress_allow)?;
    let client = executor::tools::web::Client::new(allowed).context("cannot make the client for web pages")?;
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    Ok(client.with_pdf_reader(vec![program.into(), "pdf-text".into()]))
}

/// Reads a setting that holds addresses and networks.
fn networks(loaded: &Loaded, name: &str, values: &[String]) -> anyhow::Result<Vec<executor::tools::web::Allowed>> {
    let wrong = || format!("the setting {name} (from {})", loaded.source(name));
    let read =
        |network: &String| network.parse().map_err(|err| anyhow::anyhow!("{} holds {network:?}: {err}", wrong()));
    values.iter().map(read).collect()
}

/// Where a browser comes back to after signing in to an MCP server.
fn callback_url(config: &Config, address: SocketAddr) -> String {
    let base = match &config.server.public_url {
        Some(url) => url.to_string(),
        // It is opened on some other host's behalf, to which "all addresses" mean nothing.
        None if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
        None => format!("http://{address}"),
    };
    format!("{}/v1/mcp/callback", base.trim_end_matches('/'))
}

/// Hands the API what it does not know itself: how to sign in to MCP servers.
pub(crate) fn sign_ins(sign_ins: executor::mcp::SignIns) -> api::SignIns {
    let finishing = sign_ins.clone();
    api::SignIns {
        begin: Arc::new(move |environment, name| {
            let sign_ins = sign_ins.clone();
            Box::pin(async move { sign_ins.begin(&environment, &name).await.map(String::from) })
        }),
        finish: Arc::new(move |state, code, issuer| {
            let sign_ins = finishing.clone();
            Box::pin(async move { sign_ins.finish(&state, &code, issuer.as_deref()).await })
        }),
    }
}

/// How runs use MCP servers.
fn mcp_options(loaded: &Loaded, address: SocketAddr) -> anyhow::Result<executor::mcp::Options> {
    let settings = &loaded.config.mcp;
    Ok(executor::mcp::Options {
        connection: mcp::Options {
            connect_timeout: settings.connect_timeout,
            call_timeout: settings.call_timeout,
            max_call_time: settings.max_call_time,
            max_message_bytes: usize::try_from(settings.max_message).unwrap_or(usize::MAX),
        },
        first_wait: settings.first_wait,
        max_age: settings.max_age,
        max_restarts: settings.max_restarts,
        allowed: networks(loaded, "mcp.allow", &settings.allow)?,
        redirect_uri: callback_url(&loaded.config, address),
    })
}

/// How others are told what happened.
fn webhook_options(loaded: &Loaded) -> anyhow::Result<executor::webhooks::Options> {
    let settings = &loaded.config.webhooks;
    Ok(executor::webhooks::Options {
        concurrent: settings.concurrent as usize,
        timeout: settings.timeout,
        first_pause: settings.first_pause,
        patience: settings.patience,
        allowed: networks(loaded, "webhooks.allow", &settings.allow)?,
    })
}

/// Decides who searches the web for runs with the skill for it.
pub(crate) fn search_options(config: &Config, claude: &claude::Client) -> anyhow::Result<executor::SearchOptions> {
    use executor::tools::web::search::{Domains, Engine, Search};
    let settings = &config.search;
    let searxng = settings.searxng_url.clone().map(|url| Engine::Searxng { url });
    let brave = settings.brave_key.clone().map(|key| Engine::Brave { url: settings.brave_url.clone(), key });
    let tavily = settings.tavily_key.clone().map(|key| Engine::Tavily { url: settings.tavily_url.clone(), key });
    let engine = match settings.provider {
        SearchProvider::Auto => searxng.or(brave).or(tavily),
        SearchProvider::Searxng => searxng,
        SearchProvider::Brave => brave,
        SearchProvider::Tavily => tavily,
        SearchProvider::Claude | SearchProvider::None => None,
    };
    let domains = Domains { allowed: settings.allowed_domains.clone(), blocked: settings.blocked_domains.clone() };
    let backend = claude::WebSearch {
        max_uses: settings.max_uses,
        allowed_domains: settings.allowed_domains.clone(),
        blocked_domains: settings.blocked_domains.clone(),
    };
    let engine = engine.map(|engine| Search::new(engine, domains, settings.price)).transpose();
    Ok(executor::SearchOptions {
        uses_backend: match settings.provider {
            SearchProvider::Auto => claude.has_server_tools(),
            provider => provider == SearchProvider::Claude,
        },
        backend,
        engine: engine.context("cannot make the client for the search engine")?,
    })
}

/// Decides who makes pictures for runs with the skill for it.
fn images(config: &Config) -> anyhow::Result<Option<executor::tools::image::Images>> {
    use executor::tools::image::{Ability, Images, Provider};
    let settings = &config.images;
    let openai = Provider::OpenAi {
        url: settings.openai_url.clone(),
        key: settings.openai_key.clone(),
        model: settings.openai_model.to_string(),
    };
    let openai_with_key = settings.openai_key.is_some().then(|| openai.clone());
    let gemini = settings.gemini_key.clone().map(|key| Provider::Gemini {
        url: settings.gemini_url.clone(),
        key,
        model: settings.gemini_model.to_string(),
    });
    let automatic1111 = settings.automatic1111_url.clone().map(|url| Provider::Automatic1111 { url });
    let provider = match settings.provider {
        ImageProvider::Auto => openai_with_key.or(gemini).or(automatic1111),
        // What imitates it on the same machine wants no key.
        ImageProvider::OpenAi => Some(openai),
        ImageProvider::Gemini => gemini,
        ImageProvider::Automatic1111 => automatic1111,
        ImageProvider::None => None,
    };
    let ability = if settings.changes { Ability::Change } else { Ability::Make };
    let images = provider.map(|provider| Images::new(provider, ability, settings.price)).transpose();
    images.context("cannot make the client for the provider of pictures")
}

pub(crate) fn executor_options(
    loaded: &Loaded,
    address: SocketAddr,
    search: executor::SearchOptions,
) -> anyhow::Result<executor::Options> {
    let config = &loaded.config;
    let settings = &config.runs;
    Ok(executor::Options {
        mcp: mcp_options(loaded, address)?,
        webhooks: webhook_options(loaded)?,
        search,
        images: images(config)?,
        agents: executor::AgentOptions {
            max_depth: config.agents.max_depth,
            max_parallel: config.agents.max_parallel as usize,
            max_calls: config.agents.max_calls,
        },
        research: executor::ResearchOptions {
            max_questions: config.research.max_questions as usize,
            max_turns: config.research.max_turns,
            max_cost_usd: config.research.max_cost,
        },
        concurrent_runs: settings.concurrent as usize,
        lease: settings.lease,
        poll: settings.poll,
        concurrent_per_project: settings.concurrent_per_project,
        tiers: Arc::new(tiers(config)),
        max_turns: settings.max_turns,
        max_cost_usd: settings.max_cost,
        max_duration: settings.max_duration,
        max_tokens: settings.max_tokens,
        permission_expiry: settings.permission_expiry,
        compact_at_percent: settings.compact_at.min(100),
        git: git_options(config).into(),
        concurrent_builds: config.builds.concurrent as usize,
        build_timeout: config.builds.timeout,
        default_model: config.model.default.to_string(),
        fallback_model: config.model.fallback.clone(),
    })
}

fn tiers(config: &Config) -> Tiers {
    let tiers = config.tiers.iter();
    tiers
        .map(|(name, tier)| {
            let (concurrent_runs, requests_per_window) = (tier.concurrent_runs, tier.requests_per_window);
            (name.clone(), Tier { concurrent_runs, requests_per_window })
        })
        .collect()
}

fn history_options(config: &Config) -> ledger::Options {
    ledger::Options {
        max_file_bytes: config.history.max_file,
        max_entries: u64::from(config.history.max_files),
        exclude: config.history.exclude.clone(),
        ..ledger::Options::default()
    }
}

/// Gives the previews' options; those who are behind a proxy are named by its URL.
pub(crate) fn preview_options(config: &Config, site: preview::Site) -> preview::Options {
    let settings = &config.preview;
    preview::Options {
        site,
        connections: settings.max_connections as usize,
        response_timeout: settings.response_timeout,
        idle_timeout: settings.idle_timeout,
        is_proxied: settings.url.is_some(),
    }
}

pub(crate) fn api_settings(config: &Config, data_dir: &DataDir, site: preview::Site) -> api::Settings {
    let settings = &config.limits;
    api::Settings {
        requests_per_window: settings.requests_per_window,
        requests_per_project: settings.requests_per_project,
        window: settings.window,
        failed_logins_per_minute: settings.failed_logins_per_minute,
        max_body_bytes: usize::try_from(settings.max_body).unwrap_or(usize::MAX),
        max_upload_bytes: settings.max_upload,
        max_json_depth: settings.max_json_depth as usize,
        body_timeout: settings.body_timeout,
        upload_idle_timeout: settings.upload_idle_timeout,
        heartbeat: settings.heartbeat,
        git: git_options(config).into(),
        header_timeout: settings.header_timeout,
        default_model: config.model.default.to_string(),
        concurrent_runs: config.runs.concurrent,
        concurrent_per_project: config.runs.concurrent_per_project,
        tiers: Arc::new(tiers(config)),
        max_queued: config.runs.max_queued,
        data_dir: data_dir.path().to_owned(),
        history: history_options(config),
        version: build::version(),
        previews: api::Previews {
            site,
            default_expiry: config.preview.default_expiry,
            max_expiry: config.preview.max_expiry,
        },
        public_url: match &config.server.public_url {
            Some(url) => url.to_string(),
            None => format!("http://{}", config.server.listen),
        },
        events_per_minute: settings.events_per_minute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_is_cut_into_single_ones() {
        let one = "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----";
        let text = format!("# ours\n{one}\n# and theirs\n{one}\n-----BEGIN CERTIFICATE-----\nhalf");
        assert_eq!(split_certificates(&text), [format!("{one}\n"), format!("{one}\n")]);
        assert_eq!(split_certificates("nothing"), Vec::<String>::new());
    }
}
