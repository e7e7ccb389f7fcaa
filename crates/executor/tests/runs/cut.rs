//! Ends a server's work at a chosen commit of a run, exactly there.
//!
//! Killing when a test has seen an event is too late by chance: the server has gone on. So the database itself holds a
//! commit back, until the server that wanted it is gone, and then refuses it. What had been done for that commit (a call
//! made, a summary asked for) is done, and nothing says so: the worst a crash can leave behind.

use std::time::Duration;

use domain::ThreadId;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// The commits of a run are the changes of its row under a lease: claim, checkpoints, park, release, end. A renewal is no
/// progress. What the trigger counts goes with the transaction that it counts.
const TRIGGER: &str = "
create table cut_seen (thread_id text primary key, seen bigint not null);
create table cut_at (thread_id text primary key, number bigint not null);
create function cut() returns trigger language plpgsql as $$
declare n bigint;
begin
    if (old.lease_token is null and new.lease_token is null)
       or (old.lease_token = new.lease_token and old.checkpoints = new.checkpoints and old.status = new.status) then
        return new;
    end if;
    insert into cut_seen values (new.thread_id, 1)
        on conflict (thread_id) do update set seen = cut_seen.seen + 1 returning seen into n;
    if exists (select from cut_at where thread_id = new.thread_id and number = n) then
        perform pg_advisory_xact_lock(20261126);
        raise exception 'the process ended before this commit';
    end if;
    return new;
end $$;
create trigger cut before update on runs for each row execute function cut();
";

/// Which commits are refused.
pub(crate) struct Cut {
    /// Holds the lock that a commit to be refused waits for.
    connection: PgConnection,
}

impl Cut {
    pub(crate) async fn new(options: &PgConnectOptions) -> Self {
        let mut connection = PgConnection::connect_with(options).await.expect("connects");
        sqlx::raw_sql(TRIGGER).execute(&mut connection).await.expect("the trigger is made");
        let mut cut = Self { connection };
        cut.run("select pg_advisory_lock(20261126)", &[]).await;
        cut
    }

    /// Holds back the commit of this number, counted from 1 in each thread.
    pub(crate) async fn arm(&mut self, thread: &ThreadId, number: i64) {
        self.run("insert into cut_at values ($1, $2::text::bigint)", &[thread.as_str(), &number.to_string()]).await;
    }

    /// Gives how many commits the thread's runs have made.
    pub(crate) async fn seen(&mut self, thread: &ThreadId) -> i64 {
        let seen = sqlx::query_scalar("select seen from cut_seen where thread_id = $1").bind(thread.as_str());
        seen.fetch_optional(&mut self.connection).await.expect("reads").unwrap_or(0)
    }

    /// Tells whether a commit is being held back now.
    pub(crate) async fn holds(&mut self) -> bool {
        let waits = "select exists (select from pg_locks where locktype = 'advisory' and not granted)";
        sqlx::query_scalar(waits).fetch_one(&mut self.connection).await.expect("reads")
    }

    /// Lets the commit that is held back fail, and returns when it has. Who wanted it must be gone by now.
    pub(crate) async fn refuse(&mut self) {
        self.run("delete from cut_at", &[]).await;
        self.run("select pg_advisory_unlock(20261126)", &[]).await;
        // Those who wait for a lock get it in their order, so this one comes after the commit has failed.
        let locked = self.run("select pg_advisory_lock(20261126)", &[]);
        tokio::time::timeout(Duration::from_secs(30), locked).await.expect("the commit fails at once");
    }

    async fn run(&mut self, statement: &'static str, parameters: &[&str]) {
        let query =
            parameters.iter().fold(sqlx::query(statement), |query, parameter| query.bind((*parameter).to_owned()));
        query.execute(&mut self.connection).await.expect("the statement works");
    }
}
