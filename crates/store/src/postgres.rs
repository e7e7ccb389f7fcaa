//! The private Postgres of an installation without a database of its own.
//!
//! One SQL dialect and the real engine everywhere is worth a child process: `initdb` takes a second once, a start some
//! 60 ms. The child listens on a unix socket inside its own directory (mode 0700) and on nothing else, runs as an
//! unprivileged user when we are root, dies with us (even by `kill -9`), and is started again when it dies alone.
//!
//! It is told its directory as an open file, `/proc/self/fd/9`, and so works where its user may not pass: below `/root`,
//! or in a data directory of mode 0700. We reach its socket the same way where the path is too long for one.

mod child;
mod directory;
mod install;
mod supervisor;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{Error, Result};

use self::{directory::Directory, supervisor::Supervisor};
pub use self::{
    directory::Socket,
    install::{Installation, find_installations},
};

/// The database that belongs to the server.
pub const DATABASE: &str = "atelier";

/// The first start may have to replay a log of [`child::SETTINGS`]'s size on a slow disk.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// Tells whether there is a database under a data directory.
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("postgres/data/PG_VERSION").exists()
}

/// Tells whether nobody has made a table in a database.
///
/// # Errors
/// `Unavailable` or `Database` if it cannot be reached.
pub async fn is_empty(connect: &PgConnectOptions) -> Result<bool> {
    let mut connection = connect.connect().await?;
    let tables =
        "select not exists (select from pg_tables where schemaname not in ('pg_catalog', 'information_schema'))";
    let is_empty = sqlx::query_scalar(tables).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(is_empty)
}

/// A running Postgres under a data directory. It stops when this is dropped; [`Private::stop`] waits for it.
#[derive(Debug)]
pub struct Private {
    supervisor: Supervisor,
    socket: Socket,
    version: String,
}

impl Private {
    /// Starts it, making the cluster in `data_dir/postgres` on the first call and the database [`DATABASE`] in it.
    ///
    /// What a server that was killed has left behind is stopped first.
    ///
    /// # Errors
    /// `Setup` with a sentence for the operator: Postgres is not installed, or not in the version that wrote the data;
    /// another process holds the directory; it does not start (with the end of its log).
    pub async fn start(data_dir: &Path) -> Result<Self> {
        let data_dir = data_dir.to_owned();
        let (directory, installation) = blocking(move || {
            let directory = Directory::open(&data_dir)?;
            let installation = directory.choose_installation()?;
            directory.stop_leftover()?;
            if directory.version()?.is_none() {
                child::make_cluster(&directory, &installation)?;
            }
            Ok((directory, installation))
        })
        .await?;
        let socket = directory.socket()?;
        let version = installation.version.clone();
        let supervisor = Supervisor::start(directory, installation)?;
        let private = Self { supervisor, socket, version };
        private.wait_until_ready().await?;
        private.create_database_if_missing(DATABASE).await?;
        Ok(private)
    }

    /// Gives how to reach the database [`DATABASE`].
    pub fn connect_options(&self) -> PgConnectOptions {
        self.connect_options_for(DATABASE)
    }

    /// Gives how to reach a database of this cluster. Valid in this process, while `self` lives.
    pub fn connect_options_for(&self, database: &str) -> PgConnectOptions {
        self.socket.connect_options(database)
    }

    /// Makes an empty database and gives how to reach it; one for each test.
    ///
    /// # Errors
    /// `Conflict` if it exists.
    pub async fn create_database(&self, name: &str) -> Result<PgConnectOptions> {
        if !self.create_database_if_missing(name).await? {
            return Err(Error::Conflict(format!("the database {name} exists already")));
        }
        Ok(self.connect_options_for(name))
    }

    /// Gives the version of the binaries, for example `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Gives the postmaster's process id; `None` between its death and its next start.
    pub fn pid(&self) -> Option<i32> {
        self.supervisor.pid()
    }

    /// Stops it (connections are cut, what was committed is on disk) and waits until it is gone.
    pub async fn stop(self) -> Result<()> {
        blocking(move || {
            self.supervisor.stop();
            Ok(())
        })
        .await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let options = self.connect_options_for("postgres");
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let refused = match options.connect().await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(err) => err,
            };
            if let Some(ended) = self.supervisor.ended() {
                return Err(Error::Setup(ended));
            }
            if Instant::now() > deadline {
                return Err(Error::Setup(format!(
                    "Postgres did not answer within {} s: {refused}",
                    READY_DEADLINE.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Tells whether it was missing.
    async fn create_database_if_missing(&self, name: &str) -> Result<bool> {
        let mut connection: PgConnection = self.connect_options_for("postgres").connect().await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            // A statement like this takes no parameters; the name is quoted as an identifier.
            let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(!exists)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|err| Error::Setup(err.to_string()))?
}

/// Asks a database for its version without touching what is in it, for example `15.18`.
pub async fn probe(options: &PgConnectOptions) -> Result<String> {
    let mut connection: PgConnection = options.connect().await?;
    let version = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(version)
}
