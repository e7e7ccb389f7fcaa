//! The handle that everything here hangs on: a pool, the hub of hints and the key that seals secrets.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{Error, Result, hub::Hub, seal::Sealer};

/// The migrations, in order, compiled into the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// How to reach the database.
pub struct Options {
    pub connect: PgConnectOptions,
    pub max_connections: u32,
    /// How long a call waits for a free connection before it says that the database is not reachable.
    pub acquire_timeout: Duration,
    /// Names this server in leases. After a restart the same node takes its own runs back at once.
    pub node: String,
    pub sealer: Sealer,
}

/// The database of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) hub: Arc<Hub>,
    pub(crate) node: Arc<str>,
    pub(crate) sealer: Arc<Sealer>,
}

impl Store {
    /// Connects and brings the schema up to date.
    ///
    /// # Errors
    /// `Unavailable` if nothing answers; `Setup` if the schema is newer than this binary or a migration fails.
    pub async fn open(options: Options) -> Result<Self> {
        // The pool tries until its time is over and then says just that. What is wrong with the address, the name or the
        // password is known to one connection alone.
        timeout(options.acquire_timeout, PgConnection::connect_with(&options.connect))
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(refused)?
            .close()
            .await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .min_connections(2.min(options.max_connections))
            .acquire_timeout(options.acquire_timeout)
            // Asking a connection whether it is alive costs a round trip per statement. A dead one shows itself by an
            // error, which callers must handle anyway.
            .test_before_acquire(false)
            .connect_with(options.connect)
            .await?;
        MIGRATOR.run(&pool).await.map_err(|err| Error::Setup(err.to_string()))?;
        Ok(Self::with_pool(pool, options.node, options.sealer))
    }

    /// Wraps a pool whose schema is up to date (tests make one database each).
    pub fn with_pool(pool: PgPool, node: impl Into<Arc<str>>, sealer: Sealer) -> Self {
        Self { pool, hub: Arc::new(Hub::default()), node: node.into(), sealer: Arc::new(sealer) }
    }

    /// Gives where the parts of this process tell each other to look again.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Gives the version the database server says of itself, for example `15.18`.
    pub async fn server_version(&self) -> Result<String> {
        Ok(sqlx::query_scalar("show server_version").fetch_one(&self.pool).await?)
    }

    /// Closes every connection; calls after this fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Tells a server that is not there from one that says no.
fn refused(err: sqlx::Error) -> Error {
    match &err {
        sqlx::Error::Database(said) => Error::Setup(said.message().to_owned()),
        sqlx::Error::Io(cause) => Error::Setup(cause.to_string()),
        _ => err.into(),
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub limit: i64,
    pub offset: i64,
}

impl Page {
    /// Everything, for lists that are short by nature.
    pub const ALL: Self = Self { limit: i64::MAX, offset: 0 };
}

/// A part of a list, with the size of the whole.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    pub items: Vec<T>,
    pub total: i64,
}
