//! Thumbs and reports about threads.

use domain::{
    ApiKeyId, ProjectId, ReportId, ThreadId,
    feedback::{Feedback, Rating, Report, ReportKind},
};
use serde_json::{Map, Value};
use sqlx::Row;

use crate::{
    Error, Result, Store,
    row::{ReadColumn, to_json},
};

impl Store {
    /// Gives what callers think of a thread of the project.
    pub async fn thread_feedback(&self, project: &ProjectId, thread: &ThreadId, key: &ApiKeyId) -> Result<Feedback> {
        let row = sqlx::query(
            "-- thread_feedback
             select (select count(*) from thread_ratings where thread_id = t.id and rating = 'up') as up_count,
                 (select count(*) from thread_ratings where thread_id = t.id and rating = 'down') as down_count,
                 (select count(*) from thread_reports where thread_id = t.id) as report_count,
                 (select rating from thread_ratings where thread_id = t.id and key_id = $3) as own
             from threads t
             where t.project_id = $1 and t.id = $2 and t.deleted_at is null",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(key.as_str())
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Thread", thread))?;
        Ok(Feedback {
            up_count: row.try_get("up_count")?,
            down_count: row.try_get("down_count")?,
            report_count: row.try_get("report_count")?,
            own: row.parse_optional("own")?,
        })
    }

    /// Sets what a caller thinks of a thread of the project; the newest rating of a caller counts.
    pub async fn rate_thread(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        key: &ApiKeyId,
        rating: Rating,
    ) -> Result<()> {
        let done = sqlx::query(
            "-- rate_thread
             insert into thread_ratings (thread_id, key_id, rating)
             select id, $3, $4 from threads where project_id = $1 and id = $2 and deleted_at is null
             on conflict (thread_id, key_id) do update set rating = excluded.rating, rated_at = now()",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(key.as_str())
        .bind(rating.as_str())
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("Thread", thread)) } else { Ok(()) }
    }

    /// Keeps a report about a thread of the project.
    pub async fn report_thread(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        key: &ApiKeyId,
        kind: ReportKind,
        message: &str,
        metadata: Option<&Map<String, Value>>,
    ) -> Result<Report> {
        let row = sqlx::query(
            "-- report_thread
             insert into thread_reports (id, thread_id, key_id, kind, message, metadata)
             select $3, id, $4, $5, $6, $7 from threads where project_id = $1 and id = $2 and deleted_at is null
             returning *",
        )
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(ReportId::generate().as_str())
        .bind(key.as_str())
        .bind(kind.as_str())
        .bind(message)
        .bind(metadata.map(to_json))
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Thread", thread))?;
        Ok(Report {
            id: row.parse("id")?,
            thread_id: row.parse("thread_id")?,
            key_id: row.parse("key_id")?,
            kind: row.parse("kind")?,
            message: row.try_get("message")?,
            metadata: row.json_optional("metadata")?,
            created_at: row.try_get("created_at")?,
        })
    }
}
