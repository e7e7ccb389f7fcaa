//! Schedules: each moment fires once, whatever races, and what cannot run is told.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ScheduleId,
    run::{Outcome, Spent},
    schedule::{Execution, ExecutionState, MAX_FAILURES, Missed, Overlap, Tally, Timing, Tz},
};
use store::{
    Page, Store,
    schedules::{ExecutionFilter, NewSchedule},
};
use testing::Database;

use crate::TTL;

fn hourly() -> NewSchedule {
    NewSchedule {
        name: "hourly".into(),
        description: None,
        agent_id: None,
        environment_id: None,
        task: "do it".into(),
        timing: Timing::Recurring("0 * * * *".parse().expect("valid")),
        timezone: Tz::UTC,
        enabled: true,
        missed: Missed::RunOnce,
        overlap: Overlap::Parallel,
        stored: serde_json::Map::new(),
    }
}

async fn start() -> Database {
    let database = Database::start().await;
    database.store.default_environment(&database.project).await.expect("an environment");
    database
}

async fn schedule(database: &Database, new: NewSchedule) -> ScheduleId {
    database.store.create_schedule(&database.project, new).await.expect("a schedule").id
}

/// Has the schedule's next moment be this long ago, as if nobody had looked since then.
async fn let_pass(database: &Database, id: &ScheduleId, ago: TimeDelta) {
    sqlx::query("update schedules set next_run_at = $2 where id = $1")
        .bind(id.as_str())
        .bind(Utc::now() - ago)
        .execute(&database.pool().await)
        .await
        .expect("is changed");
}

async fn fire_all(store: &Store) -> usize {
    let mut count = 0;
    while store.fire_next().await.expect("fires") {
        count += 1;
    }
    count
}

async fn executions(database: &Database, id: &ScheduleId) -> Vec<Execution> {
    let filter = ExecutionFilter { schedule_id: Some(id.to_string()), ..ExecutionFilter::default() };
    database.store.list_executions(&database.project, &filter, Page::ALL).await.expect("reads").items
}

async fn tally(database: &Database, id: &ScheduleId) -> Tally {
    database.store.tally_schedules(std::slice::from_ref(id)).await.expect("counts").remove(id).unwrap_or_default()
}

/// Ends every run that is there to be claimed.
async fn end_runs(database: &Database, outcome: &Outcome) -> usize {
    let claimed = database.store.claim_runs(1000, TTL).await.expect("claims");
    for claimed in &claimed {
        database.store.finish_run(&claimed.lease, outcome, Spent::default()).await.expect("finishes");
    }
    claimed.len()
}

