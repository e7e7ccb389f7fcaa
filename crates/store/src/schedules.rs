//! Schedules of a project, as callers see and change them. What fires them is in `fire`.

mod fire;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::{
    AgentId, EnvironmentId, ProjectId, ScheduleId,
    schedule::{Execution, ExecutionThread, Missed, Overlap, Schedule, Tally, Timing, Tz},
};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
    threads,
};

pub use fire::Triggered;

/// What a new schedule is made of.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    pub name: String,
    pub description: Option<String>,
    pub agent_id: Option<AgentId>,
    pub environment_id: Option<EnvironmentId>,
    pub task: String,
    pub timing: Timing,
    pub timezone: Tz,
    pub enabled: bool,
    pub missed: Missed,
    pub overlap: Overlap,
    pub stored: Map<String, Value>,
}

/// Which schedules are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    pub enabled: Option<bool>,
    pub agent_id: Option<String>,
    pub environment_id: Option<String>,
    pub is_recurring: Option<bool>,
    pub app_id: Option<String>,
}

/// Which executions are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct ExecutionFilter {
    pub schedule_id: Option<String>,
    pub app_id: Option<String>,
    pub context_id: Option<String>,
    pub from: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// A schedule with the names of what it refers to.
const SELECT: &str = "select s.*, a.name as agent_name, e.name as environment_name
    from schedules s
    left join agents a on a.project_id = s.project_id and a.id = s.agent_id
    left join environments e on e.id = s.environment_id";

