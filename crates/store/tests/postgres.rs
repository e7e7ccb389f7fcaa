//! The private Postgres with the real binaries: what an operator does to it, and what kills it.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, PgConnection};
use store::postgres::{Private, Socket};
use tempfile::TempDir;

async fn connect(postgres: &Private) -> PgConnection {
    postgres.connect_options().connect().await.expect("connects")
}

async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Tells whether anything but a zombie has the directory as its working directory, as every Postgres process has.
fn is_in_use(directory: &Path) -> bool {
    std::fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .any(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let postgres = Private::start(dir.path()).await.unwrap();
    let mut connection = connect(&postgres).await;
    sqlx::query("create table notes (note text)").execute(&mut connection).await.unwrap();
    sqlx::query("insert into notes values ('kept')").execute(&mut connection).await.unwrap();
    // Nothing but the socket: no port, whatever a file may say.
    let listen: String = sqlx::query_scalar("show listen_addresses").fetch_one(&mut connection).await.unwrap();
    assert_eq!(listen, "");
    connection.close().await.unwrap();
    postgres.stop().await.unwrap();
    assert!(!is_in_use(dir.path()));

    let postgres = Private::start(dir.path()).await.unwrap();
    let note: String =
        sqlx::query_scalar("select note from notes").fetch_one(&mut connect(&postgres).await).await.unwrap();
    assert_eq!(note, "kept");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again() {
    let dir = TempDir::new().unwrap();
    let postgres = Private::start(dir.path()).await.unwrap();
    let pool = sqlx::PgPool::connect_with(postgres.connect_options()).await.unwrap();
    sqlx::query("create table notes (note text)").execute(&pool).await.unwrap();
    sqlx::query("insert into notes values ('kept')").execute(&pool).await.unwrap();
    let first = postgres.pid().unwrap();
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    wait_for("the pool's recovery", async || {
        sqlx::query_scalar::<_, String>("select note from notes")
            .fetch_one(&pool)
            .await
            .is_ok_and(|note| note == "kept")
            && postgres.pid().is_some_and(|pid| pid != first)
    })
    .await;
    pool.close().await;
    postgres.stop().await.unwrap();
    assert!(!is_in_use(dir.path()));
}

#[tokio::test]
async fn a_second_start_on_one_directory_is_refused_and_the_first_found() {
    let dir = TempDir::new().unwrap();
    assert!(Socket::find(dir.path()).unwrap().is_none());
    let postgres = Private::start(dir.path()).await.unwrap();
    let refused = Private::start(dir.path()).await.unwrap_err().to_string();
    assert!(refused.contains("another process uses the private Postgres in"), "{refused}");
    let found = Socket::find(dir.path()).unwrap().expect("found");
    found.connect_options("atelier").connect().await.expect("connects");
    postgres.stop().await.unwrap();
    assert!(Socket::find(dir.path()).unwrap().is_none());
}

#[tokio::test]
async fn data_of_another_major_version_are_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir_all(dir.path().join("postgres/data")).unwrap();
    std::fs::write(dir.path().join("postgres/data/PG_VERSION"), "9.6\n").unwrap();
    let refused = Private::start(dir.path()).await.unwrap_err().to_string();
    assert!(refused.contains("were written by PostgreSQL 9 but PostgreSQL "), "{refused}");
    assert!(refused.contains("install the package postgresql-9"), "{refused}");
}

#[tokio::test]
async fn a_postmaster_left_behind_is_replaced() {
    let dir = TempDir::new().unwrap();
    let postgres = Private::start(dir.path()).await.unwrap();
    let pid_file = dir.path().join("postgres/data/postmaster.pid");
    postgres.stop().await.unwrap();

    // As after the death of a server whose kernel told nobody: a postmaster without a supervisor.
    let data = dir.path().join("postgres/data");
    let bin = store::postgres::find_installations()[0].bin.clone();
    let mut orphan = Command::new("setpriv");
    if nix::unistd::Uid::effective().is_root() {
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(&data).unwrap();
        orphan.args(["--reuid", &owner.uid().to_string(), "--regid", &owner.gid().to_string(), "--clear-groups"]);
        // Only for this test the way is opened: the orphan is given a plain path.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::set_permissions(dir.path().join("postgres"), std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .unwrap();
    }
    orphan.arg("--").arg(bin.join("postgres")).arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(&data);
    let mut orphan = orphan.current_dir("/").stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the orphan's start", async || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))
    })
    .await;

    let postgres = Private::start(dir.path()).await.unwrap();
    assert_ne!(postgres.pid(), Some(orphan.id() as i32));
    assert!(orphan.wait().unwrap().success(), "the orphan was stopped cleanly");
    connect(&postgres).await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let dir = TempDir::new().unwrap();
    let deep = dir.path().join("a-directory-with-a-long-name".repeat(5));
    let postgres = Private::start(&deep).await.unwrap();
    let options = postgres.create_database("other").await.unwrap();
    assert!(postgres.create_database("other").await.is_err());
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut options.connect().await.unwrap()).await.unwrap();
    assert_eq!(name, "other");
    drop(postgres);
    assert!(!is_in_use(&deep), "dropping it stops it");
}
