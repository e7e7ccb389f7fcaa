//! Puts the sources on top of each other and says in one sentence what is wrong with them.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    error::{Actual, Kind},
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::{Config, ImageProvider, SearchProvider, units};

const DEFAULTS: &str = include_str!("../../../../config/default.toml");
const PREFIX: &str = "ATELIER_";
/// Read by the commands that are clients, and by scripts; settings of the server have two underscores.
const NOT_SETTINGS: [&str; 5] =
    ["ATELIER_URL", "ATELIER_API_KEY", "ATELIER_API_KEY_FILE", "ATELIER_YES", "ATELIER_BIN"];

/// The environment variables, as a value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own. What is not Unicode cannot be a setting of ours.
    pub(crate) fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Gives a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What the command line says about settings.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct Flags {
    /// A file of settings (TOML); it needs to name only what differs from the defaults
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where everything that must stay is kept
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The address to serve on
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// A Postgres of yours instead of the private one
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}

/// The settings, and where they come from.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(super) figment: Figment,
}

/// Without the sources, which hold secrets as plain text.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// A wrong setting, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(pub(crate) String);

impl Loaded {
    /// Reads all sources.
    pub(crate) fn load(flags: &Flags, environment: &Environment) -> Result<Self, Wrong> {
        let mut figment = Figment::from(Named("the defaults".into(), Toml::string(DEFAULTS)));
        if let Some(path) = &flags.config {
            let text = fs::read_to_string(path)
                .map_err(|err| Wrong(format!("cannot read the settings file {}: {err}", path.display())))?;
            figment = figment.merge(Named(format!("the file {}", path.display()), Toml::string(&text)));
        }
        figment = merge_anthropic(figment, environment);
        if let Some(host) = environment.get("DOCKER_HOST") {
            figment = set(figment, "sandbox.docker_socket", host.into(), variable("DOCKER_HOST"));
        }
        for (name, value) in &environment.0 {
            let Some(setting) = name.strip_prefix(PREFIX) else { continue };
            if NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            let Some((section, key)) = setting.split_once("__") else {
                return Err(Wrong(format!(
                    "the environment variable {name} names no setting: settings are {PREFIX}SECTION__NAME, for example \
                     ATELIER_SERVER__LISTEN"
                )));
            };
            let path = format!("{section}.{key}").to_lowercase().replace("__", ".");
            figment = set(figment, &path, units::from_environment(value), variable(name));
        }
        if let Some(data_dir) = &flags.data_dir {
            let Some(text) = data_dir.to_str() else {
                return Err(Wrong(format!("--data-dir must be Unicode, not {}", data_dir.display())));
            };
            figment = set(figment, "server.data_dir", text.into(), "the flag --data-dir".into());
        }
        if let Some(listen) = &flags.listen {
            figment = set(figment, "server.listen", listen.as_str().into(), "the flag --listen".into());
        }
        if let Some(url) = &flags.database_url {
            figment = set(figment, "database.url", url.as_str().into(), "the flag --database-url".into());
        }
        let config: Config = figment.extract().map_err(|err| Wrong(sentence(&err)))?;
        let loaded = Self { config, figment };
        loaded.check()?;
        Ok(loaded)
    }

    /// Gives where a setting's value comes from.
    pub(crate) fn source(&self, setting: &str) -> String {
        self.figment.find_metadata(setting).map_or("nowhere".into(), |metadata| metadata.name.to_string())
    }

