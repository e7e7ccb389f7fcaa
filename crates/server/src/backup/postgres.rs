//! A dump of the database and the way back, by Postgres' own programs.

use std::{path::Path, process::Stdio};

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use store::{
    ConnectOptions,
    postgres::{Private, Socket, find_installations},
};
use tokio::process::Command;

use crate::{
    config::{Config, database_options},
    data_dir::DataDir,
};

/// A database as it is: unlike the server's own way to it, this changes nothing in it.
pub(super) struct Database {
    connect: ConnectOptions,
    reach: Reach,
    private: Option<Private>,
    _socket: Option<Socket>,
}

impl Database {
    /// Opens the database that is set, that of a running server, or the private one for the moment.
    pub(super) async fn beside(config: &Config, data_dir: &DataDir) -> anyhow::Result<Self> {
        if let Some(url) = &config.database.url {
            let connect = database_options(url).context("database.url cannot be read")?;
            return Ok(Self { connect, reach: Reach::by_url(url.expose_secret())?, private: None, _socket: None });
        }
        let socket = Socket::find(data_dir.path())?;
        let private = if socket.is_none() { Some(Private::start(data_dir.path()).await?) } else { None };
        let connect = match (&socket, &private) {
            (Some(socket), _) => socket.connect_options(store::postgres::DATABASE),
            (None, Some(private)) => private.connect_options(),
            (None, None) => bail!("there is no database"),
        };
        Ok(Self { reach: Reach::by_socket(&connect), connect, private, _socket: socket })
    }

    /// Writes one moment of it into a file.
    pub(super) async fn dump(&self, to: &Path) -> anyhow::Result<()> {
        let mut command = program("pg_dump", &self.reach);
        command.args(["--format=custom", "--no-owner", "--no-privileges", "--file"]).arg(to);
        run(command, "pg_dump").await
    }

    /// Fills it from such a file, all or nothing; it must be empty.
    pub(super) async fn fill(&self, from: &Path) -> anyhow::Result<()> {
        if !store::postgres::is_empty(&self.connect).await.context("cannot look into the database")? {
            bail!("the database is not empty: restore into another one");
        }
        let mut command = program("pg_restore", &self.reach);
        command.args(["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]).arg(from);
        run(command, "pg_restore").await
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

/// How another program reaches the database: its connection string, and a password that no other process is to see.
struct Reach {
    connection: String,
    password: Option<String>,
}

impl Reach {
    fn by_url(url: &str) -> anyhow::Result<Self> {
        let mut url = url::Url::parse(url).context("database.url cannot be read")?;
        let password = url.password().map(percent_decoded);
        // Fails only for addresses without a host, which have no password either.
        let _ = url.set_password(None);
        Ok(Self { connection: url.into(), password })
    }

    fn by_socket(options: &ConnectOptions) -> Self {
        let socket = options.get_socket().map(|path| path.display().to_string()).unwrap_or_default();
        // Ours may go through a file that only we have open.
        let socket = socket.replace("/proc/self/", &format!("/proc/{}/", std::process::id()));
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let connection = format!(
            "host={} port={} user={} dbname={}",
            quoted(&socket),
            options.get_port(),
            quoted(options.get_username()),
            quoted(options.get_database().unwrap_or_default())
        );
        Self { connection, password: None }
    }
}

fn percent_decoded(text: &str) -> String {
    let pair = format!("p={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn program(name: &str, reach: &Reach) -> Command {
    // The newest can read what any older server has.
    let ours = find_installations().into_iter().map(|found| found.bin.join(name)).find(|path| path.exists());
    let mut command = Command::new(ours.unwrap_or_else(|| name.into()));
    command.args(["--no-password", "--dbname", &reach.connection]).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(password) = &reach.password {
        command.env("PGPASSWORD", password);
    }
    command
}

async fn run(mut command: Command, name: &str) -> anyhow::Result<()> {
    let output = command.output().await;
    let output = output.with_context(|| format!("cannot run {name}: is Postgres' client installed?"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_what_other_processes_see() {
        let reach = Reach::by_url("postgres://me:p%40ss+1@db:5433/atelier?sslmode=require").unwrap();
        assert_eq!(reach.connection, "postgres://me@db:5433/atelier?sslmode=require");
        assert_eq!(reach.password.as_deref(), Some("p@ss+1"));
        assert_eq!(Reach::by_url("postgres:///x?host=/run/p").unwrap().password, None);
    }
}
