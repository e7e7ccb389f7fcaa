//! What a server may leave behind that is neither a process nor on the engine.

use std::{fs, path::Path};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use store::postgres::Private;

/// Lists the runs that are held by somebody, in the private Postgres of a data directory. No server may use it.
pub(crate) async fn leases(data: &Path) -> Vec<String> {
    let private = Private::start(data).await.expect("Postgres starts");
    let leases = leases_in(&private.connect_options()).await;
    private.stop().await.expect("Postgres stops");
    leases
}

/// The same in a database that runs.
pub(crate) async fn leases_in(options: &PgConnectOptions) -> Vec<String> {
    let mut connection = PgConnection::connect_with(options).await.expect("connects");
    let held = "select id || ' ' || status from runs where lease_token is not null";
    let leases = sqlx::query_scalar(held).fetch_all(&mut connection).await.expect("reads");
    connection.close().await.expect("closes");
    leases
}

/// Lists what is in a directory.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("is there").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
