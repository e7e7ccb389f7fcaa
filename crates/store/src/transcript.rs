//! The transcript: what the model sees, append-only, byte for byte as it was sent or received.

use domain::{RunId, ThreadId};
use sqlx::Row;

use crate::{Result, Store, row::ReadColumn};

/// One entry. `blocks` is a JSON array of the model's content blocks, opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub run_id: RunId,
    /// `user` or `assistant`, `system` for instructions, `compaction` or `clear` for what replaces everything before it.
    pub role: String,
    /// Of a `compaction` or `clear` no array but an object.
    pub blocks: String,
}

/// What of the transcript of thread `$1` still counts, and where the newest entry is that replaces what is before it: of
/// the thread's own, or of that of the agent's run `$2`.
pub(crate) const COUNTING: &str = "rewinds as materialized (
     select position, (blocks::json ->> 'keep')::bigint as keep
     from transcript
     where thread_id = $1 and role = 'rewind' and $2::text is null
 ), counting as (
     select run_id, role, blocks, position
     from transcript t
     where thread_id = $1
       and branch is not distinct from $2
       and role <> 'rewind'
       and not exists (
           select 1 from rewinds where rewinds.position > t.position and rewinds.keep < t.position
       )
 ), marker as (
     select coalesce(max(position), 0) as position from counting where role in ('compaction', 'clear')
 )";

impl Store {
    /// Gives what the model reads of a thread's transcript, in order: all instructions, and everything from the newest
    /// entry on that replaces what is before it. What the thread was rewound behind is left out, and so is a replacement
    /// that came after it.
    pub async fn load_transcript(&self, thread: &ThreadId) -> Result<Vec<Entry>> {
        self.load_branch(thread, None).await
    }

    /// The same of an agent that was called in the thread, by its run.
    pub async fn load_branch(&self, thread: &ThreadId, branch: Option<&RunId>) -> Result<Vec<Entry>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- load_transcript
             with {COUNTING}
             select run_id, role, blocks
             from counting
             where role = 'system' or position >= (select position from marker)
             order by position"
        )))
        .bind(thread.as_str())
        .bind(branch.map(RunId::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Entry { run_id: row.parse("run_id")?, role: row.try_get("role")?, blocks: row.try_get("blocks")? })
            })
            .collect()
    }
}
