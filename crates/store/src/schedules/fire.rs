//! Firing: a moment that has come becomes an execution, a thread and a run, in one transaction.
//!
//! The row's lock decides which of several servers fires a schedule, and moving its next moment on in the same transaction
//! that starts the run is what makes it exactly once: either both are there after a crash, or neither is.

use chrono::{DateTime, Utc};
use domain::{
    ExecutionId, ProjectId, ScheduleId,
    schedule::{Execution, ExecutionState, GRACE, MAX_FAILURES, Missed, Overlap, Schedule},
    thread::Thread,
    webhook::Notice,
};
use sqlx::{PgConnection, Row};

use super::{EXECUTION, lock, read_execution};
use crate::{
    Result, Store,
    row::ReadColumn,
    runs::Started,
    starting::{self, Work},
    threads, webhooks,
};

/// More executions of one schedule than this never wait; a schedule that is slower than its moments would pile them up.
const MAX_WAITING: i64 = 100;

/// A schedule that somebody has fired.
#[derive(Debug)]
pub struct Triggered {
    pub execution: Execution,
    /// Absent where the run could not be made; the execution says why.
    pub thread: Option<Thread>,
}

impl Store {
    /// Fires one schedule whose moment has come, or starts one execution whose turn has come. Gives false if there is
    /// none, or another server is at it.
    pub async fn fire_next(&self) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- fire_next
             select id, project_id, now() as now
             from schedules
             where enabled and deleted_at is null and next_run_at <= now()
             order by next_run_at
             limit 1
             for update skip locked",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let started = match row {
            Some(row) => {
                let schedule = super::get(&mut tx, &row.parse("project_id")?, &row.parse("id")?).await?;
                fire(&mut tx, &self.node, &schedule, row.try_get("now")?).await?
            }
            None => match start_waiting(&mut tx, &self.node).await? {
                Some(started) => started,
                None => return Ok(false),
            },
        };
        tx.commit().await?;
        if let Some(started) = started {
            self.hint_started(started);
        }
        Ok(true)
    }

    /// Fires a schedule now, whatever its moments are, and whether or not it is enabled.
    pub async fn trigger_schedule(&self, project: &ProjectId, id: &ScheduleId) -> Result<Triggered> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        let schedule = super::get(&mut tx, project, id).await?;
        let execution = ExecutionId::generate();
        let new = New { id: &execution, scheduled_for: Utc::now(), is_manual: true };
        let started = start(&mut tx, &self.node, &schedule, new).await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{EXECUTION} where x.id = $1")))
            .bind(execution.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let thread = match &started {
            Some(started) => Some(threads::get(&mut tx, project, &started.thread_id).await?),
            None => None,
        };
        tx.commit().await?;
        if let Some(started) = started {
            self.hint_started(started);
        }
        Ok(Triggered { execution: read_execution(&row)?, thread })
    }
}

/// An execution to be written.
#[derive(Clone, Copy)]
struct New<'a> {
    id: &'a ExecutionId,
    scheduled_for: DateTime<Utc>,
    is_manual: bool,
}

/// Decides what becomes of the moment, and moves the schedule on to its next one.
async fn fire(tx: &mut PgConnection, node: &str, schedule: &Schedule, now: DateTime<Utc>) -> Result<Option<Started>> {
    let first = schedule.next_run_at.unwrap_or(now);
    let moment = schedule.timing.latest(schedule.timezone, first, now);
    let next = schedule.timing.next(schedule.timezone, now);
    if has_failed_too_often(tx, &schedule.id).await? {
        let reason = format!("Switched off after {MAX_FAILURES} failures one after another");
        sqlx::query(
            "-- fire: pause
             update schedules set enabled = false, paused_reason = $2, next_run_at = null, updated_at = now()
             where id = $1",
        )
        .bind(schedule.id.as_str())
        .bind(&reason)
        .execute(&mut *tx)
        .await?;
        let notice = Notice::SchedulePaused { id: schedule.id.clone(), name: schedule.name.clone(), reason };
        webhooks::tell(tx, &schedule.project_id, &notice).await?;
        return Ok(None);
    }
    sqlx::query("update schedules set next_run_at = $2, enabled = $3 where id = $1")
        .bind(schedule.id.as_str())
        .bind(next)
        .bind(next.is_some())
        .execute(&mut *tx)
        .await?;
    let id = ExecutionId::generate();
    let new = New { id: &id, scheduled_for: moment, is_manual: false };
    if now - moment > GRACE && schedule.missed == Missed::Skip {
        let why = "No server was there at the time";
        write(tx, node, schedule, new, ExecutionState::Skipped, None, Some(why)).await?;
        return Ok(None);
    }
    let (is_busy, waiting) = match schedule.overlap {
        Overlap::Parallel => (false, 0),
        Overlap::Skip | Overlap::Queue => how_busy(tx, &schedule.id).await?,
    };
    match schedule.overlap {
        Overlap::Skip if is_busy => {
            let why = "The run of the moment before was still under way";
            write(tx, node, schedule, new, ExecutionState::Skipped, None, Some(why)).await?;
            Ok(None)
        }
        Overlap::Queue if waiting >= MAX_WAITING => {
            let why = format!("{waiting} executions waited already");
            write(tx, node, schedule, new, ExecutionState::Skipped, None, Some(&why)).await?;
            Ok(None)
        }
        Overlap::Queue if is_busy || waiting > 0 => {
            write(tx, node, schedule, new, ExecutionState::Waiting, None, None).await?;
            Ok(None)
        }
        _ => start(tx, node, schedule, new).await,
    }
}

