//! Two servers on one Postgres: of each run one is the owner at any time, and who is left takes over.

use std::time::Duration;

use rand::RngExt;
use sqlx::PgPool;
use system_tests::{Job, World, eventually};
use testing::{Database, Report, times};
use tokio::time::{Instant, sleep};

const LEASE: Duration = Duration::from_secs(3);
const RUNS: usize = 20;
/// From the end of a lease to the next owner: what is promised.
const LOOK: Duration = Duration::from_secs(2);

/// Writes down every change of a run's owner, in the transaction that changes it.
const AUDIT: &str = "
create table owners (
    at timestamptz not null default clock_timestamp(),
    run_id text not null,
    node text,
    token uuid,
    previous_node text,
    previous_token uuid,
    previous_until timestamptz,
    sequence bigint generated always as identity
);
create function note_owner() returns trigger language plpgsql as $$
begin
    insert into owners (run_id, node, token, previous_node, previous_token, previous_until)
    values (new.id, new.lease_node, new.lease_token, old.lease_node, old.lease_token, old.lease_until);
    return new;
end $$;
create trigger note_owner after update on runs for each row
    when (new.lease_token is distinct from old.lease_token) execute function note_owner();
";

async fn count(pool: &PgPool, query: &'static str) -> usize {
    let count: i64 = sqlx::query_scalar(query).fetch_one(pool).await.expect("counts");
    count as usize
}

/// `ATELIER_TEST_TAKEOVERS` sets how many times.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_server_takes_over_the_runs_of_one_that_was_killed() {
    let database = Database::start().await;
    let pool = database.pool().await;
    sqlx::raw_sql(AUDIT).execute(&pool).await.expect("the audit is set up");
    let url = database.url();
    let settings = [("DATABASE__URL", url.as_str()), ("RUNS__LEASE", "3s")];
    let mut doomed = World::with(&settings).await;
    let heir = doomed.beside(&settings).await;
    let environment = doomed.environment(false).await;
    for world in [&doomed, &heir] {
        let thread = world.thread(&environment).await;
        world.bash(&thread, "true").await;
    }
    let mut report = Report::new("takeover");
    let mut told = 0;
    for round in 0..times("ATELIER_TEST_TAKEOVERS", 1) {
        // The one that is to take over must not do so before.
        heir.freeze();
        let mut jobs = Vec::new();
        for number in 0..RUNS {
            let file = format!("lines-{round}-{number}");
            let job = Job::new(&doomed, &environment, &file, 8).await.after("sleep 1; ");
            drop(doomed.try_send(&job.thread, &job.message()).await.expect("the message is accepted"));
            jobs.push(job);
        }
        eventually("all runs are being worked on", Duration::from_secs(60), async || {
            count(&pool, "select count(*) from runs where status = 'running'").await == RUNS
        })
        .await;
        heir.thaw();
        sleep(Duration::from_millis(rand::rng().random_range(300..900))).await;
        let held = count(&pool, "select count(*) from runs where lease_token is not null").await;
        let killed_at: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("select clock_timestamp()").fetch_one(&pool).await.expect("tells the time");
        doomed.kill();

        let deadline = Instant::now() + Duration::from_secs(90);
        for job in &jobs {
            let (status, _) = heir.settled(&job.thread, deadline - Instant::now()).await;
            let counted = job.count(&heir).await;
            assert_eq!(status, "completed");
            report.lost += counted.lost;
            report.doubled += counted.doubled;
            report.stuck += counted.stuck;
            told += counted.told;
        }
        assert_eq!(held, RUNS, "the server was in the middle of all of them");
        report.n += held;
        let taken = "select at - $1 from owners
                     where at > $1 and node is not null and previous_token is not null and node <> previous_node";
        let taken: Vec<sqlx::postgres::types::PgInterval> =
            sqlx::query_scalar(taken).bind(killed_at).fetch_all(&pool).await.expect("reads");
        assert_eq!(taken.len(), held, "each run of the dead server has a new owner");
        taken.iter().for_each(|took| report.sample(Duration::from_micros(took.microseconds.unsigned_abs())));
        doomed.start_again().await;
    }
    // A token follows another only when that one's time is over, or when it was given back (and then none is there).
    let early = "select count(*) from owners
                 where token is not null and previous_token is not null and at < previous_until";
    report.doubled += count(&pool, early).await;
    // The changes of one run make a chain: each begins where the last has ended, so nobody else was owner in between.
    let broken = "select count(*) from (
                      select previous_token, lag(token) over (partition by run_id order by sequence) as before
                      from owners
                  ) chain where previous_token is distinct from before";
    report.doubled += count(&pool, broken).await;
    println!("{told} calls were told as interrupted");
    let slowest = report.percentile_ms(100);
    assert!(slowest <= (LEASE + LOOK).as_millis() as u64, "a run stood still for {slowest} ms");
    report.finish();
    pool.close().await;
    doomed.finish().await;
    heir.finish().await;
}
