//! What fills a thread's context window, and the runs that empty it.
//!
//! How full a window is, the model itself tells with each reply. That holds until something is written behind the reply
//! or in place of everything, so the numbers come with what was written since.

use domain::{
    ApiKeyId, ProjectId, RunId, ThreadId,
    event::{Event, Trigger},
    run::{Outcome, RunKind, RunOptions, RunStatus},
};
use sqlx::Row;

use crate::{Error, Result, Store, events::to_text, row::to_json, runs::Started, transcript::COUNTING};

/// How full the window was at the thread's newest reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextUsage {
    pub model: String,
    /// Prompt and reply together, as the model counted them.
    pub tokens: i64,
    /// Bytes of the transcript written since.
    pub newer_bytes: i64,
}

/// The transcript as the model reads it, measured in bytes of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextSize {
    /// The instructions that the thread's requests begin with.
    pub system_bytes: i64,
    pub message_bytes: i64,
    /// Entries of the conversation since it began or was last cleared.
    pub entries: i64,
}

impl Store {
    /// Finds how full the window is; `None` before the first reply, and until the next one after a compaction.
    ///
    /// A copy of a thread has the entries of the original's runs at the same positions, so their replies tell it too.
    pub async fn find_context_usage(&self, thread: &ThreadId) -> Result<Option<ContextUsage>> {
        self.find_branch_usage(thread, None).await
    }