/// Tells whether the newest executions that are over have all failed.
async fn has_failed_too_often(tx: &mut PgConnection, schedule: &ScheduleId) -> Result<bool> {
    let failures: i64 = sqlx::query_scalar(
        "-- has_failed_too_often
         select count(*) filter (where has_failed)
         from (
             select x.state = 'failed' or r.status = 'failed' as has_failed
             from schedule_executions x
             join schedules s on s.id = x.schedule_id
             left join runs r on r.id = x.run_id
             where x.schedule_id = $1
               and x.created_at >= s.counted_from
               and (x.state = 'failed' or r.status in ('completed', 'failed', 'cancelled'))
             order by x.scheduled_for desc, x.id desc
             limit $2
         ) newest",
    )
    .bind(schedule.as_str())
    .bind(MAX_FAILURES as i64)
    .fetch_one(tx)
    .await?;
    Ok(failures >= MAX_FAILURES as i64)
}

/// Gives whether a run of the schedule is under way, and how many executions wait for it.
async fn how_busy(tx: &mut PgConnection, schedule: &ScheduleId) -> Result<(bool, i64)> {
    let row = sqlx::query(
        "-- how_busy
         select exists(
             select 1 from schedule_executions x join runs r on r.id = x.run_id
             where x.schedule_id = $1 and r.status not in ('completed', 'failed', 'cancelled')
         ) as is_busy, (
             select count(*) from schedule_executions where schedule_id = $1 and state = 'waiting'
         ) as waiting",
    )
    .bind(schedule.as_str())
    .fetch_one(tx)
    .await?;
    Ok((row.try_get("is_busy")?, row.try_get("waiting")?))
}

/// Starts the longest waiting execution of a schedule that has no run under way; `None` if there is none.
async fn start_waiting(tx: &mut PgConnection, node: &str) -> Result<Option<Option<Started>>> {
    // The schedule is locked with it, so that no other server starts the one after it at the same time.
    let row = sqlx::query(
        "-- start_waiting
         select x.id, x.schedule_id, x.project_id, x.scheduled_for, x.is_manual
         from schedule_executions x join schedules s on s.id = x.schedule_id
         where x.state = 'waiting'
           and not exists (
               select 1 from schedule_executions y join runs r on r.id = y.run_id
               where y.schedule_id = x.schedule_id and r.status not in ('completed', 'failed', 'cancelled')
           )
         order by x.scheduled_for, x.id
         limit 1
         for update skip locked",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (id, schedule): (ExecutionId, ScheduleId) = (row.parse("id")?, row.parse("schedule_id")?);
    let project: ProjectId = row.parse("project_id")?;
    // Another server may have started the one before between the search and the lock.
    if how_busy(tx, &schedule).await?.0 {
        return Ok(None);
    }
    let schedule = super::get(tx, &project, &schedule).await?;
    let new = New { id: &id, scheduled_for: row.try_get("scheduled_for")?, is_manual: row.try_get("is_manual")? };
    start(tx, node, &schedule, new).await.map(Some)
}

/// Makes the thread and the run, and writes the execution down. One that cannot start is written down as failed.
async fn start(tx: &mut PgConnection, node: &str, schedule: &Schedule, new: New<'_>) -> Result<Option<Started>> {
    let work = Work {
        environment_id: schedule.environment_id.as_ref(),
        agent_id: schedule.agent_id.as_ref(),
        app_id: schedule.stored.get("appId").and_then(|id| id.as_str()),
        title: &schedule.name,
        task: &schedule.task,
    };
    match starting::start(tx, &schedule.project_id, work).await? {
        Ok(started) => {
            write(tx, node, schedule, new, ExecutionState::Started, Some(&started), None).await?;
            Ok(Some(started))
        }
        Err(why) => {
            write(tx, node, schedule, new, ExecutionState::Failed, None, Some(&why)).await?;
            Ok(None)
        }
    }
}

async fn write(
    tx: &mut PgConnection,
    node: &str,
    schedule: &Schedule,
    new: New<'_>,
    state: ExecutionState,
    started: Option<&Started>,
    error: Option<&str>,
) -> Result<()> {
    sqlx::query(
        "-- fire: write execution
         insert into schedule_executions (id, schedule_id, project_id, is_manual, scheduled_for, state, thread_id,
             run_id, claimed_by, error, started_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, case when $8::text is null then null else now() end)
         -- One that waited is there.
         on conflict (id) do update
         set state = excluded.state, thread_id = excluded.thread_id, run_id = excluded.run_id,
             claimed_by = excluded.claimed_by, error = excluded.error, started_at = excluded.started_at",
    )
    .bind(new.id.as_str())
    .bind(schedule.id.as_str())
    .bind(schedule.project_id.as_str())
    .bind(new.is_manual)
    .bind(new.scheduled_for)
    .bind(state.as_str())
    .bind(started.map(|started| started.thread_id.as_str()))
    .bind(started.map(|started| started.run_id.as_str()))
    .bind(node)
    .bind(error)
    .execute(tx)
    .await?;
    Ok(())
}
