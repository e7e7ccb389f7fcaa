//! The store against a real Postgres: what is promised under races, crashes and lost answers.

mod environments;
mod leases;
mod mcp;
mod ownership;
mod queue;
mod runs;
mod schedules;
mod sealing;
mod search;
mod steering;
mod tail;

use domain::ThreadId;
use store::{
    leases::Claimed,
    runs::{NewRun, Started},
    threads::NewThread,
};
use testing::Database;

pub(crate) const TTL: std::time::Duration = std::time::Duration::from_secs(15);

pub(crate) fn new_thread(environment: domain::EnvironmentId) -> NewThread {
    NewThread {
        environment_id: environment,
        agent_id: None,
        app_id: None,
        title: None,
        task: None,
        metadata: None,
        limits: domain::limits::Limits::default(),
    }
}

pub(crate) fn new_run(content: &str) -> NewRun {
    NewRun { messages: vec![content.into()], ..NewRun::default() }
}

pub(crate) async fn thread(database: &Database) -> ThreadId {
    let environment = database.store.default_environment(&database.project).await.expect("an environment");
    database.store.create_thread(&database.project, new_thread(environment.id)).await.expect("a thread").id
}

pub(crate) async fn start(database: &Database, thread: &ThreadId) -> Started {
    database.store.start_run(&database.project, thread, new_run("hello")).await.expect("a run")
}

pub(crate) async fn claim(store: &store::Store) -> Claimed {
    let mut claimed = store.claim_runs(1, TTL).await.expect("claims");
    assert_eq!(claimed.len(), 1, "one run is there to claim");
    claimed.remove(0)
}
