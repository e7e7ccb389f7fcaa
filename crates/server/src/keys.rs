//! `atelier keys`: the keys that open the API. Works beside a running server and without one.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use domain::{
    ProjectId,
    key::ApiKey,
    scope::{Scope, Scopes},
};
use secrecy::{ExposeSecret, SecretString};
use store::{Store, keys::NewKey};

use crate::{
    cli::say,
    config::{Flags, Loaded, absolute, parse_duration},
    data_dir::DataDir,
    database::Database,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it; it is never shown again
    Create {
        /// What the key is for
        #[arg(long, default_value = "key")]
        name: String,
        /// When it ends by itself, for example 30d
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<Duration>,
        /// What it may do, for example threads:write (several times for several); everything in its project if absent
        #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
        scopes: Vec<Scope>,
        /// Make it an administrator's: it opens every project of the organization
        #[arg(long, conflicts_with = "scopes")]
        admin: bool,
        /// The project that it opens; the first one if absent
        #[arg(long, value_name = "ID", value_parser = project)]
        project: Option<ProjectId>,
        /// Whose it is, for the audit log and for costs
        #[arg(long, value_name = "ID")]
        user: Option<String>,
    },
    /// List all keys
    List,
    /// Make a key useless, at once and on every server
    Revoke {
        /// The key's id, its name or its first characters (8 or more), as `list` shows them
        #[arg(value_name = "ID|NAME|PREFIX")]
        key: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|duration| !duration.is_zero());
    // Longer ones do not fit the calendar.
    let longest = Duration::from_secs(100 * 366 * 86_400);
    duration.filter(|duration| *duration <= longest).ok_or_else(|| "must be a duration like 12h or 30d".to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|_| {
        let known: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        format!("must be one of {}", known.join(", "))
    })
}

fn project(text: &str) -> Result<ProjectId, String> {
    text.parse().map_err(|err: domain::InvalidId| err.to_string())
}

pub(crate) async fn run(loaded: Loaded, command: Command) -> anyhow::Result<ExitCode> {
    if matches!(command, Command::List | Command::Revoke { .. })
        && loaded.config.database.url.is_none()
        && DataDir::find(&loaded.config.server.data_dir).is_none_or(|found| !store::postgres::exists(found.path()))
    {
        let data_dir = absolute(&loaded.config.server.data_dir);
        anyhow::bail!("there is no data at {}: no server has run there yet (see --data-dir)", data_dir.display());
    }
    let data_dir = DataDir::create(&loaded.config.server.data_dir)?;
    let database = Database::visit(&loaded.config, &data_dir).await?;
    let done = execute(&database.store, command, Utc::now()).await;
    database.close().await?;
    let said = done?;
    if let Some(key) = said.key {
        // Alone on standard output, so that a script can take it.
        say(&format!("{}\n", key.expose_secret()));
        eprint!("{}", said.text);
    } else {
        say(&said.text);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug)]
struct Said {
    key: Option<SecretString>,
    text: String,
}

async fn execute(store: &Store, command: Command, now: DateTime<Utc>) -> anyhow::Result<Said> {
    match command {
        Command::Create { name, expires, scopes, admin, project, user } => {
            let scopes = match (admin, scopes.is_empty()) {
                (true, _) => Scopes::admin(),
                (false, true) => Scopes::all(),
                (false, false) => Scopes::new(scopes),
            };
            let project = match project {
                Some(project) => project,
                None => store.default_project().await?,
            };
            let expires_at = expires.map(|expires| now + expires);
            let new = NewKey { expires_at, scopes, user_id: user, ..NewKey::named(name) };
            let (key, text) = store.create_key_with(&project, new).await.context("cannot make the key")?;
            let until = key.expires_at.map(|at| format!(", valid until {}", show_time(at))).unwrap_or_default();
            let said = format!(
                "created the key {} named {:?} for {}{until}; it is shown only now\n",
                key.id, key.name, key.scopes
            );
            Ok(Said { key: Some(text), text: said })
        }
        Command::List => Ok(Said { key: None, text: table(&store.list_keys().await?, now) }),
        Command::Revoke { key } => {
            let key = store.revoke_key(&key).await.context("cannot revoke the key")?;
            Ok(Said { key: None, text: format!("revoked the key {} named {:?}\n", key.id, key.name) })
        }
    }
}

fn table(keys: &[ApiKey], now: DateTime<Utc>) -> String {
    if keys.is_empty() {
        return "there is no key; make one with: atelier keys create\n".to_owned();
    }
    let head = ["ID", "KEY", "NAME", "MAY", "CREATED", "LAST USED", "STATUS"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        let status = match (key.revoked_at, key.expires_at) {
            (Some(at), _) => format!("revoked {}", show_time(at)),
            (None, Some(at)) if at <= now => format!("expired {}", show_time(at)),
            (None, Some(at)) => format!("valid until {}", show_time(at)),
            (None, None) => "valid".to_owned(),
        };
        let last_used = key.last_used_at.map_or("never".to_owned(), show_time);
        let name: String = key.name.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let may = key.scopes.to_string();
        [key.id.to_string(), format!("{}…", key.prefix), name, may, show_time(key.created_at), last_used, status]
    });
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

fn show_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[tokio::test]
    async fn a_key_is_made_listed_and_revoked() {
        let dir = tempfile::TempDir::new().unwrap();
        let flags = Flags { data_dir: Some(dir.path().to_owned()), ..Flags::default() };
        let loaded = Loaded::load(&flags, &Environment::default()).unwrap();
        let data_dir = DataDir::create(dir.path()).unwrap();
        let database = Database::visit(&loaded.config, &data_dir).await.unwrap();
        let store = &database.store;
        let now = Utc::now();

        assert!(execute(store, Command::List, now).await.unwrap().text.starts_with("there is no key"));
        let expires = Some(Duration::from_secs(86_400));
        let create = Command::Create {
            name: "laptop".into(),
            expires,
            scopes: vec![Scope::ThreadsWrite, Scope::Execute],
            admin: false,
            project: None,
            user: Some("ann".into()),
        };
        let key = execute(store, create, now).await.unwrap().key.expect("a key");
        assert_eq!(store.list_keys().await.unwrap()[0].user_id.as_deref(), Some("ann"));
        assert!(store.find_caller(&key).await.unwrap().is_some());
        let listed = execute(store, Command::List, now).await.unwrap().text;
        assert!(
            listed.contains("laptop") && listed.contains("threads:write, execute") && listed.contains("valid until"),
            "{listed}"
        );
        assert!(!listed.contains(key.expose_secret()));
        let later = execute(store, Command::List, now + Duration::from_secs(2 * 86_400)).await.unwrap().text;
        assert!(later.contains("expired"), "{later}");

        let prefix: String = key.expose_secret().chars().take(9).collect::<String>() + "…";
        execute(store, Command::Revoke { key: prefix.clone() }, now).await.unwrap();
        assert!(store.find_caller(&key).await.unwrap().is_none());
        assert!(execute(store, Command::List, now).await.unwrap().text.contains("revoked"));
        let again = execute(store, Command::Revoke { key: prefix }, now).await.unwrap_err();
        assert!(format!("{again:#}").contains("not found"), "{again:#}");
        database.close().await.unwrap();
    }

    #[test]
    fn a_duration_that_no_calendar_holds_is_refused() {
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["0d", "soon", "99999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
