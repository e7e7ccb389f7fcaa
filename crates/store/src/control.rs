//! What people do to runs: pause, resume, cancel, go on where one ended; and how full the server is.

use domain::{
    ProjectId, RunId, ThreadId,
    event::Event,
    limits::Used,
    run::{Outcome, RunKind, RunOptions, RunStatus},
    thread::ThreadStatus,
};
use sqlx::Row;

use crate::{
    Error, Result, Store,
    events::to_text,
    leases::Lease,
    queue,
    row::{ReadColumn, to_json},
    runs::{self, Active, Started},
    steering,
};

/// How many runs there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Load {
    /// Of the project: queued or running.
    pub of_project: i64,
    /// What the project is.
    pub tier: Option<String>,
    /// Of all projects: running.
    pub running: i64,
    /// Of all projects: waiting for a worker.
    pub queued: i64,
    /// How many all servers together drive at once; 0 where none has said.
    pub capacity: i64,
}

impl Store {
    /// Asks a run to stop. A held one leaves the queue; one that no worker has is over at once.
    ///
    /// # Errors
    /// `NotFound` for a run that is not the thread's; `State` for one that is over.
    pub async fn cancel_run(&self, project: &ProjectId, thread: &ThreadId, run: &RunId) -> Result<()> {
        if self.cancel_subagent(project, thread, run).await?.is_some() {
            return Ok(());
        }
        let mut tx = self.pool.begin().await?;
        let status = steering::lock_run(&mut tx, project, thread, run).await?;
        if status == RunStatus::Held {
            // Its lock comes after the thread's.
            drop(tx);
            return self.drop_held(project, thread, run).await;
        }
        if status.is_over() {
            return Err(Error::State(format!("the run is {status} already")));
        }
        runs::stop_active(&mut tx, project, thread, None).await?;
        let finished = runs::finish_idle(&mut tx, &Active { id: run.clone(), status }, &Outcome::Cancelled).await?;
        tx.commit().await?;
        self.hub.hint_cancel(run);
        if let Some(finished) = &finished {
            self.hint_finished(thread, finished);
        }
        Ok(())
    }

    /// Asks a run to stand still at its next checkpoint; one that no worker has stands still at once. What a run waits for
    /// may be decided while it stands still, and lets it go on only after it was resumed.
    ///
    /// # Errors
    /// `NotFound` for a run that is not the thread's; `State` for one that cannot be paused as it stands.
    pub async fn pause_run(&self, project: &ProjectId, thread: &ThreadId, run: &RunId) -> Result<RunStatus> {
        let mut tx = self.pool.begin().await?;
        let status = steering::lock_run(&mut tx, project, thread, run).await?;
        match status {
            RunStatus::Paused => Ok(status),
            RunStatus::Running => {
                sqlx::query("update runs set pause_requested_at = coalesce(pause_requested_at, now()) where id = $1")
                    .bind(run.as_str())
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                Ok(status)
            }
            RunStatus::Queued | RunStatus::Waiting => {
                sqlx::query("update runs set pause_requested_at = now() where id = $1")
                    .bind(run.as_str())
                    .execute(&mut *tx)
                    .await?;
                let sequence = park(&mut tx, thread, run).await?;
                tx.commit().await?;
                self.hub.hint_events(thread, sequence);
                Ok(RunStatus::Paused)
            }
            _ => Err(Error::State(format!("a run that is {status} cannot be paused"))),
        }
    }

    /// Lets a paused run go on, or takes back the wish to pause it.
    ///
    /// # Errors
    /// `NotFound` for a run that is not the thread's; `State` for one that is over.
    pub async fn resume_run(&self, project: &ProjectId, thread: &ThreadId, run: &RunId) -> Result<RunStatus> {
        let mut tx = self.pool.begin().await?;
        let status = steering::lock_run(&mut tx, project, thread, run).await?;
        if status.is_over() || status == RunStatus::Held {
            return Err(Error::State(format!("a run that is {status} cannot be resumed")));
        }
        let row = sqlx::query(
            "-- resume_run
             update runs
             set status = case
                     when status <> 'paused' then status
                     -- Nothing to do for a worker before all is decided.
                     when open_requests > 0 then 'waiting'
                     else 'queued'
                 end,
                 pause_requested_at = null,
                 parked_at = case when status = 'paused' and open_requests = 0 then null else parked_at end
             where id = $1
             returning status",
        )
        .bind(run.as_str())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        self.hub.hint_work();
        row.parse("status")
    }

