//! Agents that a run has called: runs of the same thread, each with a branch of the transcript of its own.
//!
//! Nobody claims them. Who holds the lease of the run that has called one takes it, under a token of its own, so that the
//! taker before writes nothing more; a call is answered by one such run, however often it is taken up again. Their
//! events stand in the log of the thread as what the run at the top was told of, with the branch beside them.
//!
//! Lock order: a run comes before those that it has called.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    AgentId, ProjectId, RunId, ThreadId,
    event::Event,
    limits::Used,
    run::{Outcome, Run, RunOptions, RunStatus, Spent},
    subagent::{Place, Subagent},
};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    Error, Result, Store,
    events::to_text,
    leases::{self, Claimed, Finished, Lease, Renewal},
    permissions::{self, Parking},
    research,
    row::{ReadColumn, to_json},
    runs,
};

/// A call of an agent.
#[derive(Debug, Clone)]
pub struct NewSubagent {
    pub call_id: String,
    /// With what it was called for.
    pub options: RunOptions,
    pub is_background: bool,
}

/// An agent that was called, as whoever called it finds it.
#[derive(Debug)]
pub enum Taken {
    /// It is the caller's to drive.
    Claimed(Box<Claimed>),
    /// It waits for somebody's decision.
    Waiting(RunId),
    Over(Box<Run>),
}

