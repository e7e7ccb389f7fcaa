//! Forgetting old events, where the operator wants that.
//!
//! A log is shortened from its beginning only, and run by run: what is left begins with a whole run. A run that is not
//! over keeps all of its events, however old. Messages, transcript and what runs have used are no events and stay.

use std::time::Duration;

use sqlx::Row;

use crate::{Result, Store, row::ReadColumn};

/// Events of one thread that one statement forgets.
const BATCH: i64 = 5_000;

impl Store {
    /// Forgets events older than `age` in up to `threads` threads. Returns how many events were forgotten.
    ///
    /// Readers find the `forgotten_sequence` of the same commit in which the rows went.
    pub async fn forget_events(&self, age: Duration, threads: i64) -> Result<u64> {
        // Of two sweeping servers each takes other threads.
        let rows = sqlx::query(
            "-- forget_events
             with candidates as (
                 select t.id, t.forgotten_sequence
                 from threads t
                 where t.last_sequence > t.forgotten_sequence
                   and t.created_at < now() - $1
                   and exists (
                       select 1 from events e
                       where e.thread_id = t.id
                         and e.sequence = t.forgotten_sequence + 1
                         and e.created_at < now() - $1
                   )
                   -- The oldest run that must be kept begins right there: nothing can be forgotten.
                   and not exists (
                       select 1 from runs r
                       where r.thread_id = t.id
                         and r.after_sequence <= t.forgotten_sequence
                         and (r.completed_at is null or r.completed_at >= now() - $1)
                   )
                 limit $2
                 for update skip locked
             ), cuts as (
                 select c.id, least(
                     (
                         select coalesce(min(e.sequence) filter (where e.created_at >= now() - $1) - 1, max(e.sequence))
                         from (
                             select sequence, created_at from events
                             where thread_id = c.id and sequence > c.forgotten_sequence
                             order by sequence
                             limit $3
                         ) e
                     ),
                     (
                         select min(r.after_sequence) from runs r
                         where r.thread_id = c.id and (r.completed_at is null or r.completed_at >= now() - $1)
                     )
                 ) as up_to
                 from candidates c
             ), shortened as (
                 update threads t
                 set forgotten_sequence = cuts.up_to, forgotten_at = now()
                 from cuts
                 where t.id = cuts.id and cuts.up_to > t.forgotten_sequence
                 returning t.id, t.forgotten_sequence
             ), gone as (
                 delete from events e
                 using shortened s
                 where e.thread_id = s.id and e.sequence <= s.forgotten_sequence
                 returning e.thread_id
             )
             select thread_id, count(*) as count from gone group by thread_id",
        )
        .bind(age)
        .bind(threads)
        .bind(BATCH)
        .fetch_all(&self.pool)
        .await?;
        let mut forgotten = 0;
        for row in &rows {
            let (thread, count): (domain::ThreadId, i64) = (row.parse("thread_id")?, row.try_get("count")?);
            tracing::debug!(%thread, count, "forgot old events");
            forgotten += count.unsigned_abs();
        }
        Ok(forgotten)
    }
}
