//! The server's own Postgres, seen from beside it: what a commit costs there, and what our store makes of it.
//!
//! A database of its own in the same cluster, so that log, disk and settings are the server's.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use domain::{
    environment::EnvironmentSettings,
    event::{Event, Item},
};
use futures::future::try_join_all;
use sqlx::{Connection, PgConnection};
use store::{
    ConnectOptions, Store,
    environments::NewEnvironment,
    leases::{Checkpoint, Lease},
    postgres::Socket,
    runs::NewRun,
    seal::Sealer,
    threads::NewThread,
};

const DATABASE: &str = "bench";

/// Writers at once, and connections for them as the server has.
pub(crate) const WRITERS: usize = 32;
const CONNECTIONS: u32 = 20;

/// Longer than any measurement.
const LEASE: Duration = Duration::from_secs(3600);

/// A database in the server's cluster.
pub(crate) struct Database {
    socket: Socket,
    connection: PgConnection,
}

impl Database {
    pub(crate) async fn create(data: &Path) -> anyhow::Result<Self> {
        let socket = Socket::find(data)?.context("the server's Postgres runs")?;
        let mut server = PgConnection::connect_with(&socket.connect_options(store::postgres::DATABASE)).await?;
        // Left by an earlier call, where the data are kept.
        sqlx::query("drop database if exists bench").execute(&mut server).await?;
        sqlx::query("create database bench").execute(&mut server).await?;
        server.close().await?;
        let mut connection = PgConnection::connect_with(&socket.connect_options(DATABASE)).await?;
        let synchronous: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&mut connection).await?;
        ensure!(synchronous == "on", "synchronous_commit is {synchronous}");
        sqlx::query("create table lines (id bigint generated always as identity primary key, line text not null)")
            .execute(&mut connection)
            .await?;
        Ok(Self { socket, connection })
    }

    /// Commits one row.
    pub(crate) async fn commit(&mut self) -> anyhow::Result<()> {
        insert(&mut self.connection).await
    }

    /// Gives how many rows a second many connections commit, one row a commit.
    pub(crate) async fn commits_per_second(&self, duration: Duration) -> anyhow::Result<f64> {
        let options = self.options();
        let writers = try_join_all((0..CONNECTIONS).map(|_| PgConnection::connect_with(&options))).await?;
        let began_at = Instant::now();
        let writing = writers.into_iter().map(|mut connection| async move {
            let mut rows = 0;
            while began_at.elapsed() < duration {
                insert(&mut connection).await?;
                rows += 1;
            }
            connection.close().await?;
            anyhow::Ok(rows)
        });
        let rows: u64 = try_join_all(writing.map(tokio::spawn)).await?.into_iter().sum::<anyhow::Result<u64>>()?;
        Ok(rows as f64 / began_at.elapsed().as_secs_f64())
    }

    /// Opens a store with [`WRITERS`] runs under way, each in a thread of its own.
    pub(crate) async fn writers(&self) -> anyhow::Result<Writers> {
        let store = Store::open(store::Options {
            connect: self.options(),
            max_connections: CONNECTIONS,
            acquire_timeout: Duration::from_secs(30),
            node: "bench".to_owned(),
            sealer: Sealer::new(&[0; 32]),
        })
        .await?;
        let project = store.default_project().await?;
        let settings = EnvironmentSettings::default();
        let new = NewEnvironment { name: "bench".to_owned(), settings, secrets: Vec::new(), is_default: false };
        let environment = store.create_environment(&project, new).await?;
        for _ in 0..WRITERS {
            let new = NewThread {
                environment_id: environment.id.clone(),
                agent_id: None,
                app_id: None,
                title: None,
                task: None,
                metadata: None,
                limits: domain::limits::Limits::default(),
            };
            let thread = store.create_thread(&project, new).await?;
            let messages = vec!["write".into()];
            let new = NewRun { messages, ..NewRun::default() };
            store.start_run(&project, &thread.id, new).await?;
        }
        let claimed = store.claim_runs(WRITERS as i64, LEASE).await?;
        ensure!(claimed.len() == WRITERS, "{} runs were claimed", claimed.len());
        Ok(Writers { store, leases: claimed.into_iter().map(|claimed| claimed.lease).collect() })
    }

    fn options(&self) -> ConnectOptions {
        self.socket.connect_options(DATABASE)
    }
}

async fn insert(connection: &mut PgConnection) -> anyhow::Result<()> {
    let line = "a line of about the size of an event, with nothing in it that anybody would want to read";
    sqlx::query("insert into lines (line) values ($1)").bind(line).execute(connection).await?;
    Ok(())
}

/// Runs under way.
pub(crate) struct Writers {
    store: Store,
    leases: Vec<Lease>,
}

impl Writers {
    /// Gives how many durable events a second the runs write, `events` in each checkpoint.
    pub(crate) async fn events_per_second(&mut self, events: usize, duration: Duration) -> anyhow::Result<f64> {
        let began_at = Instant::now();
        let writing = self.leases.drain(..).map(|mut lease| {
            let store = self.store.clone();
            tokio::spawn(async move {
                let text = "twenty-three-characters ".repeat(8);
                let event = Event::ItemCompleted { item: Item::Text { text } };
                let checkpoint = Checkpoint { events: vec![event; events], ..Checkpoint::default() };
                let mut written = 0;
                while began_at.elapsed() < duration {
                    store.checkpoint(&mut lease, &checkpoint).await?;
                    written += events;
                }
                anyhow::Ok((lease, written))
            })
        });
        let mut written = 0;
        for done in try_join_all(writing.collect::<Vec<_>>()).await? {
            let (lease, events) = done?;
            written += events;
            self.leases.push(lease);
        }
        Ok(written as f64 / began_at.elapsed().as_secs_f64())
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}
