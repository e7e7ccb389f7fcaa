//! Threads of a project.

use chrono::{DateTime, Utc};
use domain::{
    AgentId, EnvironmentId, ProjectId, ThreadId,
    limits::Limits,
    run::Outcome,
    thread::{Thread, ThreadStatus},
};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
    runs::{self, Active},
};

/// What a new thread is made of.
#[derive(Debug, Clone)]
pub struct NewThread {
    pub environment_id: EnvironmentId,
    pub agent_id: Option<AgentId>,
    pub app_id: Option<String>,
    pub title: Option<String>,
    pub task: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    /// What all runs of the thread together may use.
    pub limits: Limits,
}

/// Which threads are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct ThreadFilter {
    pub environment_id: Option<String>,
    pub agent_id: Option<String>,
    pub app_id: Option<String>,
    pub status: Option<ThreadStatus>,
    pub created_after: Option<DateTime<Utc>>,
}

/// Columns of a thread, with the names of what it refers to.
pub(crate) const COLUMNS: &str = "t.*, e.name as environment_name, a.name as agent_name";
pub(crate) const JOINS: &str = "left join environments e on e.id = t.environment_id
    left join agents a on a.project_id = t.project_id and a.id = t.agent_id";

impl Store {
    /// Makes a thread without any work to do.
    ///
    /// # Errors
    /// `NotFound` if the environment or the agent is not the project's.
    pub async fn create_thread(&self, project: &ProjectId, new: NewThread) -> Result<Thread> {
        let mut tx = self.pool.begin().await?;
        let id = insert(&mut tx, project, &new).await?;
        let thread = get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok(thread)
    }

    /// Finds a thread of the project that is not deleted.
    pub async fn find_thread(&self, project: &ProjectId, id: &ThreadId) -> Result<Option<Thread>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_thread
             select {COLUMNS} from threads t {JOINS} where t.project_id = $1 and t.id = $2 and t.deleted_at is null"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the project's threads, newest first.
    pub async fn list_threads(&self, project: &ProjectId, filter: &ThreadFilter, page: Page) -> Result<Paged<Thread>> {
        const WHERE: &str = "where t.project_id = $1
               and t.deleted_at is null
               and ($2::text is null or t.environment_id = $2)
               and ($3::text is null or t.agent_id = $3)
               and ($4::text is null or t.app_id = $4)
               and ($5::text is null or t.status = $5)
               and ($6::timestamptz is null or t.created_at > $6)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_threads
             select {COLUMNS} from threads t {JOINS} {WHERE}
             order by t.created_at desc, t.id desc
             limit $7 offset $8"
        )))
        .bind(project.as_str())
        .bind(&filter.environment_id)
        .bind(&filter.agent_id)
        .bind(&filter.app_id)
        .bind(filter.status.map(ThreadStatus::as_str))
        .bind(filter.created_after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_threads: total
             select count(*) from threads t {WHERE}"
        )))
        .bind(project.as_str())
        .bind(&filter.environment_id)
        .bind(&filter.agent_id)
        .bind(&filter.app_id)
        .bind(filter.status.map(ThreadStatus::as_str))
        .bind(filter.created_after)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Changes a thread as `change` says, under its row's lock. Only what people set is written: title, task, status
    /// (between runs), agent, environment, app and metadata.
    ///
    /// # Errors
    /// `State` if the status would change while a run is under way; `NotFound` also for a foreign agent or environment.
    pub async fn update_thread(
        &self,
        project: &ProjectId,
        id: &ThreadId,
        change: impl FnOnce(&mut Thread) + Send,
    ) -> Result<Thread> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "-- update_thread: lock
             select 1 from threads where project_id = $1 and id = $2 and deleted_at is null for update",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Thread", id))?;
        let before = get(&mut tx, project, id).await?;
        let mut thread = before.clone();
        change(&mut thread);
        if thread.status != before.status && (before.status.is_busy() || thread.status.is_busy()) {
            return Err(Error::State(format!(
                "the status cannot change from {} to {}: it follows the thread's runs",
                before.status, thread.status
            )));
        }
        // Only what changes: a thread outlives its environment and its agent, and can still be renamed and archived.
        let environment = (thread.environment_id != before.environment_id).then_some(&thread.environment_id);
        let agent = thread.agent_id.as_ref().filter(|_| thread.agent_id != before.agent_id);
        check_owner(&mut tx, project, environment, agent).await?;
        sqlx::query(
            "-- update_thread
             update threads
             set title = $2, task = $3, status = $4, agent_id = $5, environment_id = $6, app_id = $7, metadata = $8,
                 limits = $9, updated_at = now()
             where id = $1",
        )
        .bind(id.as_str())
        .bind(thread.title)
        .bind(thread.task)
        .bind(thread.status.as_str())
        .bind(thread.agent_id.as_ref().map(AgentId::as_str))
        .bind(thread.environment_id.as_str())
        .bind(thread.app_id)
        .bind(thread.metadata.as_ref().map(to_json))
        .bind(to_json(&thread.limits))
        .execute(&mut *tx)
        .await?;
        let thread = get(&mut tx, project, id).await?;
        tx.commit().await?;
        Ok(thread)
    }

    /// Deletes a thread so that it is no longer found, and asks a run under way to stop.
    pub async fn delete_thread(&self, project: &ProjectId, id: &ThreadId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let cancelled = sqlx::query(
            "-- delete_thread: cancel
             update runs
             set cancel_requested_at = coalesce(cancel_requested_at, now())
             where thread_id = $1
               and project_id = $2
               and parent_run_id is null
               and status not in ('held', 'completed', 'failed', 'cancelled')
             returning id, status",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .fetch_all(&mut *tx)
        .await?;
        let done = sqlx::query(
            "-- delete_thread
             update threads set deleted_at = now() where project_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("Thread", id));
        }
        let mut stopped = Vec::new();
        for row in &cancelled {
            let active = Active { id: row.parse("id")?, status: row.parse("status")? };
            // One that no worker has is over now; some wait for what nobody can give any more.
            let finished = runs::finish_idle(&mut tx, &active, &Outcome::Cancelled).await?;
            stopped.push((active.id, finished));
        }
        tx.commit().await?;
        for (run, finished) in &stopped {
            self.hub.hint_cancel(run);
            if let Some(finished) = finished {
                self.hint_finished(id, finished);
            }
        }
        Ok(())
    }
}