fn completed() -> Outcome {
    Outcome::Completed { content: "done".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_due_at_once_fire_once_each_with_three_servers() {
    const COUNT: usize = 1000;
    let database = start().await;
    for _ in 0..COUNT {
        schedule(&database, hourly()).await;
    }
    let moment: DateTime<Utc> = Utc::now() - TimeDelta::seconds(5);
    sqlx::query("update schedules set next_run_at = $1")
        .bind(moment)
        .execute(&database.pool().await)
        .await
        .expect("is changed");
    let mut servers = tokio::task::JoinSet::new();
    for node in ["one", "two", "three"] {
        let store = database.another_server(node).await;
        servers.spawn(async move { fire_all(&store).await });
    }
    let fired = servers.join_all().await;
    assert_eq!(fired.iter().sum::<usize>(), COUNT, "{fired:?}");
    let counts: (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(distinct schedule_id), (select count(*) from runs) from schedule_executions",
    )
    .fetch_one(&database.pool().await)
    .await
    .expect("counts");
    assert_eq!(counts, (COUNT as i64, COUNT as i64, COUNT as i64), "executions, schedules, runs");
    assert!(fired.iter().all(|count| *count > 0), "all three took part: {fired:?}");
}

#[tokio::test]
async fn what_was_missed_runs_once_or_not_at_all_and_says_so() {
    let database = start().await;
    let once = schedule(&database, hourly()).await;
    let never = schedule(&database, NewSchedule { missed: Missed::Skip, ..hourly() }).await;
    for id in [&once, &never] {
        let_pass(&database, id, TimeDelta::hours(30)).await;
    }
    assert_eq!(fire_all(&database.store).await, 2);
    let ran = executions(&database, &once).await;
    assert_eq!(ran.iter().map(|x| x.state).collect::<Vec<_>>(), [ExecutionState::Started]);
    assert!(Utc::now() - ran[0].scheduled_for <= TimeDelta::hours(1), "the newest of the moments that passed");
    let skipped = executions(&database, &never).await;
    // Within the first minute of an hour the newest moment is not missed yet.
    if Utc::now() - skipped[0].scheduled_for > TimeDelta::minutes(2) {
        assert_eq!(skipped[0].state, ExecutionState::Skipped);
        assert_eq!(skipped[0].error.as_deref(), Some("No server was there at the time"));
    }
    let next = database.store.find_schedule(&database.project, &once).await.expect("reads").expect("is there");
    assert!(next.next_run_at.is_some_and(|next| next > Utc::now()));
}

#[tokio::test]
async fn a_moment_that_meets_the_run_before_is_skipped_queued_or_run_beside_it() {
    let database = start().await;
    let mut ids = Vec::new();
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Parallel] {
        ids.push(schedule(&database, NewSchedule { overlap, ..hourly() }).await);
    }
    for round in 0..3 {
        for id in &ids {
            let_pass(&database, id, TimeDelta::seconds(3 - round)).await;
        }
        fire_all(&database.store).await;
    }
    let mut states = Vec::new();
    for id in &ids {
        states.push(executions(&database, id).await.iter().rev().map(|x| x.state).collect::<Vec<_>>());
    }
    use ExecutionState::{Skipped, Started, Waiting};
    assert_eq!(states, [[Started, Skipped, Skipped], [Started, Waiting, Waiting], [Started, Started, Started]]);
    // What waits runs one after the other.
    assert_eq!(end_runs(&database, &completed()).await, 5);
    assert_eq!(fire_all(&database.store).await, 1);
    assert_eq!(end_runs(&database, &completed()).await, 1);
    assert_eq!(fire_all(&database.store).await, 1);
    assert_eq!(end_runs(&database, &completed()).await, 1);
    assert_eq!(fire_all(&database.store).await, 0);
    let queued = tally(&database, &ids[1]).await;
    assert_eq!((queued.runs, queued.successes, queued.failures), (3, 3, 0));
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_switched_off_and_says_why() {
    let database = start().await;
    let id = schedule(&database, hourly()).await;
    let failed = Outcome::Failed { code: "model_error".into(), message: "The model is gone".into() };
    for round in 0..MAX_FAILURES {
        let_pass(&database, &id, TimeDelta::seconds(30 - round as i64)).await;
        assert_eq!(fire_all(&database.store).await, 1);
        assert_eq!(end_runs(&database, &failed).await, 1, "round {round}");
    }
    let_pass(&database, &id, TimeDelta::seconds(1)).await;
    fire_all(&database.store).await;
    let paused = database.store.find_schedule(&database.project, &id).await.expect("reads").expect("is there");
    assert!(!paused.enabled && paused.next_run_at.is_none());
    assert!(paused.paused_reason.is_some_and(|why| why.contains("5 failures")));
    assert_eq!(executions(&database, &id).await.len(), MAX_FAILURES);
    assert_eq!(executions(&database, &id).await[0].error.as_deref(), Some("The model is gone"));
    // Switched on again, what failed before no longer counts.
    let on = |schedule: &mut domain::schedule::Schedule| {
        schedule.enabled = true;
        Ok::<_, store::Error>(())
    };
    let on = database.store.update_schedule(&database.project, &id, on).await.expect("is changed");
    assert!(on.paused_reason.is_none() && on.next_run_at.is_some());
    let_pass(&database, &id, TimeDelta::seconds(1)).await;
    fire_all(&database.store).await;
    assert_eq!(executions(&database, &id).await[0].state, ExecutionState::Started);
}

#[tokio::test]
async fn one_whose_environment_is_gone_fails_with_the_reason() {
    let database = start().await;
    let environment = database.store.default_environment(&database.project).await.expect("an environment").id;
    let id = schedule(&database, NewSchedule { environment_id: Some(environment.clone()), ..hourly() }).await;
    sqlx::query("update environments set deleted_at = now() where id = $1")
        .bind(environment.as_str())
        .execute(&database.pool().await)
        .await
        .expect("is deleted");
    let_pass(&database, &id, TimeDelta::seconds(1)).await;
    assert_eq!(fire_all(&database.store).await, 1);
    let failed = executions(&database, &id).await.remove(0);
    assert_eq!(failed.state, ExecutionState::Failed);
    assert!(failed.error.is_some_and(|error| error.contains("not found")));
}

#[tokio::test]
async fn a_one_time_schedule_fires_once_and_a_deleted_one_never() {
    let database = start().await;
    let soon = Timing::Once(Utc::now() + TimeDelta::hours(1));
    let id = schedule(&database, NewSchedule { timing: soon.clone(), ..hourly() }).await;
    let deleted = schedule(&database, NewSchedule { timing: soon, ..hourly() }).await;
    for id in [&id, &deleted] {
        let_pass(&database, id, TimeDelta::seconds(1)).await;
    }
    database.store.delete_schedule(&database.project, &deleted).await.expect("is deleted");
    // Its moment must have passed for the calendar too.
    sqlx::query("update schedules set scheduled_time = next_run_at where id = $1")
        .bind(id.as_str())
        .execute(&database.pool().await)
        .await
        .expect("is changed");
    assert_eq!(fire_all(&database.store).await, 1);
    assert_eq!(fire_all(&database.store).await, 0);
    let done = database.store.find_schedule(&database.project, &id).await.expect("reads").expect("is there");
    assert!(!done.enabled && done.next_run_at.is_none());
    assert_eq!(tally(&database, &id).await.runs, 1);
}