    /// What no single value can say of itself.
    fn check(&self) -> Result<(), Wrong> {
        let wrong = |setting: &str, what: String| {
            Err(Wrong(format!("the setting {setting} (from {}) {what}", self.source(setting))))
        };
        let (database, model, runs) = (&self.config.database, &self.config.model, &self.config.runs);
        if database.url.as_ref().is_some_and(|url| database_options(url).is_none()) {
            let what = "must be a URL like postgres://user:password@host/name (its value is not shown)";
            return wrong("database.url", what.into());
        }
        if let Some(headers) = &model.custom_headers
            && let Err(err) = claude::parse_custom_headers(secrecy::ExposeSecret::expose_secret(headers))
        {
            return wrong("model.custom_headers", format!("is not usable: {err}"));
        }
        let search = &self.config.search;
        let missing = match search.provider {
            SearchProvider::Searxng if search.searxng_url.is_none() => Some("search.searxng_url"),
            SearchProvider::Brave if search.brave_key.is_none() => Some("search.brave_key"),
            SearchProvider::Tavily if search.tavily_key.is_none() => Some("search.tavily_key"),
            _ => None,
        };
        if let Some(missing) = missing {
            return wrong("search.provider", format!("names an engine that is not set up: {missing} is missing"));
        }
        let images = &self.config.images;
        let missing = match images.provider {
            ImageProvider::Gemini if images.gemini_key.is_none() => Some("images.gemini_key"),
            ImageProvider::Automatic1111 if images.automatic1111_url.is_none() => Some("images.automatic1111_url"),
            _ => None,
        };
        if let Some(missing) = missing {
            return wrong("images.provider", format!("names a provider that is not set up: {missing} is missing"));
        }
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        };
        if let Some(name) = self.config.tiers.keys().find(|name| !is_name(name)) {
            let what = "is no name of a tier: those have small letters, digits, - and _";
            return wrong(&format!("tiers.{name}"), what.into());
        }
        if runs.poll >= runs.lease {
            return wrong("runs.poll", format!("must be shorter than runs.lease, which is {:?}", runs.lease));
        }
        Ok(())
    }
}

/// Reads a database URL; `None` if it is none.
pub(crate) fn database_options(url: &secrecy::SecretString) -> Option<store::ConnectOptions> {
    let text = secrecy::ExposeSecret::expose_secret(url);
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    is_postgres.then(|| text.parse().ok()).flatten()
}

/// The names that every client of this API knows. Ours, which come after them, win.
fn merge_anthropic(mut figment: Figment, environment: &Environment) -> Figment {
    let names = [
        ("ANTHROPIC_BASE_URL", "model.base_url"),
        ("ANTHROPIC_AUTH_TOKEN", "model.api_key"),
        // After the token, as the official clients prefer the key.
        ("ANTHROPIC_API_KEY", "model.api_key"),
        ("ANTHROPIC_CUSTOM_HEADERS", "model.custom_headers"),
    ];
    for (name, setting) in names {
        if let Some(value) = environment.get(name) {
            figment = set(figment, setting, value.into(), variable(name));
        }
    }
    if environment.get("ANTHROPIC_AUTH_TOKEN").is_some() && environment.get("ANTHROPIC_API_KEY").is_none() {
        figment = set(figment, "model.auth", "bearer".into(), variable("ANTHROPIC_AUTH_TOKEN"));
    }
    figment
}

fn variable(name: &str) -> String {
    format!("the environment variable {name}")
}

fn set(figment: Figment, setting: &str, value: Value, source: String) -> Figment {
    figment.merge(Named(source, Serialized::default(setting, value)))
}

/// A provider under a name that a sentence can use.
struct Named<P>(String, P);

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        self.1.data()
    }
}

fn sentence(err: &Error) -> String {
    let setting = err.path.join(".");
    let source = err.metadata.as_ref().map(|metadata| format!(" (from {})", metadata.name)).unwrap_or_default();
    match &err.kind {
        Kind::UnknownField(name, known) => {
            let section = err.path.iter().filter(|part| *part != name).cloned().collect::<Vec<_>>().join(".");
            let (what, place) = if section.is_empty() {
                (format!("there is no section {name}"), "the sections are".to_owned())
            } else {
                (format!("there is no setting {section}.{name}"), format!("the section {section} has"))
            };
            format!("{what}{source}: {place} {}", known.join(", "))
        }
        Kind::Message(message) if setting.is_empty() => format!("cannot read the settings{source}: {message}"),
        Kind::Message(message) => format!("the setting {setting}{source} {message}"),
        Kind::InvalidType(Actual::Map, expected) => {
            format!("the setting {setting}{source} must be {expected}, not a section")
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("the setting {setting}{source} must be {expected}, not {actual}")
        }
        other => format!("the setting {setting}{source} is wrong: {other}"),
    }
}

/// Tells whether others than this machine can reach the address.
pub(crate) fn is_public(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}

/// Makes a path absolute without asking that it exists.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
