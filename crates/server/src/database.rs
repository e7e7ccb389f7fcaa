//! Which database a command talks to: the one that is set, the private one of a running server, or the private one started
//! for the moment.

use std::sync::Arc;

use anyhow::Context;
use store::{
    ConnectOptions, Store,
    postgres::{Private, Socket},
    seal::Sealer,
};

use crate::{
    config::{Config, database_options},
    data_dir::DataDir,
};

/// A database that is ready, and what keeps it so.
pub(crate) struct Database {
    pub(crate) store: Store,
    private: Option<Private>,
    _socket: Option<Arc<Socket>>,
}

impl Database {
    /// Opens the database for the server: a private one is started.
    pub(crate) async fn serve(config: &Config, data_dir: &DataDir) -> anyhow::Result<Self> {
        Self::open(config, data_dir, None).await
    }

    /// Opens the database beside a server that may be running.
    pub(crate) async fn visit(config: &Config, data_dir: &DataDir) -> anyhow::Result<Self> {
        let socket = if config.database.url.is_none() { Socket::find(data_dir.path())? } else { None };
        Self::open(config, data_dir, socket).await
    }

    async fn open(config: &Config, data_dir: &DataDir, socket: Option<Socket>) -> anyhow::Result<Self> {
        let (connect, private) = match (&config.database.url, &socket) {
            (Some(url), _) => (database_options(url).context("database.url cannot be read")?, None),
            (None, Some(socket)) => (socket.connect_options(store::postgres::DATABASE), None),
            (None, None) => {
                let private = Private::start(data_dir.path()).await?;
                (private.connect_options(), Some(private))
            }
        };
        match open_store(config, data_dir, connect).await {
            Ok(store) => Ok(Self { store, private, _socket: socket.map(Arc::new) }),
            Err(err) => {
                if let Some(private) = private {
                    private.stop().await?;
                }
                Err(err)
            }
        }
    }

    /// Tells what it is, for the log and for doctor.
    pub(crate) async fn describe(&self) -> String {
        let version = self.store.server_version().await.unwrap_or_else(|_| "?".into());
        let kind = if self.private.is_some() || self._socket.is_some() { "private" } else { "yours" };
        format!("PostgreSQL {version} ({kind})")
    }

    /// Closes the connections, and stops the private Postgres if this process started it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

async fn open_store(config: &Config, data_dir: &DataDir, connect: ConnectOptions) -> anyhow::Result<Store> {
    let options = store::Options {
        connect,
        max_connections: config.database.max_connections,
        acquire_timeout: config.database.acquire_timeout,
        node: data_dir.node()?,
        sealer: Sealer::new(&data_dir.secret_key()?),
    };
    Store::open(options).await.context(match config.database.url {
        Some(_) => "cannot open the database of the setting database.url",
        None => "cannot open the private database",
    })
}
