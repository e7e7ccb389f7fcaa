//! The event log of a thread: parts of it. Following it is `tail`, appending to it is `leases`, shortening it `retention`.

use chrono::{DateTime, Utc};
use domain::{
    RunId, ThreadId,
    event::{Event, Recorded},
};
use sqlx::{Row, postgres::PgRow};

use crate::{Error, Result, Store, row::ReadColumn};

/// A part of a log.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// What was asked for and is kept no longer; it lies before the events.
    pub gap: Option<Gap>,
    pub events: Vec<Recorded>,
}

/// Events that are kept no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The number of the first one that was asked for.
    pub from: i64,
    /// The number of the last one.
    pub to: i64,
    /// When the last one was forgotten.
    pub since: DateTime<Utc>,
}

impl Store {
    /// Gives up to `limit` of the events with `after < sequence < before` that are kept, in order.
    pub async fn list_events(
        &self,
        thread: &ThreadId,
        after: i64,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Recorded>> {
        Ok(self.read_log(thread, after, before, limit).await?.events)
    }

    /// Gives those of one run, in order: of one that another run has called, those told of it.
    pub async fn list_run_events(
        &self,
        thread: &ThreadId,
        run: &RunId,
        after: i64,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Recorded>> {
        let rows = sqlx::query(
            "-- list_run_events
             select * from events
             where thread_id = $1
               and sequence > $3
               and sequence < $4
               and (branch = $2 or (run_id = $2 and branch is null))
             order by sequence
             limit $5",
        )
        .bind(thread.as_str())
        .bind(run.as_str())
        .bind(after)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Gives up to `limit` of the events with `after < sequence < before`, and tells what of them is gone.
    pub async fn read_log(&self, thread: &ThreadId, after: i64, before: Option<i64>, limit: i64) -> Result<Part> {
        let before = before.unwrap_or(i64::MAX);
        // One statement: between two of them more could be forgotten.
        let rows = sqlx::query(
            "-- read_log
             select t.forgotten_sequence, t.forgotten_at, e.*
             from threads t left join lateral (
                 select * from events
                 where thread_id = $1 and sequence > $2 and sequence < $3
                 order by sequence
                 limit $4
             ) e on true
             where t.id = $1
             order by e.sequence",
        )
        .bind(thread.as_str())
        .bind(after)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let Some(first) = rows.first() else { return Ok(Part::default()) };
        let (from, to) = (after + 1, first.try_get::<i64, _>("forgotten_sequence")?.min(before.saturating_sub(1)));
        let gap = match first.try_get::<Option<DateTime<Utc>>, _>("forgotten_at")? {
            Some(since) if from <= to => Some(Gap { from, to, since }),
            Some(_) | None => None,
        };
        let is_empty = first.try_get::<Option<i64>, _>("sequence")?.is_none();
        let events = if is_empty { Vec::new() } else { rows.iter().map(read).collect::<Result<_>>()? };
        Ok(Part { gap, events })
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
