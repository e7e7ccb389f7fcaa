//! What was done in an environment lately, counted by the hour.

use chrono::{DateTime, Utc};
use domain::{EnvironmentId, ProjectId, RunId, run::RunStatus};
use sqlx::{Row, postgres::PgRow};

use crate::{Result, Store, row::ReadColumn};

/// The last 24 hours of the clock, the one under way among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// All of it together.
    pub whole: Counted,
    /// One for each hour, oldest first, also where nothing was done.
    pub hours: Vec<Counted>,
    /// Of all time.
    pub last_run_at: Option<DateTime<Utc>>,
    /// The newest, also of earlier days.
    pub recent: Vec<RecentRun>,
}

/// The runs that were asked for in a time, and how they went.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub from: DateTime<Utc>,
    pub total: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    /// From the start of the work to its end, of those that are over.
    pub p50_ms: Option<i64>,
    pub p95_ms: Option<i64>,
    pub average_ms: Option<i64>,
    pub sum_ms: i64,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentRun {
    pub id: RunId,
    /// Its thread's.
    pub title: Option<String>,
    pub status: RunStatus,
    pub queued_at: DateTime<Utc>,
    pub duration_ms: Option<i64>,
}

/// The figures of a group of runs `r`, some of which may be null.
const FIGURES: &str = "
    count(r.id) as total,
    count(r.id) filter (where r.status = 'completed') as completed,
    count(r.id) filter (where r.status = 'failed') as failed,
    count(r.id) filter (where r.status = 'cancelled') as cancelled,
    percentile_disc(0.5) within group (order by r.ms) as p50_ms,
    percentile_disc(0.95) within group (order by r.ms) as p95_ms,
    avg(r.ms)::bigint as average_ms,
    coalesce(sum(r.ms), 0)::bigint as sum_ms";

/// The runs of environment $2 in project $1.
const RUNS: &str = "
    select r.id, r.status, r.queued_at, t.title,
        (extract(epoch from r.completed_at - r.started_at) * 1000)::bigint as ms
    from threads t join runs r on r.thread_id = t.id
    where t.project_id = $1 and t.environment_id = $2";

impl Store {
    /// Gives how many runs there were in an environment, and when the newest was asked for.
    pub async fn environment_runs(
        &self,
        project: &ProjectId,
        id: &EnvironmentId,
    ) -> Result<(i64, Option<DateTime<Utc>>)> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- environment_runs
             select count(*) as total, max(queued_at) as last_at from ({RUNS}) as r"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok((row.try_get("total")?, row.try_get("last_at")?))
    }

    /// Counts what was done in an environment in the last 24 hours, and lists its newest runs.
    pub async fn environment_day(&self, project: &ProjectId, id: &EnvironmentId, recent: i64) -> Result<Day> {
        let whole = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- environment_day: whole
             with all_runs as ({RUNS}),
                 r as (select * from all_runs where queued_at >= date_trunc('hour', now()) - interval '23 hours')
             select date_trunc('hour', now()) - interval '23 hours' as from_at, {FIGURES},
                 (select max(queued_at) from all_runs) as last_run_at
             from r"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await?;
        let first: DateTime<Utc> = whole.try_get("from_at")?;
        let hours = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- environment_day: hours
             with all_runs as ({RUNS} and r.queued_at >= $3)
             select hour as from_at, {FIGURES}
             from generate_series($3::timestamptz, $3::timestamptz + interval '23 hours', interval '1 hour') as hour
             left join all_runs r on r.queued_at >= hour and r.queued_at < hour + interval '1 hour'
             group by hour order by hour"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(first)
        .fetch_all(&self.pool)
        .await?;
        let recent = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- environment_day: recent
             {RUNS} order by r.queued_at desc, r.id desc limit $3"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(recent)
        .fetch_all(&self.pool)
        .await?;
        Ok(Day {
            last_run_at: whole.try_get("last_run_at")?,
            whole: counted(&whole)?,
            hours: hours.iter().map(counted).collect::<Result<_>>()?,
            recent: recent.iter().map(recent_run).collect::<Result<_>>()?,
        })
    }
}

fn counted(row: &PgRow) -> Result<Counted> {
    Ok(Counted {
        from: row.try_get("from_at")?,
        total: row.try_get("total")?,
        completed: row.try_get("completed")?,
        failed: row.try_get("failed")?,
        cancelled: row.try_get("cancelled")?,
        p50_ms: row.try_get("p50_ms")?,
        p95_ms: row.try_get("p95_ms")?,
        average_ms: row.try_get("average_ms")?,
        sum_ms: row.try_get("sum_ms")?,
    })
}

fn recent_run(row: &PgRow) -> Result<RecentRun> {
    Ok(RecentRun {
        id: row.parse("id")?,
        title: row.try_get("title")?,
        status: row.parse("status")?,
        queued_at: row.try_get("queued_at")?,
        duration_ms: row.try_get("ms")?,
    })
}
