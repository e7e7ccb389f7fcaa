//! Lines that callers add to a thread's log.

use chrono::{DateTime, Utc};
use domain::{ProjectId, RunId, ThreadId};
use serde_json::Value;
use sqlx::Row;

use crate::{Error, Result, Store, row::ReadColumn};

/// A line as it was added; what is in it is the caller's and the API's matter.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedLog {
    /// The thread's newest event when the line came.
    pub after_sequence: i64,
    /// The run that it was added for.
    pub run_id: Option<RunId>,
    pub entry: Value,
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Adds lines to the log of a thread of the project, for one of its runs or for none, all or nothing, in their order.
    pub async fn add_logs(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        run: Option<&RunId>,
        entries: &[Value],
    ) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let after_sequence: i64 = sqlx::query_scalar(
            "-- add_logs: lock
             select last_sequence from threads where project_id = $1 and id = $2 and deleted_at is null for update",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Thread", thread))?;
        sqlx::query(
            "-- add_logs
             insert into thread_logs (thread_id, number, after_sequence, entry, run_id)
             select $1, n + (select coalesce(max(number), 0) from thread_logs where thread_id = $1), $2, entry, $4
             from unnest($3::jsonb[]) with ordinality as e(entry, n)",
        )
        .bind(thread.as_str())
        .bind(after_sequence)
        .bind(entries)
        .bind(run.map(RunId::as_str))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lists the lines that were added to a thread's log, in order.
    pub async fn list_added_logs(&self, thread: &ThreadId) -> Result<Vec<AddedLog>> {
        let rows = sqlx::query(
            "-- list_added_logs
             select after_sequence, run_id, entry, created_at from thread_logs where thread_id = $1 order by number",
        )
        .bind(thread.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AddedLog {
                    after_sequence: row.try_get("after_sequence")?,
                    run_id: row.parse_optional("run_id")?,
                    entry: row.try_get("entry")?,
                    created_at: row.try_get("created_at")?,
                })
            })
            .collect()
    }
}
