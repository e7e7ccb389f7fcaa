//! An environment that is deleted while runs begin in it.

use domain::run::RunStatus;
use store::Error;
use testing::Database;

use crate::{new_run, new_thread};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_while_its_environment_is_deleted_is_refused_or_asked_to_stop() {
    let database = Database::start().await;
    let (store, project) = (&database.store, &database.project);
    let (mut refused, mut stopped) = (0, 0);
    for n in 0..30 {
        let new = store::environments::NewEnvironment {
            name: format!("environment {n}"),
            settings: domain::environment::EnvironmentSettings::default(),
            secrets: Vec::new(),
            is_default: false,
        };
        let environment = store.create_environment(project, new).await.expect("an environment").id;
        let thread = store.create_thread(project, new_thread(environment.clone())).await.expect("a thread").id;
        let starting = store.start_run(project, &thread, new_run("hello"));
        let deleting = async {
            // Now and then later, so that both orders come.
            for _ in 0..n % 10 {
                tokio::task::yield_now().await;
            }
            store.delete_environment(project, &environment, false).await
        };
        let (started, deleted) = tokio::join!(starting, deleting);
        deleted.expect("is deleted");
        match started {
            Err(Error::State(_)) => refused += 1,
            Err(err) => panic!("{err:?}"),
            Ok(started) => {
                stopped += 1;
                let status = store.find_run_status(&started.run_id).await.expect("reads");
                assert_eq!(status, Some(RunStatus::Cancelled), "no run is left in an environment that is gone");
            }
        }
    }
    assert_eq!(refused + stopped, 30);
}
