//! Sessions of deep research: what there is of them, and what they have read. Carrying one forward is `progress`.
//!
//! A deleted session keeps its row, so that its call, taken up again, does not begin it anew. Lock order: the run that made
//! the call and its agents' runs, then the session, then the thread.

mod progress;

use domain::{
    ProjectId, ResearchId, RunId, ThreadId,
    research::{Happening, ResearchStatus, Session, Source, part_id},
    run::RunStatus,
};
use sqlx::{Row, postgres::PgRow};

pub(crate) use self::progress::close;
pub use self::progress::{NewSession, Page, Step};
use crate::{Error, Result, Store, row::ReadColumn, subagents};

/// What a session is, with how many pages it has read.
const SESSION: &str =
    "s.*, (select count(*) from research_sources r where r.session_id = s.id and r.number is not null)
    as sources";

impl Store {
    /// Lists the sessions of a thread of the project, newest first: the newest hundred, and how many there are.
    ///
    /// # Errors
    /// `NotFound` if the thread is not there.
    pub async fn list_research(&self, project: &ProjectId, thread: &ThreadId) -> Result<(Vec<Session>, i64)> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_research
             select {SESSION}, count(*) over () as total
             from research_sessions s join threads t on t.id = s.thread_id
             where s.thread_id = $1 and s.project_id = $2 and s.deleted_at is null and t.deleted_at is null
             order by s.created_at desc, s.id desc
             limit 100"
        )))
        .bind(thread.as_str())
        .bind(project.as_str())
        .fetch_all(&self.pool)
        .await?;
        let Some(first) = rows.first() else {
            return match self.find_thread(project, thread).await? {
                Some(_) => Ok((Vec::new(), 0)),
                None => Err(Error::not_found("Thread", thread)),
            };
        };
        let total = first.try_get("total")?;
        Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
    }

    /// Finds a session of a thread of the project.
    pub async fn find_research(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        session: &ResearchId,
    ) -> Result<Option<Session>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_research
             select {SESSION}
             from research_sessions s join threads t on t.id = s.thread_id
             where s.id = $1 and s.thread_id = $2 and s.project_id = $3
               and s.deleted_at is null and t.deleted_at is null"
        )))
        .bind(session.as_str())
        .bind(thread.as_str())
        .bind(project.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the pages that a session has read, in the order in which it did.
    pub async fn list_research_sources(&self, session: &ResearchId) -> Result<Vec<Source>> {
        let rows = sqlx::query(
            "-- list_research_sources
             select * from research_sources where session_id = $1 and number is not null order by number",
        )
        .bind(session.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Source {
                    number: row.try_get("number")?,
                    url: row.try_get("url")?,
                    requested: row.try_get("requested")?,
                    title: row.try_get("title")?,
                    hash: row.try_get("hash")?,
                    fetched_at: row.try_get("fetched_at")?,
                    is_cited: row.try_get("is_cited")?,
                })
            })
            .collect()
    }

    /// Deletes a session of a thread of the project, with its list of sources. One that is under way is stopped: its agents
    /// are asked to end, and the run that called them goes on without it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn delete_research(&self, project: &ProjectId, thread: &ThreadId, session: &ResearchId) -> Result<()> {
        let missing = || Error::not_found("Research session", session);
        let found = self.find_research(project, thread, session).await?.ok_or_else(missing)?;
        let mut tx = self.pool.begin().await?;
        subagents::lock_chain(&mut tx, &found.run_id).await?;
        // Before the session: an agent that writes down a page holds its own row, and waits for the session's.
        let agents = progress::stop_agents(&mut tx, &found).await?;
        let row = sqlx::query(
            "-- delete_research
             with gone as (delete from research_sources where session_id = $1)
             update research_sessions s
             set deleted_at = now(), updated_at = now()
             where s.id = $1 and s.deleted_at is null
             returning s.*, 0::bigint as sources",
        )
        .bind(session.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(missing)?;
        let deleted = read(&row)?;
        let sequence = match deleted.status {
            ResearchStatus::Running => {
                progress::end(&mut tx, &deleted, Happening::Cancelled, "The research was deleted.").await?
            }
            ResearchStatus::Completed | ResearchStatus::Failed | ResearchStatus::Cancelled => None,
        };
        tx.commit().await?;
        if let Some(sequence) = sequence {
            self.hub.hint_events(thread, sequence);
        }
        for agent in &agents {
            self.hub.hint_cancel(agent);
        }
        self.hub.hint_work();
        Ok(())
    }
}

/// Reads a session that was selected with how many pages it has read.
fn read(row: &PgRow) -> Result<Session> {
    Ok(Session {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        thread_id: row.parse("thread_id")?,
        run_id: row.parse("run_id")?,
        call_id: row.try_get("call_id")?,
        query: row.try_get("query")?,
        model: row.try_get("model")?,
        status: row.parse("status")?,
        phase: row.parse("phase")?,
        progress: row.try_get("progress")?,
        questions: row.json("questions")?,
        notes: row.json("notes")?,
        report: row.json_optional("report")?,
        error: row.try_get("error")?,
        resumes: row.try_get("resumes")?,
        sources: i32::try_from(row.try_get::<i64, _>("sources")?).unwrap_or(i32::MAX),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}

/// The beginning of what all parts of a session's call answer.
fn parts_of(session: &Session) -> String {
    part_id(&session.call_id, "")
}

/// Tells whether a run that another one has called waits for somebody.
fn is_waiting(row: &PgRow) -> Result<bool> {
    Ok(row.parse::<RunStatus>("status")? == RunStatus::Waiting)
}

/// Reads the id of a run.
fn read_run(row: &PgRow) -> Result<RunId> {
    row.parse("id")
}
