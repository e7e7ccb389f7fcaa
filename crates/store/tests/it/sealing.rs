//! Secrets of MCP servers: nowhere in the database as they are, and read as they were.

use domain::environment::{Environment, EnvironmentSettings};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::{Error, environments::NewEnvironment};
use testing::Database;

/// Gives all rows of all tables as text.
async fn dump(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' order by 1",
    )
    .fetch_all(pool)
    .await
    .expect("reads");
    assert!(tables.len() > 20, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let select = format!("select coalesce(string_agg(t::text, ' '), '') from \"{table}\" t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(pool).await.expect("reads");
        all.push_str(&rows);
    }
    all
}

fn servers() -> Vec<Value> {
    vec![
        json!({"name": "docs", "url": "https://example.com/mcp", "bearerToken": "canary-1", "clientSecret": "canary-5", "headers": {"X-Key": "canary-2"}}),
        json!({"name": "local", "command": "run", "env": {"TOKEN": "canary-3", "LEVEL": "canary-4"}}),
    ]
}

fn new(name: &str, settings: EnvironmentSettings) -> NewEnvironment {
    NewEnvironment { name: name.into(), settings, secrets: Vec::new(), is_default: false }
}

#[tokio::test]
async fn no_secret_of_an_mcp_server_is_in_the_database() {
    let database = Database::start().await;
    let (store, project, pool) = (&database.store, &database.project, database.pool().await);
    let settings = EnvironmentSettings { mcp_servers: servers(), ..EnvironmentSettings::default() };
    let made = store.create_environment(project, new("first", settings)).await.expect("is made");
    let all = dump(&pool).await;
    assert!(all.contains("https://example.com/mcp") && !all.contains("canary"), "{all}");
    assert_eq!(store.open_mcp_servers(&made).expect("opens"), servers());

    // Made from it, another can open what it got; a server of another name has another place.
    let copy = store.create_environment(project, new("second", made.settings.clone())).await.expect("is made");
    assert_eq!(store.open_mcp_servers(&copy).expect("opens"), servers());
    let mut moved = made.clone();
    moved.settings.mcp_servers[0]["name"] = "other".into();
    assert!(matches!(store.open_mcp_servers(&moved), Err(Error::Unreadable { .. })));

    // As an older release has left it: read as it is, sealed with the next change.
    sqlx::query("update environments set settings = jsonb_set(settings, '{mcp_servers}', $2) where id = $1")
        .bind(made.id.as_str())
        .bind(json!(servers()))
        .execute(&pool)
        .await
        .expect("writes");
    assert!(dump(&pool).await.contains("canary-3"), "the dump shows what is there");
    let old = store.find_environment(project, &made.id).await.expect("reads").expect("is there");
    assert_eq!(store.open_mcp_servers(&old).expect("opens"), servers());
    let rename = |environment: &mut Environment| {
        environment.name = "renamed".into();
        Ok::<_, Error>(())
    };
    let renamed = store.update_environment(project, &made.id, None, rename).await.expect("changes");
    assert_eq!(store.open_mcp_servers(&renamed).expect("opens"), servers());
    let all = dump(&pool).await;
    assert!(!all.contains("canary"), "{all}");
}