/// What an agent that was called has done, by its events.
#[derive(Debug, Clone, PartialEq)]
pub struct SubagentActivity {
    pub run_id: RunId,
    pub agent_id: Option<AgentId>,
    pub name: String,
    /// Those that are kept.
    pub events: i64,
    pub last_active_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Tells of the agents that were called in a thread, oldest first.
    pub async fn list_subagent_activity(&self, thread: &ThreadId) -> Result<Vec<SubagentActivity>> {
        let rows = sqlx::query(
            "-- list_subagent_activity
             select r.id, r.options -> 'subagent' ->> 'agent_id' as agent_id,
                 coalesce(r.options -> 'subagent' ->> 'name', '') as name,
                 count(e.sequence) as events, max(e.created_at) as last_active_at
             from runs r left join events e on e.thread_id = r.thread_id and e.branch = r.id
             where r.thread_id = $1 and r.parent_run_id is not null
             group by r.id
             order by r.after_sequence",
        )
        .bind(thread.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(SubagentActivity {
                    run_id: row.parse("id")?,
                    agent_id: row.parse_optional("agent_id")?,
                    name: row.try_get("name")?,
                    events: row.try_get("events")?,
                    last_active_at: row.try_get("last_active_at")?,
                })
            })
            .collect()
    }

    /// Makes the run that answers a call, unless there is one, and gives its id. `parent` is the run that calls.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the run that calls is.
    pub async fn call_subagent(&self, lease: &Renewal, parent: &Run, new: &NewSubagent) -> Result<RunId> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        let found = sqlx::query("select id from runs where parent_run_id = $1 and parent_call_id = $2")
            .bind(parent.id.as_str())
            .bind(&new.call_id)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(found) = found {
            return found.parse("id");
        }
        let run_id = RunId::generate();
        let task = new.options.subagent.as_ref();
        let agent = Subagent {
            run_id: run_id.clone(),
            parent_run_id: parent.id.clone(),
            call_id: new.call_id.clone(),
            name: task.map(|task| task.name.clone()).unwrap_or_default(),
            description: task.map(|task| task.description.clone()).unwrap_or_default(),
        };
        let sequence: i64 = sqlx::query_scalar(
            "-- call_subagent
             with thread as (
                 update threads
                 set last_sequence = last_sequence + 1, updated_at = now()
                 where id = $1
                 returning id, project_id, last_sequence
             ), run as (
                 insert into runs (id, thread_id, project_id, status, options, after_sequence, parent_run_id,
                     parent_call_id, root_run_id, depth, is_background, agent_version_id)
                 select $2, id, project_id, 'queued', $3, last_sequence - 1, $4, $5, $6, $7, $8, (
                     select coalesce(a.published_version_id, a.version_id)
                     from agents a where a.project_id = thread.project_id and a.id = $10
                 )
                 from thread
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event, branch)
                 select id, last_sequence, $6, $9, $2 from thread
             )
             select last_sequence from thread",
        )
        .bind(parent.thread_id.as_str())
        .bind(run_id.as_str())
        .bind(to_json(&new.options))
        .bind(parent.id.as_str())
        // A NUL is fine in JSON but in no text column.
        .bind(new.call_id.replace('\0', "\u{fffd}"))
        .bind(parent.root().as_str())
        .bind(i32::try_from(parent.depth() + 1).unwrap_or(i32::MAX))
        .bind(new.is_background)
        .bind(to_text(&Event::RunQueued.told_of(Some(&agent))))
        .bind(task.and_then(|task| task.agent_id.as_ref()).map(AgentId::as_str))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        self.hub.hint_events(&parent.thread_id, sequence);
        Ok(run_id)
    }

    /// Takes an agent that the run of the lease has called, whoever drove it before.
    ///
    /// # Errors
    /// `LeaseLost` if the lease of the run that calls is; `NotFound` if it has called no such agent.
    pub async fn take_subagent(&self, lease: &Renewal, run: &RunId, ttl: Duration) -> Result<Taken> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, lease).await?;
        let row = sqlx::query(
            "-- take_subagent: lock
             select r.*, t.environment_id, t.agent_id
             from runs r join threads t on t.id = r.thread_id
             where r.id = $1 and r.parent_run_id = $2
             for update of r",
        )
        .bind(run.as_str())
        .bind(lease.run_id.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Run", run))?;
        let found = runs::read(&row)?;
        if found.status.is_over() {
            return Ok(Taken::Over(Box::new(found)));
        }
        if found.status == RunStatus::Waiting && !found.is_cancel_requested {
            return Ok(Taken::Waiting(found.id));
        }
        if found.attempt > 0 && found.fruitless_attempts == 0 {
            // It has got somewhere since it was last taken, and so has the run that called it.
            sqlx::query("update runs set fruitless_attempts = 0 where id = $1")
                .bind(lease.run_id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        let event = match found.attempt + 1 {
            1 => Event::RunStarted,
            // It stood still until something was decided.
            attempt if found.parked_at.is_some() => Event::RunContinued { attempt },
            attempt => Event::RunResumed { attempt },
        };
        let row = sqlx::query(
            "-- take_subagent
             with claimed as (
                 update runs
                 set status = 'running',
                     lease_token = gen_random_uuid(),
                     lease_node = $2,
                     lease_until = now() + $3,
                     attempt = attempt + 1,
                     fruitless_attempts = fruitless_attempts + 1,
                     marked_at = now(),
                     started_at = coalesce(started_at, now())
                 where id = $1
                 returning *
             ), thread as (
                 update threads t
                 set last_sequence = t.last_sequence + 1
                 from claimed
                 where t.id = claimed.thread_id
                 returning t.id, t.environment_id, t.agent_id, t.last_sequence
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event, branch)
                 select thread.id, thread.last_sequence, claimed.root_run_id, $4, claimed.id from thread, claimed
             )
             select claimed.*, thread.environment_id, thread.agent_id, thread.last_sequence from claimed, thread",
        )
        .bind(run.as_str())
        .bind(&*self.node)
        .bind(ttl)
        .bind(to_text(&event.told_of(found.subagent().as_ref())))
        .fetch_one(&mut *tx)
        .await?;
        let claimed = leases::read_claimed(&row)?;
        tx.commit().await?;
        self.hub.hint_events(&claimed.lease.thread_id, claimed.last_sequence);
        Ok(Taken::Claimed(Box::new(claimed)))
    }

    /// Lists the agents that a run has called, oldest first.
    pub async fn list_subagents(&self, parent: &RunId) -> Result<Vec<Run>> {
        let rows = sqlx::query(
            "-- list_subagents
             select r.*, t.environment_id, t.agent_id
             from runs r join threads t on t.id = r.thread_id
             where r.parent_run_id = $1
             order by r.after_sequence",
        )
        .bind(parent.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(runs::read).collect()
    }

    /// Gives how many agents were called below a run, directly or not, and what they have used. Their time is that of the
    /// run at the top, so it is left out.
    pub async fn used_by_subagents(&self, root: &RunId) -> Result<(u32, Used)> {
        let row = sqlx::query(
            "-- used_by_subagents
             select count(*) as count,
                 coalesce(sum(turns), 0)::bigint as turns,
                 coalesce(sum(input_tokens), 0)::bigint as input_tokens,
                 coalesce(sum(output_tokens), 0)::bigint as output_tokens,
                 coalesce(sum(cache_read_tokens), 0)::bigint as cache_read_tokens,
                 coalesce(sum(cache_write_tokens), 0)::bigint as cache_write_tokens,
                 coalesce(sum(cost_micro_usd), 0)::bigint as cost_micro_usd
             from runs
             where root_run_id = $1",
        )
        .bind(root.as_str())
        .fetch_one(&self.pool)
        .await?;
        let count = u32::try_from(row.try_get::<i64, _>("count")?).unwrap_or(u32::MAX);
        let turns = u32::try_from(row.try_get::<i64, _>("turns")?).unwrap_or(u32::MAX);
        Ok((count, Used { spent: row.spent()?, turns, ..Used::default() }))
    }

    /// Lets a run wait whose agents all wait for somebody's decision. The lease is over if it does.
    ///
    /// After `Unavailable` it may or may not wait; a second call then says `LeaseLost` if it does.
    pub async fn park_for_agents(&self, lease: &Lease) -> Result<Parking> {
        let mut tx = self.pool.begin().await?;
        // First the row: whoever decides about one of them, which is seen below, wakes this run after it waits.
        lock(&mut tx, &lease.renewal()).await?;
        let row = sqlx::query(
            "-- park_for_agents
             update runs r
             set status = 'waiting',
                 lease_token = null,
                 lease_node = null,
                 lease_until = null,
                 fruitless_attempts = 0,
                 waits_for_agents = true,
                 parked_at = now()
             where r.id = $1
               and r.cancel_requested_at is null
               and exists (select 1 from runs c where c.parent_run_id = r.id and c.status = 'waiting')
               and not exists (
                   select 1 from runs c
                   where c.parent_run_id = r.id
                     and c.status not in ('completed', 'failed', 'cancelled')
                     -- One that is to be stopped is still to be wound up.
                     and (c.status <> 'waiting' or c.cancel_requested_at is not null)
               )
             returning r.id",
        )
        .bind(lease.run_id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if row.is_some() {
            tx.commit().await?;
            return Ok(Parking::Parked);
        }
        let is_cancelled: bool = sqlx::query_scalar("select cancel_requested_at is not null from runs where id = $1")
            .bind(lease.run_id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        Ok(if is_cancelled { Parking::CancelRequested } else { Parking::Decided })
    }

    /// Asks one agent that was called to stop; its run ends as cancelled, and the run that called it goes on. `None` if
    /// the run is none that another one has called.
    ///
    /// # Errors
    /// `State` for one that is over.
    pub async fn cancel_subagent(&self, project: &ProjectId, thread: &ThreadId, run: &RunId) -> Result<Option<()>> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query("select parent_run_id from runs where id = $1 and thread_id = $2 and project_id = $3")
            .bind(run.as_str())
            .bind(thread.as_str())
            .bind(project.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if row.is_none_or(|row| !matches!(row.try_get::<Option<&str>, _>("parent_run_id"), Ok(Some(_)))) {
            return Ok(None);
        }
        lock_chain(&mut tx, run).await?;
        let row = sqlx::query(
            "-- cancel_subagent
             update runs
             set cancel_requested_at = coalesce(cancel_requested_at, now())
             where id = $1 and status not in ('completed', 'failed', 'cancelled')
             returning status",
        )
        .bind(run.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::State("the run is over already".into()))?;
        if row.parse::<RunStatus>("status")? == RunStatus::Waiting {
            // Whoever drives the run above takes it, and sees the request.
            wake_callers(&mut tx, run).await?;
        }
        tx.commit().await?;
        self.hub.hint_cancel(run);
        self.hub.hint_work();
        Ok(Some(()))
    }
}

/// Locks the run of a lease.
pub(crate) async fn lock(tx: &mut PgConnection, lease: &Renewal) -> Result<()> {
    sqlx::query("select 1 from runs where id = $1 and lease_token = $2 and status = 'running' for update")
        .bind(lease.run_id.as_str())
        .bind(lease.token())
        .fetch_optional(tx)
        .await?
        .ok_or(Error::LeaseLost)?;
    Ok(())
}

/// The run `$1` and all that are above it.
const CHAIN: &str = "recursive chain as (
     select id, parent_run_id from runs where id = $1
     union all
     select r.id, r.parent_run_id from runs r join chain on r.id = chain.parent_run_id
 )";

/// Locks a run and all that are above it, from the top. Gives who it is, if another run has called it.
pub(crate) async fn lock_chain(tx: &mut PgConnection, run: &RunId) -> Result<Option<Subagent>> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- lock_chain
         with {CHAIN}
         select 1 from runs where id in (select id from chain) order by depth for update"
    )))
    .bind(run.as_str())
    .execute(&mut *tx)
    .await?;
    find(tx, run).await
}