    /// Gives a run back to stand still until somebody lets it go on. Returns whether somebody still wanted that: if not,
    /// it is queued again.
    pub async fn park_paused(&self, lease: Lease) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- park_paused
             update runs
             set status = 'queued', lease_token = null, lease_node = null, lease_until = null, fruitless_attempts = 0
             where id = $1 and lease_token = $2 and status = 'running'
             returning pause_requested_at is not null and cancel_requested_at is null as is_wanted",
        )
        .bind(lease.run_id.as_str())
        .bind(lease.token())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(Error::LeaseLost)?;
        if !row.try_get::<bool, _>("is_wanted")? {
            tx.commit().await?;
            self.hub.hint_work();
            return Ok(false);
        }
        let sequence = park(&mut tx, &lease.thread_id, &lease.run_id).await?;
        tx.commit().await?;
        self.hub.hint_events(&lease.thread_id, sequence);
        Ok(true)
    }

    /// Starts a run that goes on where the thread's last one ended too soon.
    ///
    /// # Errors
    /// `NotFound` for a thread that is not the project's; `Busy`; `State` if the last run did not end too soon.
    pub async fn continue_thread(&self, project: &ProjectId, thread: &ThreadId) -> Result<Started> {
        let mut tx = self.pool.begin().await?;
        let status = queue::lock_thread(&mut tx, project, thread).await?;
        if status.is_busy() {
            return Err(Error::Busy);
        }
        if !matches!(status, ThreadStatus::Failed | ThreadStatus::Cancelled) {
            return Err(Error::State(format!("a thread that is {status} has nothing to resume")));
        }
        let last = sqlx::query(
            "-- continue_thread: last
             select options from runs
             where thread_id = $1 and started_at is not null and parent_run_id is null
             order by completed_at desc nulls last
             limit 1",
        )
        .bind(thread.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::State("the thread has no run to go on from".into()))?;
        let options = RunOptions { kind: RunKind::Resume, ..last.json::<RunOptions>("options")?.without_message() };
        let run_id = RunId::generate();
        let row = sqlx::query(
            "-- continue_thread
             with thread as (
                 update threads
                 set status = 'running',
                     last_sequence = last_sequence + 1,
                     completed_at = null,
                     stop_reason = null,
                     updated_at = now()
                 where id = $1
                 returning id, project_id, last_sequence
             ), run as (
                 insert into runs (id, thread_id, project_id, status, options, after_sequence)
                 select $2, id, project_id, 'queued', $3, last_sequence - 1 from thread
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event)
                 select id, last_sequence, $2, $4 from thread
             )
             select last_sequence - 1 as after_sequence from thread",
        )
        .bind(thread.as_str())
        .bind(run_id.as_str())
        .bind(to_json(&options))
        .bind(to_text(&Event::RunQueued))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        let after_sequence = row.try_get("after_sequence")?;
        Ok(self.hint_started(Started { thread_id: thread.clone(), run_id, after_sequence }))
    }

    /// Gives what was used in the thread, but for one run and the agents it has called: by its other runs, by side
    /// questions and for titles.
    ///
    /// Tokens and money are the thread's own sums, which everything is added to; turns and time are those of runs.
    pub async fn used_by_others(&self, thread: &ThreadId, run: Option<&RunId>) -> Result<Used> {
        let row = sqlx::query(
            "-- used_by_others
             select (t.input_tokens - coalesce(own.input_tokens, 0))::bigint as input_tokens,
                 (t.output_tokens - coalesce(own.output_tokens, 0))::bigint as output_tokens,
                 (t.cache_read_tokens - coalesce(own.cache_read_tokens, 0))::bigint as cache_read_tokens,
                 (t.cache_write_tokens - coalesce(own.cache_write_tokens, 0))::bigint as cache_write_tokens,
                 (t.cost_micro_usd - coalesce(own.cost_micro_usd, 0))::bigint as cost_micro_usd,
                 (
                     select coalesce(sum(turns), 0)::bigint from runs
                     where thread_id = $1 and coalesce(root_run_id, id) is distinct from $2
                 ) as turns,
                 (
                     select coalesce(sum(worked_ms), 0)::bigint from runs
                     where thread_id = $1 and id is distinct from $2 and parent_run_id is null
                 ) as worked_ms
             from threads t left join lateral (
                 select sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens,
                     sum(cache_read_tokens) as cache_read_tokens, sum(cache_write_tokens) as cache_write_tokens,
                     sum(cost_micro_usd) as cost_micro_usd
                 from runs where id = $2 or root_run_id = $2
             ) own on true
             where t.id = $1",
        )
        .bind(thread.as_str())
        .bind(run.map(RunId::as_str))
        .fetch_one(&self.pool)
        .await?;
        Ok(Used {
            spent: row.spent()?,
            turns: u32::try_from(row.try_get::<i64, _>("turns")?).unwrap_or(u32::MAX),
            worked: std::time::Duration::from_millis(row.try_get::<i64, _>("worked_ms")?.unsigned_abs()),
        })
    }

    /// Counts the runs under way.
    pub async fn load(&self, project: &ProjectId) -> Result<Load> {
        let row = sqlx::query(
            "-- load
             select count(*) filter (where project_id = $1) as of_project,
                 (select tier from projects where id = $1) as tier,
                 count(*) filter (where status = 'running') as running,
                 count(*) filter (where status = 'queued') as queued,
                 (
                     select coalesce(sum(concurrent_runs), 0)::bigint from servers
                     where seen_at > now() - interval '1 minute'
                 ) as capacity
             from runs
             where status in ('queued', 'running') and parent_run_id is null",
        )
        .bind(project.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(Load {
            of_project: row.try_get("of_project")?,
            tier: row.try_get("tier")?,
            running: row.try_get("running")?,
            queued: row.try_get("queued")?,
            capacity: row.try_get("capacity")?,
        })
    }

    /// Says that this server drives up to `concurrent_runs` runs at once. It counts for a minute.
    pub async fn announce_server(&self, concurrent_runs: usize) -> Result<()> {
        sqlx::query(
            "-- announce_server
             with gone as (
                 delete from servers where seen_at < now() - interval '1 day'
             )
             insert into servers (node, concurrent_runs) values ($1, $2)
             on conflict (node) do update set concurrent_runs = excluded.concurrent_runs, seen_at = now()",
        )
        .bind(&*self.node)
        .bind(i32::try_from(concurrent_runs).unwrap_or(i32::MAX))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Says that this server drives no more runs.
    pub async fn withdraw_server(&self) -> Result<()> {
        sqlx::query("delete from servers where node = $1").bind(&*self.node).execute(&self.pool).await?;
        Ok(())
    }
}

/// Makes a run without a worker, which the caller has locked, stand still. Gives the number of the event that tells of it.
async fn park(tx: &mut sqlx::PgConnection, thread: &ThreadId, run: &RunId) -> Result<i64> {
    let row = sqlx::query(
        "-- park
         with run as (
             update runs
             set status = 'paused', parked_at = now()
             where id = $2 and status in ('queued', 'waiting')
             returning id, open_requests
         ), thread as (
             update threads t
             -- A thread whose call still waits for somebody says so, whoever else it waits for.
             set status = case when run.open_requests > 0 then 'permission_asked' else 'running' end,
                 last_sequence = t.last_sequence + 1,
                 updated_at = now()
             from run
             where t.id = $1
             returning t.id, t.last_sequence
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event)
             select thread.id, thread.last_sequence, $2, $3 from thread
         )
         select last_sequence from thread",
    )
    .bind(thread.as_str())
    .bind(run.as_str())
    .bind(to_text(&Event::RunPaused))
    .fetch_one(tx)
    .await?;
    Ok(row.try_get("last_sequence")?)
}
