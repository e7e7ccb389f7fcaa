//! Runs in environments whose image has to be built, and what happens to builds when servers and environments go.

use std::time::Duration;

use domain::{
    EnvironmentId,
    build::{Build, BuildStatus},
    environment::{Environment, EnvironmentSettings},
    event::{Event, LogLevel},
    run::Outcome,
};
use scripted_claude::Reply;

use crate::world::{World, bash};

/// Gives the world's environment other lines of a Dockerfile.
async fn extend(world: &World, lines: &str) {
    let change = |environment: &mut Environment| {
        environment.settings.dockerfile_extensions = Some(lines.to_owned());
        Ok::<_, store::Error>(())
    };
    let changed = world.store().update_environment(&world.database.project, &world.environment, None, change).await;
    changed.expect("changes");
}

async fn find(world: &World, id: &EnvironmentId) -> Environment {
    world.store().find_environment(&world.database.project, id).await.expect("reads").expect("is there")
}

/// The statuses of all builds, oldest first.
async fn statuses(world: &World) -> Vec<String> {
    let pool = world.database.pool().await;
    sqlx::query_scalar("select status from builds order by created_at").fetch_all(&pool).await.expect("reads")
}

async fn logs(world: &World) -> Vec<(LogLevel, String)> {
    let events = world.events().await.into_iter();
    let logs = events.filter_map(|event| match event.event {
        Event::Log { level, topic, message } if topic == "setup" => Some((level, message)),
        _ => None,
    });
    logs.collect()
}

/// What a build has said so far.
async fn log(world: &World, build: &Build) -> String {
    let pieces = world.store().list_build_log(&build.id, 0).await.expect("reads");
    pieces.into_iter().map(|piece| piece.text).collect()
}

/// Waits until the environment's build is as `is_right` wants it.
async fn build(world: &World, is_right: impl Fn(&Build) -> bool) -> Build {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let latest = find(world, &world.environment).await.build.latest;
        match latest {
            Some(latest) if is_right(&latest) => return latest,
            latest => assert!(tokio::time::Instant::now() < deadline, "not within a minute: {latest:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A model that looks at a file of the image and repeats what it saw.
fn looks() -> impl Fn(&scripted_claude::Asked) -> Reply + Send + Sync + 'static {
    |asked| match asked.last_results().next() {
        Some(_) => Reply::text(asked.last_result_text()),
        None => bash("cat /opt/mark"),
    }
}

fn answer(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Completed { content } => content,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_waits_for_its_image_and_the_next_one_does_not() {
    let world = World::new(looks()).await;
    let server = world.server("node_1").await;
    extend(&world, "RUN echo first > /opt/mark").await;
    assert!(answer(&world.ask("Look").await).contains("first"));
    let said: Vec<String> = logs(&world).await.into_iter().map(|(_, message)| message).collect();
    assert_eq!(said.first().map(String::as_str), Some("The environment's image is being built."), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("Step ") && line.contains("/opt/mark")), "{said:?}");
    assert!(said.last().is_some_and(|line| line.starts_with("The environment's image is ready")), "{said:?}");
    world.ask("Again").await;
    assert_eq!(logs(&world).await.len(), said.len(), "nothing was built again");
    // An equal environment shares the image.
    let settings = EnvironmentSettings {
        internet_access: false,
        dockerfile_extensions: Some("RUN echo first > /opt/mark".to_owned()),
        ..Default::default()
    };
    let new =
        store::environments::NewEnvironment { name: "equal".into(), settings, secrets: Vec::new(), is_default: false };
    let equal = world.store().create_environment(&world.database.project, new).await.expect("an environment");
    let plan = world.sandboxes.plan(&equal).await.expect("plans").expect("has to be built");
    let new =
        store::builds::NewBuild { hash: plan.hash, image: plan.image, base: plan.base, dockerfile: plan.dockerfile };
    let reuse = store::builds::Reuse::Good;
    let shared = world.store().request_build(&world.database.project, &equal.id, &new, reuse).await.expect("a build");
    assert_eq!(shared.status, BuildStatus::Ready);
    assert_eq!(find(&world, &equal.id).await.build.image, find(&world, &world.environment).await.build.image);
    assert_eq!(statuses(&world).await, ["ready"]);
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test]
async fn a_build_that_fails_fails_the_run_or_leaves_the_image_before_it() {
    let world = World::new(looks()).await;
    let server = world.server("node_1").await;
    extend(&world, "RUN echo the reason >&2; exit 3").await;
    match world.ask("Look").await {
        Outcome::Failed { code, message } => {
            assert_eq!(code, "build_failed");
            assert!(message.contains("could not be built") && message.contains("the reason"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    extend(&world, "RUN echo good > /opt/mark").await;
    assert!(answer(&world.ask("Look").await).contains("good"));
    extend(&world, "RUN echo bad > /opt/mark; exit 3").await;
    for _ in 0..2 {
        assert!(answer(&world.ask("Look").await).contains("good"), "the last good image stays in use");
    }
    let warnings = logs(&world).await.into_iter().filter(|(level, _)| *level == LogLevel::Warning).count();
    assert_eq!(warnings, 2);
    assert_eq!(statuses(&world).await, ["failed", "ready", "failed"], "what failed is not tried again for nothing");
    let latest = find(&world, &world.environment).await.build.latest.expect("a build");
    assert!(latest.error.expect("says why").contains("exit 3"));
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_build_can_be_cancelled_and_the_build_goes_with_its_environment() {
    let world = World::new(looks()).await;
    let server = world.server_with("node_1", |options| options.lease = Duration::from_secs(3)).await;
    extend(&world, "RUN echo begun && sleep 300").await;
    let started = world.send("Look").await;
    let running = build(&world, |build| build.status == BuildStatus::Running).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !log(&world, &running).await.contains("begun\n") {
        assert!(tokio::time::Instant::now() < deadline, "the step does not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.store().cancel_active_run(&world.database.project, &started.thread_id).await.expect("cancels");
    assert!(matches!(world.outcome(&started.run_id).await, Outcome::Cancelled));
    assert!(build(&world, |_| true).await.status.is_under_way(), "others may wait for it");
    world.store().delete_environment(&world.database.project, &world.environment, false).await.expect("deletes");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while statuses(&world).await != ["cancelled"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", statuses(&world).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop_soft().await;
    world.end().await;
}

#[tokio::test]
async fn a_build_is_taken_up_after_its_server_was_killed() {
    let world = World::new(looks()).await;
    let lease = Duration::from_secs(3);
    let first = world.server_with("node_1", |options| options.lease = lease).await;
    extend(&world, "RUN echo begun && sleep 8\nRUN echo done > /opt/mark").await;
    let started = world.send("Look").await;
    let running = build(&world, |build| build.status == BuildStatus::Running).await;
    first.kill();
    let second = world.server_with("node_2", |options| options.lease = lease).await;
    assert!(answer(&world.outcome(&started.run_id).await).contains("done"));
    assert_eq!(statuses(&world).await, ["ready"]);
    let log = log(&world, &running).await;
    assert!(log.contains("interrupted and begins again") && log.contains("Successfully"), "{log}");
    second.stop_soft().await;
    world.end().await;
}
