//! Buckets of requests that all servers of an installation share.
//!
//! A bucket refills evenly over its window. Who takes from it takes several at once and uses them up before it comes again;
//! nothing is ever given twice, so together servers exceed a limit by what they had taken before and not used, at most.

use std::time::Duration;

use sqlx::Row;

use crate::{Result, Store};

/// How much there is in how much time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub burst: u32,
    pub window: Duration,
}

impl Rate {
    /// Gives how long it takes until this many have come back.
    pub fn time_for(&self, requests: f64) -> Duration {
        self.window.mul_f64(requests.max(0.0) / f64::from(self.burst.max(1)))
    }
}

/// What was taken from a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// 0 if there was no whole one left.
    pub requests: u32,
    /// What is left for others.
    pub left: f64,
}

impl Store {
    /// Takes up to `wanted` requests out of the bucket called `subject`, which is full if nobody has used it yet.
    pub async fn take_requests(&self, subject: &str, rate: Rate, wanted: u32) -> Result<Taken> {
        // The clock of a transaction that waited for the row may be behind what stands in it.
        let row = sqlx::query(
            "-- take_requests
             insert into request_buckets as b (subject, tokens, taken, at)
             values ($1, $2 - least($2, $4), least($2, $4)::integer, now())
             on conflict (subject) do update set (tokens, taken, at) = (
                 select refilled - taken, taken::integer, greatest(b.at, now())
                 from (
                     select refilled, least(floor(refilled), $4) as taken
                     from (
                         select least($2, b.tokens + greatest(0, extract(epoch from now() - b.at)) * $3) as refilled
                     ) bucket
                 ) given
             )
             returning tokens, taken",
        )
        .bind(subject)
        .bind(f64::from(rate.burst))
        .bind(f64::from(rate.burst) / rate.window.as_secs_f64().max(0.001))
        .bind(f64::from(wanted))
        .fetch_one(&self.pool)
        .await?;
        let taken: i32 = row.try_get("taken")?;
        Ok(Taken { requests: taken.unsigned_abs(), left: row.try_get("tokens")? })
    }

    /// Forgets buckets that nobody has used for a day, which are full: up to `limit` of them.
    pub async fn sweep_requests_left(&self, limit: i64) -> Result<u64> {
        let done = sqlx::query(
            "-- sweep_requests_left
             delete from request_buckets
             where subject = any(array(
                 select subject from request_buckets where at < now() - interval '1 day' limit $1
             ))",
        )
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