/// Lets the runs above go on that wait for their agents. The caller has locked them.
pub(crate) async fn wake_callers(tx: &mut PgConnection, run: &RunId) -> Result<()> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- wake_callers
         with {CHAIN}
         update runs
         set status = 'queued', waits_for_agents = false
         where id in (select id from chain where id <> $1) and status = 'waiting' and waits_for_agents"
    )))
    .bind(run.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// Says who a run is in the log, if another run has called it.
pub(crate) async fn find(tx: &mut PgConnection, run: &RunId) -> Result<Option<Subagent>> {
    let row = sqlx::query(
        "-- find: subagent
         select id, parent_run_id, parent_call_id, options -> 'subagent' ->> 'name' as name,
             options -> 'subagent' ->> 'description' as description
         from runs
         where id = $1 and parent_run_id is not null",
    )
    .bind(run.as_str())
    .fetch_optional(tx)
    .await?;
    row.map(|row| read_subagent(&row)).transpose()
}

fn read_subagent(row: &PgRow) -> Result<Subagent> {
    Ok(Subagent {
        run_id: row.parse("id")?,
        parent_run_id: row.parse("parent_run_id")?,
        call_id: row.try_get("parent_call_id")?,
        name: row.try_get::<Option<String>, _>("name")?.unwrap_or_default(),
        description: row.try_get::<Option<String>, _>("description")?.unwrap_or_default(),
    })
}

/// Reads where a run stands among those that have called each other.
pub(crate) fn read_place(row: &PgRow) -> Result<Option<Place>> {
    let Some(parent) = row.parse_optional("parent_run_id")? else { return Ok(None) };
    Ok(Some(Place {
        parent,
        call_id: row.try_get("parent_call_id")?,
        root: row.parse("root_run_id")?,
        depth: row.try_get::<i32, _>("depth")?.unsigned_abs(),
        is_background: row.try_get("is_background")?,
        is_told: row.try_get::<Option<DateTime<Utc>>, _>("told_at")?.is_some(),
    }))
}

/// Ends the run of an agent that was called: under a lease, or (`None`) one that no worker has. Its thread goes on.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    agent: &Subagent,
    token: Option<Uuid>,
    outcome: &Outcome,
    spent: Spent,
) -> Result<Option<Finished>> {
    let outcome = &leases::without_nul(outcome);
    if !matches!(outcome, Outcome::Completed { .. }) {
        permissions::close(connection, &agent.run_id).await?;
        research::close(connection, &agent.run_id, outcome).await?;
    }
    let event = Event::RunFinished { outcome: outcome.clone(), spent };
    let row = sqlx::query(
        "-- finish: subagent
         with run as (
             update runs
             set status = $3,
                 outcome = $4,
                 completed_at = now(),
                 lease_token = null,
                 lease_node = null,
                 lease_until = null
             where id = $1
               and status not in ('completed', 'failed', 'cancelled')
               and ($2::uuid is null or (status = 'running' and lease_token = $2))
             returning id, thread_id, root_run_id
         ), thread as (
             update threads t
             set last_sequence = t.last_sequence + 1, updated_at = now()
             from run
             where t.id = run.thread_id
             returning t.id, t.last_sequence
         ), new_event as (
             insert into events (thread_id, sequence, run_id, event, branch)
             select thread.id, thread.last_sequence, run.root_run_id, $5, run.id from thread, run
         )
         select last_sequence from thread",
    )
    .bind(agent.run_id.as_str())
    .bind(token)
    .bind(outcome.status().as_str())
    .bind(to_json(outcome))
    .bind(to_text(&event.told_of(Some(agent))))
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(Finished { last_sequence: row.try_get("last_sequence")?, has_next: false })).transpose()
}

