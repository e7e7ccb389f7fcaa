//! Real parts for tests: a Postgres of one's own for every test.
//!
//! Making a cluster takes a second, copying one a few hundredths, and test runners start a process per test. So one
//! cluster is made per machine and version and kept in the temporary directory; each test starts a copy of it.

mod mcp_servers;
mod report;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use domain::ProjectId;
use sqlx::{ConnectOptions, PgPool, postgres::PgPoolOptions};
use store::{Store, postgres::Private, seal::Sealer};
use tempfile::TempDir;

pub use mcp_servers::{mcp_python_sdk, mcp_servers};
pub use report::{Report, Tries, times};

/// An empty, migrated database and its store. Everything is gone when it is dropped.
pub struct Database {
    pub store: Store,
    pub project: ProjectId,
    pub private: Private,
    // Last: the directory goes after the server in it.
    directory: TempDir,
}

impl Database {
    /// Starts a Postgres of its own.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let template = template().await;
        copy(&template.join("postgres"), &directory.path().join("postgres"));
        let private = Private::start(directory.path()).await.expect("Postgres starts");
        let store = Self::connect(&private, "node_test").await;
        let project = store.default_project().await.expect("a project");
        Self { store, project, private, directory }
    }

    /// Connects once more, as another server would.
    pub async fn another_server(&self, node: &str) -> Store {
        Self::connect(&self.private, node).await
    }

    /// Gives a pool for what no store does: looking at rows, moving the clock.
    pub async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect_with(self.private.connect_options()).await.expect("connects")
    }

    /// Gives how a program reaches it, for its settings. The socket is only the owner's.
    pub fn url(&self) -> String {
        self.private.connect_options().to_url_lossy().into()
    }

    /// Gives the data directory that the cluster lives in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    async fn connect(private: &Private, node: &str) -> Store {
        Store::open(store::Options {
            connect: private.connect_options(),
            max_connections: 16,
            acquire_timeout: std::time::Duration::from_secs(10),
            node: node.to_owned(),
            sealer: Sealer::new(&[7; 32]),
        })
        .await
        .expect("the store opens")
    }
}

/// Gives the directory of a stopped, migrated cluster, made by the first test that asks.
async fn template() -> PathBuf {
    let version = store::postgres::find_installations().into_iter().next().expect("Postgres is installed").version;
    // The migrations are part of the name: a changed schema is another template.
    let schema = store::MIGRATOR.iter().fold(0_u64, |hash, migration| {
        migration.checksum.iter().fold(hash, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    });
    let root = std::env::temp_dir().join("atelier-test-postgres");
    fs::create_dir_all(&root).expect("the temporary directory is writable");
    let lock = File::create(root.join("lock")).expect("a lock file");
    let _lock = tokio::task::spawn_blocking(|| {
        nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, err)| err).expect("locks")
    })
    .await
    .expect("the lock's thread ends");
    let template = root.join(format!("{version}-{schema:016x}"));
    if !template.exists() {
        let making = tempfile::tempdir_in(&root).expect("a temporary directory");
        let private = Private::start(making.path()).await.expect("Postgres starts");
        Database::connect(&private, "node_template").await.close().await;
        private.stop().await.expect("Postgres stops");
        fs::rename(making.keep(), &template).expect("the template gets its name");
    }
    template
}

/// Copies with owners and modes, as Postgres wants them.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg("--reflink=auto").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "cannot copy the template cluster");
}
