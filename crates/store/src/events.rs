//! The event log of a thread: pages of it. Following it is `tail`, appending to it is `leases`.

use domain::{
    ThreadId,
    event::{Event, Recorded},
};
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Result, Store, row::ReadColumn};

impl Store {
    /// Gives up to `limit` events with `after < sequence < before`, in order.
    pub async fn list_events(
        &self,
        thread: &ThreadId,
        after: i64,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Recorded>> {
        let rows = sqlx::query(
            "-- list_events
             select * from events
             where thread_id = $1 and sequence > $2 and sequence < $3
             order by sequence
             limit $4",
        )
        .bind(thread.as_str())
        .bind(after)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }
}

pub(crate) fn to_text(event: &Event) -> String {
    serde_json::to_string(event).expect("our events have string keys and finite numbers")
}

fn read(row: &PgRow) -> Result<Recorded> {
    Ok(Recorded {
        thread_id: row.parse("thread_id")?,
        sequence: row.try_get("sequence")?,
        run_id: row.parse_optional("run_id")?,
        created_at: row.try_get("created_at")?,
        event: serde_json::from_str(row.try_get("event")?).map_err(Error::unreadable("an event"))?,
    })
}