    /// The same of an agent that was called in the thread, by its run.
    pub async fn find_branch_usage(&self, thread: &ThreadId, branch: Option<&RunId>) -> Result<Option<ContextUsage>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_context_usage
             with {COUNTING}
             select t.model,
                 t.input_tokens + t.cache_read_tokens + t.cache_write_tokens + t.output_tokens as tokens,
                 coalesce((
                     select sum(octet_length(e.blocks)) from counting e
                     where e.position > t.position and e.role in ('user', 'assistant')
                 ), 0)::bigint as newer_bytes
             from turns t join counting c on c.run_id = t.run_id and c.position = t.position
             where t.kind = 'reply' and t.position > (select position from marker)
             order by t.position desc, t.created_at desc
             limit 1"
        )))
        .bind(thread.as_str())
        .bind(branch.map(RunId::as_str))
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(ContextUsage {
                model: row.try_get("model")?,
                tokens: row.try_get("tokens")?,
                newer_bytes: row.try_get("newer_bytes")?,
            })
        })
        .transpose()
    }

    /// Measures what the model would be sent.
    pub async fn measure_context(&self, thread: &ThreadId) -> Result<ContextSize> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- measure_context
             with {COUNTING}
             select
                 coalesce((
                     select octet_length(blocks) from counting where role = 'system' order by position desc limit 1
                 ), 0)::bigint as system_bytes,
                 coalesce(sum(octet_length(e.blocks)) filter (where e.role in ('user', 'assistant', 'compaction')), 0)::bigint
                     as message_bytes,
                 count(*) filter (where e.role in ('user', 'assistant', 'compaction')) as entries
             from counting e, marker
             where e.position >= marker.position"
        )))
        .bind(thread.as_str())
        .bind(None::<&str>)
        .fetch_one(&self.pool)
        .await?;
        Ok(ContextSize {
            system_bytes: row.try_get("system_bytes")?,
            message_bytes: row.try_get("message_bytes")?,
            entries: row.try_get("entries")?,
        })
    }

    /// Starts a run that summarises the conversation so far. `wishes` is what the summary shall look at.
    ///
    /// # Errors
    /// `NotFound`, `Busy` if a run is under way, `State` if there is nothing to summarise.
    pub async fn start_compaction(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        wishes: Option<String>,
        key_id: Option<ApiKeyId>,
    ) -> Result<Started> {
        let kind = RunKind::Compact;
        let options = RunOptions { kind, execution_content: wishes, key_id, ..RunOptions::default() };
        let run_id = RunId::generate();
        let row = sqlx::query(
            "-- start_compaction
             with thread as (
                 update threads t
                 set status = 'running',
                     last_sequence = t.last_sequence + 1,
                     completed_at = null,
                     updated_at = now()
                 where t.id = $1
                   and t.project_id = $2
                   and t.deleted_at is null
                   and t.last_position > 0
                   and t.status not in ('running', 'permission_asked')
                 returning t.id, t.project_id, t.last_sequence
             ), run as (
                 insert into runs (id, thread_id, project_id, status, options, after_sequence)
                 select $3, id, project_id, $4, $5, last_sequence - 1 from thread
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event)
                 select id, last_sequence, $3, $6 from thread
             )
             select last_sequence - 1 as after_sequence from thread",
        )
        .bind(thread.as_str())
        .bind(project.as_str())
        .bind(run_id.as_str())
        .bind(RunStatus::Queued.as_str())
        .bind(to_json(&options))
        .bind(to_text(&Event::RunQueued))
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Err(self.why_not_compacted(project, thread).await?) };
        let after_sequence = row.try_get("after_sequence")?;
        self.hub.hint_work();
        self.hub.hint_events(thread, after_sequence + 1);
        Ok(Started { thread_id: thread.clone(), run_id, after_sequence })
    }

    /// Has the model forget the conversation so far. Messages, log, files and the transcript stay.
    ///
    /// It is written down as a run that is over at once. # Errors: as [`Store::start_compaction`].
    pub async fn clear_context(&self, project: &ProjectId, thread: &ThreadId, pre_tokens: i64) -> Result<()> {
        let options = RunOptions { kind: RunKind::Clear, ..RunOptions::default() };
        let event = Event::Compacted { trigger: Trigger::Manual, pre_tokens, post_tokens: 0 };
        let outcome = Outcome::Completed { content: String::new() };
        let row = sqlx::query(
            "-- clear_context
             with thread as (
                 update threads t
                 set last_sequence = t.last_sequence + 1,
                     last_position = t.last_position + 1,
                     updated_at = now()
                 where t.id = $1
                   and t.project_id = $2
                   and t.deleted_at is null
                   and t.last_position > 0
                   and t.status not in ('running', 'permission_asked')
                 returning t.id, t.project_id, t.last_sequence, t.last_position
             ), run as (
                 insert into runs (id, thread_id, project_id, status, options, after_sequence, outcome, started_at,
                     completed_at)
                 select $3, id, project_id, $4, $5, last_sequence - 1, $6, now(), now() from thread
             ), new_entry as (
                 insert into transcript (thread_id, position, run_id, role, blocks)
                 select id, last_position, $3, 'clear', '{}' from thread
             ), new_event as (
                 insert into events (thread_id, sequence, run_id, event)
                 select id, last_sequence, $3, $7 from thread
             )
             select last_sequence from thread",
        )
        .bind(thread.as_str())
        .bind(project.as_str())
        .bind(RunId::generate().as_str())
        .bind(outcome.status().as_str())
        .bind(to_json(&options))
        .bind(to_json(&outcome))
        .bind(to_text(&event))
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Err(self.why_not_compacted(project, thread).await?) };
        self.hub.hint_events(thread, row.try_get("last_sequence")?);
        Ok(())
    }

    async fn why_not_compacted(&self, project: &ProjectId, thread: &ThreadId) -> Result<Error> {
        let row = sqlx::query(
            "-- why_not_compacted
             select last_position from threads where id = $1 and project_id = $2 and deleted_at is null",
        )
        .bind(thread.as_str())
        .bind(project.as_str())
        .fetch_optional(&self.pool)
        .await?;
        Ok(match row {
            None => Error::not_found("Thread", thread),
            Some(row) if row.try_get::<i64, _>("last_position")? == 0 => {
                Error::State("the thread has no conversation yet".into())
            }
            Some(_) => Error::Busy,
        })
    }
}
