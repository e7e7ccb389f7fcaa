//! Another project's rows are not found, whatever one asks of them.

use domain::{ProjectId, agent::AgentSettings};
use secrecy::{ExposeSecret, SecretString};
use store::{
    Error, Page,
    agents::NewAgent,
    environments::NewEnvironment,
    threads::{NewThread, ThreadFilter},
};
use testing::Database;

use crate::{new_run, new_thread, thread};

fn is_not_found<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

#[tokio::test]
async fn another_projects_rows_are_not_found() {
    let database = Database::start().await;
    let store = &database.store;
    let stranger: ProjectId = store.create_project("Stranger").await.expect("a project");
    let environment = store.default_environment(&database.project).await.expect("an environment");
    let thread = thread(&database).await;
    let new = NewAgent {
        id: Some("chosen".parse().expect("valid")),
        name: "a".into(),
        model: "m".into(),
        settings: AgentSettings::default(),
        is_default: false,
        is_system: false,
    };
    let agent = store.create_agent(&database.project, new).await.expect("an agent");

    assert!(store.find_thread(&stranger, &thread).await.expect("reads").is_none());
    assert!(store.find_agent(&stranger, &agent.id).await.expect("reads").is_none());
    assert!(store.find_environment(&stranger, &environment.id).await.expect("reads").is_none());
    assert!(is_not_found(store.update_thread(&stranger, &thread, |_| {}).await));
    assert!(is_not_found(store.update_agent(&stranger, &agent.id, |_| {}).await));
    assert!(is_not_found(store.update_environment(&stranger, &environment.id, None, |_| Ok::<_, Error>(())).await));
    assert!(is_not_found(store.delete_thread(&stranger, &thread).await));
    assert!(is_not_found(store.delete_agent(&stranger, &agent.id, true).await));
    assert!(is_not_found(store.delete_environment(&stranger, &environment.id, true).await));
    assert!(is_not_found(store.start_run(&stranger, &thread, new_run("x")).await));
    assert!(is_not_found(store.create_thread(&stranger, new_thread(environment.id.clone())).await));
    let own = store.default_environment(&stranger).await.expect("an environment");
    let foreign_agent = NewThread { agent_id: Some(agent.id.clone()), ..new_thread(own.id) };
    assert!(is_not_found(store.create_thread(&stranger, foreign_agent).await));
    assert_eq!(store.cancel_active_run(&stranger, &thread).await.expect("reads"), None);
    assert_eq!(store.list_threads(&stranger, &ThreadFilter::default(), Page::ALL).await.expect("reads").total, 0);
    assert_eq!(store.list_agents(&stranger, Page::ALL).await.expect("reads").total, 0);
}

#[tokio::test]
async fn the_default_environment_is_one_even_when_many_ask_first() {
    let database = Database::start().await;
    let asked = futures::future::join_all((0..8).map(|_| database.store.default_environment(&database.project))).await;
    let ids: std::collections::HashSet<_> = asked.into_iter().map(|found| found.expect("an environment").id).collect();
    assert_eq!(ids.len(), 1);
    // A new default takes its place.
    let new = NewEnvironment {
        name: "b".into(),
        settings: domain::environment::EnvironmentSettings::default(),
        secrets: Vec::new(),
        is_default: true,
    };
    let second = database.store.create_environment(&database.project, new).await.expect("an environment");
    assert_eq!(database.store.default_environment(&database.project).await.expect("reads").id, second.id);
}

#[tokio::test]
async fn a_secret_is_sealed_in_the_database_and_opens_for_its_environment() {
    let database = Database::start().await;
    let new = NewEnvironment {
        name: "s".into(),
        settings: domain::environment::EnvironmentSettings::default(),
        secrets: vec![("TOKEN".into(), SecretString::from("canary-value"))],
        is_default: false,
    };
    let environment = database.store.create_environment(&database.project, new).await.expect("an environment");
    assert_eq!(environment.secret_keys, ["TOKEN"]);
    let opened = database.store.open_secrets(&environment.id).await.expect("opens");
    assert_eq!(opened[0].1.expose_secret(), "canary-value");
    let pool = database.pool().await;
    let hits: i64 =
        sqlx::query_scalar("select count(*) from environment_secrets where position('canary'::bytea in sealed) > 0")
            .fetch_one(&pool)
            .await
            .expect("reads");
    assert_eq!(hits, 0);
}