impl Store {
    /// Makes a schedule.
    ///
    /// # Errors
    /// `NotFound` if the agent or the environment is not the project's.
    pub async fn create_schedule(&self, project: &ProjectId, new: NewSchedule) -> Result<Schedule> {
        let mut tx = self.pool.begin().await?;
        threads::check_owner(&mut tx, project, new.environment_id.as_ref(), new.agent_id.as_ref()).await?;
        let id = ScheduleId::generate();
        let next = new.enabled.then(|| new.timing.next(new.timezone, Utc::now())).flatten();
        let (cron, scheduled_time) = timing_columns(&new.timing);
        sqlx::query(
            "-- create_schedule
             insert into schedules (id, project_id, name, description, agent_id, environment_id, task, cron,
                 scheduled_time, timezone, enabled, missed, overlap, next_run_at, stored)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .bind(new.name)
        .bind(new.description)
        .bind(new.agent_id.as_ref().map(AgentId::as_str))
        .bind(new.environment_id.as_ref().map(EnvironmentId::as_str))
        .bind(new.task)
        .bind(cron)
        .bind(scheduled_time)
        .bind(new.timezone.name())
        .bind(new.enabled)
        .bind(new.missed.as_str())
        .bind(new.overlap.as_str())
        .bind(next)
        .bind(to_json(&new.stored))
        .execute(&mut *tx)
        .await?;
        let schedule = get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok(schedule)
    }

    /// Finds a schedule of the project that is not deleted.
    pub async fn find_schedule(&self, project: &ProjectId, id: &ScheduleId) -> Result<Option<Schedule>> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, project, id).await
    }

    /// Lists the project's schedules, newest first.
    pub async fn list_schedules(
        &self,
        project: &ProjectId,
        filter: &ScheduleFilter,
        page: Page,
    ) -> Result<Paged<Schedule>> {
        const WHERE: &str = "where s.project_id = $1
               and s.deleted_at is null
               and ($2::boolean is null or s.enabled = $2)
               and ($3::text is null or s.agent_id = $3)
               and ($4::text is null or s.environment_id = $4)
               and ($5::boolean is null or (s.cron is not null) = $5)
               and ($6::text is null or s.stored ->> 'appId' = $6)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_schedules
             {SELECT} {WHERE} order by s.created_at desc, s.id desc limit $7 offset $8"
        )))
        .bind(project.as_str())
        .bind(filter.enabled)
        .bind(&filter.agent_id)
        .bind(&filter.environment_id)
        .bind(filter.is_recurring)
        .bind(&filter.app_id)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_schedules: total
             select count(*) from schedules s {WHERE}"
        )))
        .bind(project.as_str())
        .bind(filter.enabled)
        .bind(&filter.agent_id)
        .bind(&filter.environment_id)
        .bind(filter.is_recurring)
        .bind(&filter.app_id)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Counts what became of the executions of schedules. Those without any are not among them.
    ///
    /// Not part of a schedule: it looks at all of its executions, which who fires it must not wait for.
    pub async fn tally_schedules(&self, schedules: &[ScheduleId]) -> Result<HashMap<ScheduleId, Tally>> {
        let rows = sqlx::query(
            "-- tally_schedules
             select x.schedule_id,
                    count(x.run_id) as runs,
                    count(*) filter (where r.status = 'completed') as successes,
                    count(*) filter (where x.state = 'failed' or r.status = 'failed') as failures,
                    max(x.started_at) as last_run_at
             from schedule_executions x left join runs r on r.id = x.run_id
             where x.schedule_id = any($1)
             group by x.schedule_id",
        )
        .bind(schedules.iter().map(ScheduleId::as_str).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &PgRow| {
            let tally = Tally {
                runs: row.try_get("runs")?,
                successes: row.try_get("successes")?,
                failures: row.try_get("failures")?,
                last_run_at: row.try_get("last_run_at")?,
            };
            Ok((row.parse("schedule_id")?, tally))
        };
        rows.iter().map(read).collect()
    }

    /// Changes a schedule as `change` says, under its row's lock. Its next moment is found anew, and failures before the
    /// change no longer count.
    ///
    /// # Errors
    /// What `change` refuses; `NotFound` also for a foreign agent or environment.
    pub async fn update_schedule<E: From<Error>>(
        &self,
        project: &ProjectId,
        id: &ScheduleId,
        change: impl FnOnce(&mut Schedule) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Schedule, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        lock(&mut tx, project, id).await?;
        let before = get(&mut tx, project, id).await?;
        let mut schedule = before.clone();
        change(&mut schedule)?;
        let environment = schedule.environment_id.as_ref().filter(|_| schedule.environment_id != before.environment_id);
        let agent = schedule.agent_id.as_ref().filter(|_| schedule.agent_id != before.agent_id);
        threads::check_owner(&mut tx, project, environment, agent).await?;
        write(&mut tx, &schedule).await?;
        let schedule = get(&mut tx, project, id).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(schedule)
    }

    /// Deletes a schedule so that it is no longer found and fires no more. What it started goes on; what waits does not.
    pub async fn delete_schedule(&self, project: &ProjectId, id: &ScheduleId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        sqlx::query("update schedules set deleted_at = now(), next_run_at = null where id = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "-- delete_schedule: waiting
             update schedule_executions set state = 'skipped', error = 'The schedule was deleted'
             where schedule_id = $1 and state = 'waiting'",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Lists what became of moments, newest first; those of deleted schedules too.
    pub async fn list_executions(
        &self,
        project: &ProjectId,
        filter: &ExecutionFilter,
        page: Page,
    ) -> Result<Paged<Execution>> {
        const WHERE: &str = "where x.project_id = $1
               and ($2::text is null or x.schedule_id = $2)
               and ($3::text is null or s.stored ->> 'appId' = $3)
               and ($4::text is null or s.stored ->> 'contextId' = $4)
               and ($5::timestamptz is null or x.scheduled_for >= $5)
               and ($6::timestamptz is null or x.scheduled_for <= $6)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_executions
             {EXECUTION} {WHERE} order by x.scheduled_for desc, x.id desc limit $7 offset $8"
        )))
        .bind(project.as_str())
        .bind(&filter.schedule_id)
        .bind(&filter.app_id)
        .bind(&filter.context_id)
        .bind(filter.from)
        .bind(filter.until)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_executions: total
             select count(*) from schedule_executions x join schedules s on s.id = x.schedule_id {WHERE}"
        )))
        .bind(project.as_str())
        .bind(&filter.schedule_id)
        .bind(&filter.app_id)
        .bind(&filter.context_id)
        .bind(filter.from)
        .bind(filter.until)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read_execution).collect::<Result<_>>()?, total })
    }
}

/// Locks a schedule of the project that is not deleted.
async fn lock(tx: &mut PgConnection, project: &ProjectId, id: &ScheduleId) -> Result<()> {
    sqlx::query(
        "-- schedules: lock
         select 1 from schedules where project_id = $1 and id = $2 and deleted_at is null for update",
    )
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| Error::not_found("Schedule", id))
}

