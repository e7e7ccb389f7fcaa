//! Totals over all runs, for the metrics page.

use sqlx::Row;

use crate::{Result, Store};

/// Counts since the installation's first run.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub runs: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub queued: i64,
    pub running: i64,
    pub average_duration_ms: f64,
    pub tokens: i64,
    pub cost_micro_usd: i64,
}

impl Totals {
    /// Gives how many runs are at what.
    pub fn by_status(&self) -> [(&'static str, i64); 5] {
        [
            ("queued", self.queued),
            ("running", self.running),
            ("completed", self.completed),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
        ]
    }

    pub fn cost_usd(&self) -> f64 {
        self.cost_micro_usd as f64 / 1e6
    }
}

impl Store {
    /// Gives the totals as the rows are now.
    pub async fn totals(&self) -> Result<Totals> {
        let row = sqlx::query(
            "-- totals
             select count(*) as runs,
                 count(*) filter (where status = 'completed') as completed,
                 count(*) filter (where status = 'failed') as failed,
                 count(*) filter (where status = 'cancelled') as cancelled,
                 count(*) filter (where status = 'queued') as queued,
                 count(*) filter (where status = 'running') as running,
                 coalesce(avg(extract(epoch from completed_at - started_at) * 1000)::float8, 0) as average_duration_ms,
                 coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens)::bigint, 0) as tokens,
                 coalesce(sum(cost_micro_usd)::bigint, 0) as cost_micro_usd
             from runs",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Totals {
            runs: row.try_get("runs")?,
            completed: row.try_get("completed")?,
            failed: row.try_get("failed")?,
            cancelled: row.try_get("cancelled")?,
            queued: row.try_get("queued")?,
            running: row.try_get("running")?,
            average_duration_ms: row.try_get("average_duration_ms")?,
            tokens: row.try_get("tokens")?,
            cost_micro_usd: row.try_get("cost_micro_usd")?,
        })
    }
}