/// Ends all agents below a run that ends: under the lease `token`, or (`None`) one that no worker has.
pub(crate) async fn end_all(connection: &mut PgConnection, root: &RunId, token: Option<Uuid>) -> Result<()> {
    let rows = sqlx::query(
        "-- end_all
         select id, parent_run_id, parent_call_id, lease_token, options -> 'subagent' ->> 'name' as name,
             options -> 'subagent' ->> 'description' as description,
             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_micro_usd
         from runs
         where (id = $1 or root_run_id = $1) and status not in ('held', 'completed', 'failed', 'cancelled')
         order by depth
         for update",
    )
    .bind(root.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let [own, agents @ ..] = rows.as_slice() else { return Ok(()) };
    let is_held = own.try_get::<Option<Uuid>, _>("lease_token")? == token;
    if !is_held || own.try_get::<Option<&str>, _>("parent_run_id")?.is_some() {
        return Ok(());
    }
    // From the bottom: an agent's last event comes before that of the one that has called it.
    for row in agents.iter().rev() {
        let agent = read_subagent(row)?;
        permissions::close(connection, &agent.run_id).await?;
        permissions::abandon(connection, &agent.run_id).await?;
        finish(connection, &agent, None, &Outcome::Cancelled, row.spent()?).await?;
    }
    Ok(())
}
