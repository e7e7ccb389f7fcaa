//! The transcript: what the model sees, append-only, byte for byte as it was sent or received.

use domain::{RunId, ThreadId};
use sqlx::Row;

use crate::{Result, Store, row::ReadColumn};

/// One entry. `blocks` is a JSON array of the model's content blocks, opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub run_id: RunId,
    /// `user` or `assistant`.
    pub role: String,
    pub blocks: String,
}

impl Store {
    /// Gives the whole transcript of a thread, in order.
    pub async fn load_transcript(&self, thread: &ThreadId) -> Result<Vec<Entry>> {
        let rows = sqlx::query(
            "-- load_transcript
             select run_id, role, blocks from transcript where thread_id = $1 order by position",
        )
        .bind(thread.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Entry { run_id: row.parse("run_id")?, role: row.try_get("role")?, blocks: row.try_get("blocks")? })
            })
            .collect()
    }
}
