//! The runs of a project under the names that callers gave them: found, listed, called otherwise, hidden.
//!
//! A label is a row of its own, made in the transaction that makes its run, or when somebody first changes it. No worker
//! reads it, so changing one never gets in the way of a run.

use chrono::{DateTime, Utc};
use domain::{
    ProjectId, RunId, ThreadId,
    run::{Run, RunStatus},
    run_label::RunLabel,
};
use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
    runs,
};

/// Characters of a task that a list shows.
const LISTED_TASK_CHARS: i32 = 1000;

/// A run, and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledRun {
    pub run: Run,
    pub label: RunLabel,
    pub thread_title: Option<String>,
    /// The name of its thread's agent.
    pub agent_name: Option<String>,
    /// The message that causes it; in a list its beginning.
    pub task: Option<String>,
    pub updated_at: DateTime<Utc>,
}

/// Which runs of a project are listed.
#[derive(Debug, Clone, Default)]
pub struct LabelledRunFilter {
    pub thread: Option<ThreadId>,
    /// Any of these; all if empty.
    pub statuses: Vec<RunStatus>,
    /// Those that came at this moment or later.
    pub since: Option<DateTime<Utc>>,
}

/// The runs that are shown: of threads that are there, called by no other run, and not hidden.
const SHOWN: &str = "from runs r
    join threads t on t.id = r.thread_id and t.deleted_at is null
    left join run_labels l on l.run_id = r.id
    where r.project_id = $1 and r.parent_run_id is null and l.deleted_at is null";

/// Everything about one of them, given its thread, label, message and agent.
const COLUMNS: &str = "r.*, t.environment_id, t.agent_id, t.title as thread_title, a.name as thread_agent_name,
    l.name, l.agent_name, l.title, l.metadata, l.stored,
    greatest(r.queued_at, r.started_at, r.completed_at, l.updated_at) as updated_at";

/// The runs whose ids are in `shown`, with all that is told of them.
const WHOLE: &str = "from shown s
    join runs r on r.id = s.id
    join threads t on t.id = r.thread_id
    left join run_labels l on l.run_id = r.id
    left join agents a on a.id = t.agent_id and a.project_id = r.project_id
    left join messages m on m.id = r.message_id";

/// What causes a run: its message, or while it is held what will be it.
const TASK: &str = "coalesce(m.content, r.held_messages -> -1 ->> 'content')";

impl Store {
    /// Finds a run of the project that is shown.
    pub async fn find_labelled_run(&self, project: &ProjectId, id: &RunId) -> Result<Option<LabelledRun>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_labelled_run
             with shown as (select r.id {SHOWN} and r.id = $2)
             select {COLUMNS}, {TASK} as task
             {WHOLE}"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the project's runs that are shown, newest first.
    pub async fn list_labelled_runs(
        &self,
        project: &ProjectId,
        only: &LabelledRunFilter,
        page: Page,
    ) -> Result<Paged<LabelledRun>> {
        let filter = format!(
            "{SHOWN}
               and ($2::text is null or r.thread_id = $2)
               and (cardinality($3::text[]) = 0 or r.status = any($3))
               and ($4::timestamptz is null or r.queued_at >= $4)"
        );
        let statuses: Vec<&str> = only.statuses.iter().map(|status| status.as_str()).collect();
        // The page first: messages are long, and only those of the page are read.
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_labelled_runs
             with shown as (
                 select r.id {filter} order by r.queued_at desc, r.id desc limit $5 offset $6
             )
             select {COLUMNS}, left({TASK}, {LISTED_TASK_CHARS}) as task
             {WHOLE}
             order by r.queued_at desc, r.id desc"
        )))
        .bind(project.as_str())
        .bind(only.thread.as_ref().map(ThreadId::as_str))
        .bind(&statuses)
        .bind(only.since)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_labelled_runs: total
             select count(*) {filter}"
        )))
        .bind(project.as_str())
        .bind(only.thread.as_ref().map(ThreadId::as_str))
        .bind(&statuses)
        .bind(only.since)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Changes a run's label as `change` says, under its run's row lock.
    ///
    /// # Errors
    /// `NotFound` for a run that is not shown in the project.
    pub async fn change_run_label(
        &self,
        project: &ProjectId,
        id: &RunId,
        change: impl FnOnce(&mut RunLabel) + Send,
    ) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        let row = sqlx::query("select * from run_labels where run_id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let mut label = row.as_ref().map(read_label).transpose()?.unwrap_or_default();
        change(&mut label);
        write(&mut tx, id, &label).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Hides a run from then on. Its thread keeps what it said, did and cost.
    ///
    /// # Errors
    /// `NotFound` for a run that is not shown in the project.
    pub async fn hide_run(&self, project: &ProjectId, id: &RunId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        sqlx::query(
            "-- hide_run
             insert into run_labels (run_id, deleted_at) values ($1, now())
             on conflict (run_id) do update set deleted_at = now(), updated_at = now()",
        )
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Locks the row of a run that is shown.
async fn lock(tx: &mut PgConnection, project: &ProjectId, id: &RunId) -> Result<()> {
    let found = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- run_labels: lock
         select 1 {SHOWN} and r.id = $2 for no key update of r"
    )))
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(tx)
    .await?;
    found.map(drop).ok_or_else(|| Error::not_found("Run", id))
}

/// Writes the label of a run in the transaction that makes it.
pub(crate) async fn insert(tx: &mut PgConnection, run: &RunId, label: Option<&RunLabel>) -> Result<()> {
    match label {
        Some(label) => write(tx, run, label).await,
        None => Ok(()),
    }
}

async fn write(tx: &mut PgConnection, run: &RunId, label: &RunLabel) -> Result<()> {
    sqlx::query(
        "-- run_labels: write
         insert into run_labels (run_id, name, agent_name, title, metadata, stored)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (run_id) do update
         set name = excluded.name, agent_name = excluded.agent_name, title = excluded.title,
             metadata = excluded.metadata, stored = excluded.stored, updated_at = now()",
    )
    .bind(run.as_str())
    .bind(&label.name)
    .bind(&label.agent_name)
    .bind(&label.title)
    .bind(label.metadata.as_ref().map(to_json))
    .bind(Value::Object(label.stored.clone()))
    .execute(tx)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<LabelledRun> {
    Ok(LabelledRun {
        run: runs::read(row)?,
        label: read_label(row)?,
        thread_title: row.try_get("thread_title")?,
        agent_name: row.try_get("thread_agent_name")?,
        task: row.try_get("task")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn read_label(row: &PgRow) -> Result<RunLabel> {
    Ok(RunLabel {
        name: row.try_get("name")?,
        agent_name: row.try_get("agent_name")?,
        title: row.try_get("title")?,
        metadata: row.json_optional("metadata")?,
        stored: row.json_optional("stored")?.unwrap_or_default(),
    })
}
