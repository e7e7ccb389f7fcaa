//! What was done lately in an environment, by an agent or in a whole project.

use chrono::{DateTime, Utc};
use domain::{AgentId, EnvironmentId, ProjectId, RunId, run::RunStatus};
use sqlx::{Row, postgres::PgRow};

use crate::{Result, Store, row::ReadColumn};

/// Whose runs are counted.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    Environment(&'a EnvironmentId),
    Agent(&'a AgentId),
    Project,
}

/// A time up to now, the hour or day under way among it, in parts of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// 24 hours of the clock.
    Day,
    /// 7 days of UTC.
    Week,
    /// 30 days of UTC.
    Month,
}

/// What is listed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Each {
    Environment,
    Agent,
}

/// What was done in a period.
#[derive(Debug, Clone, PartialEq)]
pub struct Analytics {
    /// All of it together.
    pub whole: Counted,
    /// One for each part of the period, oldest first, also where nothing was done.
    pub parts: Vec<Counted>,
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

/// An environment or an agent, and what was done in it or by it.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedOne {
    pub id: String,
    pub name: String,
    pub counted: Counted,
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

/// The runs in project $1 that are of a subject `$2`.
fn runs(subject: Subject<'_>) -> String {
    let condition = match subject {
        Subject::Environment(_) => "t.environment_id = $2",
        Subject::Agent(_) => "t.agent_id = $2",
        Subject::Project => "$2::text is null",
    };
    format!(
        "select r.id, r.status, r.queued_at, t.title, t.environment_id, t.agent_id,
             (extract(epoch from r.completed_at - r.started_at) * 1000)::bigint as ms
         from threads t join runs r on r.thread_id = t.id
         where t.project_id = $1 and {condition}"
    )
}

impl<'a> Subject<'a> {
    fn id(self) -> Option<&'a str> {
        match self {
            Self::Environment(id) => Some(id.as_str()),
            Self::Agent(id) => Some(id.as_str()),
            Self::Project => None,
        }
    }
}

impl Period {
    /// The unit of its parts, and how many there are.
    fn parts(self) -> (&'static str, i32) {
        match self {
            Self::Day => ("hour", 24),
            Self::Week => ("day", 7),
            Self::Month => ("day", 30),
        }
    }

    /// The moment at which it begins, in SQL.
    fn start(self) -> String {
        let (unit, count) = self.parts();
        format!("date_trunc('{unit}', now(), 'UTC') - interval '{} {unit}'", count - 1)
    }
}

impl Store {
    /// Gives how many runs there were in an environment, and when the newest was asked for.
    pub async fn environment_runs(
        &self,
        project: &ProjectId,
        id: &EnvironmentId,
    ) -> Result<(i64, Option<DateTime<Utc>>)> {
        let runs = runs(Subject::Environment(id));
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- environment_runs
             select count(*) as total, max(queued_at) as last_at from ({runs}) as r"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok((row.try_get("total")?, row.try_get("last_at")?))
    }

    /// Counts what was done in a period, and lists the newest runs.
    pub async fn analytics(
        &self,
        project: &ProjectId,
        subject: Subject<'_>,
        period: Period,
        recent: i64,
    ) -> Result<Analytics> {
        let (runs, start, (unit, count)) = (runs(subject), period.start(), period.parts());
        let whole = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- analytics: whole
             with all_runs as ({runs}),
                 r as (select * from all_runs where queued_at >= {start})
             select {start} as from_at, {FIGURES}, (select max(queued_at) from all_runs) as last_run_at
             from r"
        )))
        .bind(project.as_str())
        .bind(subject.id())
        .fetch_one(&self.pool)
        .await?;
        let first: DateTime<Utc> = whole.try_get("from_at")?;
        let parts = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- analytics: parts
             with all_runs as ({runs} and r.queued_at >= $3)
             select part as from_at, {FIGURES}
             from generate_series($3::timestamptz, $3::timestamptz + interval '{} {unit}', interval '1 {unit}')
                 as part
             left join all_runs r on r.queued_at >= part and r.queued_at < part + interval '1 {unit}'
             group by part order by part",
            count - 1
        )))
        .bind(project.as_str())
        .bind(subject.id())
        .bind(first)
        .fetch_all(&self.pool)
        .await?;
        let recent = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- analytics: recent
             {runs} order by r.queued_at desc, r.id desc limit $3"
        )))
        .bind(project.as_str())
        .bind(subject.id())
        .bind(recent)
        .fetch_all(&self.pool)
        .await?;
        Ok(Analytics {
            last_run_at: whole.try_get("last_run_at")?,
            whole: counted(&whole)?,
            parts: parts.iter().map(counted).collect::<Result<_>>()?,
            recent: recent.iter().map(recent_run).collect::<Result<_>>()?,
        })
    }

    /// Counts what was done in a period in each environment, or by each agent; those with most runs first.
    pub async fn analytics_of_each(
        &self,
        project: &ProjectId,
        each: Each,
        period: Period,
        limit: i64,
    ) -> Result<Vec<CountedOne>> {
        let (table, column) = match each {
            Each::Environment => ("environments", "environment_id"),
            Each::Agent => ("agents", "agent_id"),
        };
        let (runs, start) = (runs(Subject::Project), period.start());
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- analytics_of_each
             with r as (select * from ({runs}) as all_runs where queued_at >= {start})
             select x.id, x.name, {start} as from_at, {FIGURES}
             from {table} x left join r on r.{column} = x.id
             where x.project_id = $1 and x.deleted_at is null
             group by x.id, x.name order by count(r.id) desc, x.id limit $3"
        )))
        .bind(project.as_str())
        .bind(None::<&str>)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let read =
            |row: &PgRow| Ok(CountedOne { id: row.try_get("id")?, name: row.try_get("name")?, counted: counted(row)? });
        rows.iter().map(read).collect()
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