/// Inserts a thread after checking that what it refers to is the project's.
pub(crate) async fn insert(tx: &mut PgConnection, project: &ProjectId, new: &NewThread) -> Result<ThreadId> {
    check_owner(tx, project, Some(&new.environment_id), new.agent_id.as_ref()).await?;
    let id = ThreadId::generate();
    sqlx::query(
        "-- insert
         insert into threads (id, project_id, environment_id, agent_id, app_id, title, task, metadata, limits)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id.as_str())
    .bind(project.as_str())
    .bind(new.environment_id.as_str())
    .bind(new.agent_id.as_ref().map(AgentId::as_str))
    .bind(&new.app_id)
    .bind(&new.title)
    .bind(&new.task)
    .bind(new.metadata.as_ref().map(to_json))
    .bind(to_json(&new.limits))
    .execute(tx)
    .await?;
    Ok(id)
}

pub(crate) async fn check_owner(
    tx: &mut PgConnection,
    project: &ProjectId,
    environment: Option<&EnvironmentId>,
    agent: Option<&AgentId>,
) -> Result<()> {
    let row = sqlx::query(
        "-- check_owner
         select $2::text is null or exists(
             select 1 from environments where id = $2 and project_id = $1 and deleted_at is null
         ) as has_environment, $3::text is null or exists(
             select 1 from agents where id = $3 and project_id = $1 and deleted_at is null
         ) as has_agent",
    )
    .bind(project.as_str())
    .bind(environment.map(EnvironmentId::as_str))
    .bind(agent.map(AgentId::as_str))
    .fetch_one(tx)
    .await?;
    match (environment, agent) {
        (Some(environment), _) if !row.try_get("has_environment")? => Err(Error::not_found("Environment", environment)),
        (_, Some(agent)) if !row.try_get("has_agent")? => Err(Error::not_found("Agent", agent)),
        _ => Ok(()),
    }
}

pub(crate) async fn get(tx: &mut PgConnection, project: &ProjectId, id: &ThreadId) -> Result<Thread> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- get
         select {COLUMNS} from threads t {JOINS} where t.project_id = $1 and t.id = $2"
    )))
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_one(tx)
    .await?;
    read(&row)
}

pub(crate) fn read(row: &PgRow) -> Result<Thread> {
    Ok(Thread {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        environment_id: row.parse("environment_id")?,
        environment_name: row.try_get("environment_name")?,
        agent_id: row.parse_optional("agent_id")?,
        agent_name: row.try_get("agent_name")?,
        app_id: row.try_get("app_id")?,
        title: row.try_get("title")?,
        task: row.try_get("task")?,
        status: row.parse("status")?,
        metadata: row.json_optional("metadata")?,
        message_count: row.try_get("message_count")?,
        last_message_at: row.try_get("last_message_at")?,
        last_message_preview: row.try_get("last_message_preview")?,
        last_sequence: row.try_get("last_sequence")?,
        spent: row.spent()?,
        limits: row.json_optional("limits")?.unwrap_or_default(),
        stop_reason: row.try_get("stop_reason")?,
        held: row.try_get("held")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        started_at: row.try_get("started_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