#[tokio::test]
async fn a_key_opens_its_project_until_it_is_revoked_or_expires() {
    let database = Database::start().await;
    let store = &database.store;
    let (key, text) = store.create_key(&database.project, "k", None).await.expect("a key");
    let caller = store.find_caller(&text).await.expect("reads").expect("is known");
    assert_eq!(caller.project_id, database.project);
    assert!(text.expose_secret().starts_with("tb_") && text.expose_secret().len() == 67);
    assert!(store.find_caller(&SecretString::from("tb_wrong")).await.expect("reads").is_none());
    store.revoke_key(&key.prefix).await.expect("revokes");
    assert!(store.find_caller(&text).await.expect("reads").is_none());
    assert!(is_not_found(store.revoke_key(key.id.as_str()).await));

    let past = chrono::Utc::now() - chrono::Duration::seconds(1);
    let (_, expired) = store.create_key(&database.project, "old", Some(past)).await.expect("a key");
    assert!(store.find_caller(&expired).await.expect("reads").is_none());
}

#[tokio::test]
async fn a_thread_outlives_its_environment_and_its_agent() {
    let database = Database::start().await;
    let (store, project) = (&database.store, &database.project);
    let environment = store.default_environment(project).await.expect("an environment");
    let new = NewAgent {
        id: None,
        name: "a".into(),
        model: "m".into(),
        settings: AgentSettings::default(),
        is_default: false,
        is_system: false,
    };
    let agent = store.create_agent(project, new).await.expect("an agent");
    let new = NewThread { agent_id: Some(agent.id.clone()), ..new_thread(environment.id.clone()) };
    let thread = store.create_thread(project, new).await.expect("a thread").id;
    store.delete_agent(project, &agent.id, true).await.expect("deletes");
    store.delete_environment(project, &environment.id, false).await.expect("deletes");

    let renamed = store.update_thread(project, &thread, |thread| thread.title = Some("kept".into())).await;
    assert_eq!(renamed.expect("renames").title.as_deref(), Some("kept"));
    let gone = environment.id.clone();
    // In a default environment made anew.
    let other = crate::thread(&database).await;
    assert!(is_not_found(store.update_thread(project, &other, |thread| thread.environment_id = gone).await));
    assert!(is_not_found(store.update_thread(project, &other, |thread| thread.agent_id = Some(agent.id)).await));
}

#[tokio::test]
async fn a_wish_to_wipe_stays_until_it_is_fulfilled_and_no_run_is_there() {
    let database = Database::start().await;
    let (store, project) = (&database.store, &database.project);
    let environment = store.default_environment(project).await.expect("an environment").id;
    let thread = thread(&database).await;
    let secrets = vec![("TOKEN".to_owned(), Some(SecretString::from("x")))];
    let none = |_: &mut domain::environment::Environment| Ok::<_, Error>(());
    store.update_environment(project, &environment, Some(secrets), none).await.expect("updates");
    crate::start(&database, &thread).await;
    let claimed = crate::claim(store).await;
    store.delete_environment(project, &environment, true).await.expect("deletes");

    assert!(store.open_secrets(&environment).await.expect("reads").is_empty());
    store.finish_wipe(&environment).await.expect("a statement");
    assert_eq!(
        store.list_wipes().await.expect("reads"),
        std::slice::from_ref(&environment),
        "the run may write once more"
    );
    store
        .finish_run(&claimed.lease, &domain::run::Outcome::Cancelled, domain::run::Spent::default())
        .await
        .expect("ends");
    store.finish_wipe(&environment).await.expect("a statement");
    assert!(store.list_wipes().await.expect("reads").is_empty());
}