async fn write(tx: &mut PgConnection, schedule: &Schedule) -> Result<()> {
    let next = schedule.enabled.then(|| schedule.timing.next(schedule.timezone, Utc::now())).flatten();
    let (cron, scheduled_time) = timing_columns(&schedule.timing);
    sqlx::query(
        "-- update_schedule
         update schedules
         set name = $2, description = $3, agent_id = $4, environment_id = $5, task = $6, cron = $7,
             scheduled_time = $8, timezone = $9, enabled = $10, missed = $11, overlap = $12, next_run_at = $13,
             stored = $14, paused_reason = case when $10 then null else paused_reason end,
             counted_from = now(), updated_at = now()
         where id = $1",
    )
    .bind(schedule.id.as_str())
    .bind(&schedule.name)
    .bind(&schedule.description)
    .bind(schedule.agent_id.as_ref().map(AgentId::as_str))
    .bind(schedule.environment_id.as_ref().map(EnvironmentId::as_str))
    .bind(&schedule.task)
    .bind(cron)
    .bind(scheduled_time)
    .bind(schedule.timezone.name())
    .bind(schedule.enabled)
    .bind(schedule.missed.as_str())
    .bind(schedule.overlap.as_str())
    .bind(next)
    .bind(to_json(&schedule.stored))
    .execute(tx)
    .await?;
    Ok(())
}

async fn find(connection: &mut PgConnection, project: &ProjectId, id: &ScheduleId) -> Result<Option<Schedule>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- find_schedule
         {SELECT} where s.project_id = $1 and s.id = $2 and s.deleted_at is null"
    )))
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

async fn get(tx: &mut PgConnection, project: &ProjectId, id: &ScheduleId) -> Result<Schedule> {
    find(tx, project, id).await?.ok_or_else(|| Error::not_found("Schedule", id))
}

fn timing_columns(timing: &Timing) -> (Option<String>, Option<DateTime<Utc>>) {
    match timing {
        Timing::Recurring(cron) => (Some(cron.to_string()), None),
        Timing::Once(at) => (None, Some(*at)),
    }
}

fn read(row: &PgRow) -> Result<Schedule> {
    let timing = match row.parse_optional("cron")? {
        Some(cron) => Timing::Recurring(cron),
        None => Timing::Once(row.try_get("scheduled_time")?),
    };
    Ok(Schedule {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        agent_id: row.parse_optional("agent_id")?,
        agent_name: row.try_get("agent_name")?,
        environment_id: row.parse_optional("environment_id")?,
        environment_name: row.try_get("environment_name")?,
        task: row.try_get("task")?,
        timing,
        timezone: row.parse("timezone")?,
        enabled: row.try_get("enabled")?,
        paused_reason: row.try_get("paused_reason")?,
        missed: row.parse("missed")?,
        overlap: row.parse("overlap")?,
        next_run_at: row.try_get("next_run_at")?,
        stored: row.json("stored")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// An execution with its schedule, its run and its thread.
const EXECUTION: &str = "select x.*, s.name as schedule_name, r.status as run_status, r.completed_at,
        coalesce(x.error, r.outcome ->> 'message') as what_went_wrong,
        t.title, t.status as thread_status, t.created_at as thread_created_at,
        t.completed_at as thread_completed_at, t.last_message_preview
    from schedule_executions x
    join schedules s on s.id = x.schedule_id
    left join runs r on r.id = x.run_id
    left join threads t on t.id = x.thread_id";

fn read_execution(row: &PgRow) -> Result<Execution> {
    let thread = match row.try_get::<Option<String>, _>("thread_status")? {
        Some(status) => Some(ExecutionThread {
            title: row.try_get("title")?,
            status,
            created_at: row.try_get("thread_created_at")?,
            completed_at: row.try_get("thread_completed_at")?,
            last_message_preview: row.try_get("last_message_preview")?,
        }),
        None => None,
    };
    Ok(Execution {
        id: row.parse("id")?,
        schedule_id: row.parse("schedule_id")?,
        schedule_name: row.try_get("schedule_name")?,
        project_id: row.parse("project_id")?,
        is_manual: row.try_get("is_manual")?,
        scheduled_for: row.try_get("scheduled_for")?,
        state: row.parse("state")?,
        thread_id: row.parse_optional("thread_id")?,
        run_id: row.parse_optional("run_id")?,
        run_status: row.parse_optional("run_status")?,
        claimed_by: row.try_get("claimed_by")?,
        error: row.try_get("what_went_wrong")?,
        thread,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
