//! The outbox: what is to be told, written with what it tells of, and taken by whoever sends it.
//!
//! Taking a delivery moves its next try past the time that a try may take. So the row itself is the lease: a server that
//! dies while it sends leaves a row that is due again, and its result, if it comes late, names an old try and is not
//! written. Receivers may therefore get a delivery twice, always under the same id, and never not at all.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    DeliveryId, ProjectId, RunId, ThreadId, WebhookId,
    webhook::{Delivery, EVERYTHING, Notice, RunPlace},
};
use secrecy::SecretString;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::place;
use crate::{Result, Store, row::ReadColumn};

/// Says of a `thread` in a statement whether anybody wants to be told what happens in its project.
pub(crate) const HAS_WEBHOOKS: &str = "exists(
     select 1 from webhooks w where w.project_id = thread.project_id and w.enabled and w.deleted_at is null
 ) as has_webhooks";

/// Writes down what is to be told, for each webhook that wants it. In the transaction that makes it true.
pub(crate) async fn tell(tx: &mut PgConnection, project: &ProjectId, notice: &Notice) -> Result<()> {
    sqlx::query(
        "-- tell
         insert into webhook_deliveries (id, webhook_id, project_id, event, payload)
         select 'delivery_' || replace(gen_random_uuid()::text, '-', ''), id, project_id, $2, $3
         from webhooks
         where project_id = $1 and enabled and deleted_at is null and events && array[$2, $4]",
    )
    .bind(project.as_str())
    .bind(notice.event().as_str())
    .bind(notice.payload(project, Utc::now()))
    .bind(EVERYTHING)
    .execute(tx)
    .await?;
    Ok(())
}

/// Tells of a run, where `row`, which has [`HAS_WEBHOOKS`] and the thread's columns, says that anybody wants to know.
pub(crate) async fn tell_of_run(
    tx: &mut PgConnection,
    row: &PgRow,
    run: RunId,
    thread: ThreadId,
    notice: impl FnOnce(RunPlace) -> Notice,
) -> Result<()> {
    if !row.try_get("has_webhooks")? {
        return Ok(());
    }
    let (environment, agent) = (row.parse("environment_id")?, row.parse_optional("agent_id")?);
    tell(tx, &row.parse("project_id")?, &notice(RunPlace { run, thread, environment, agent })).await
}

/// A delivery that somebody has taken to send it.
#[derive(Debug)]
pub struct Due {
    pub id: DeliveryId,
    pub url: String,
    pub payload: String,
    /// Which try this is.
    pub attempt: i32,
    /// What it is signed with: the newest, and the one before while both hold.
    pub secrets: Vec<SecretString>,
    webhook_id: WebhookId,
}

/// What came of a try.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The receiver's answer, if there was one.
    pub status: Option<u16>,
    /// Why it was not taken; `None` if it was.
    pub error: Option<String>,
    /// The receiver said that there will never be anybody.
    pub is_gone: bool,
    /// Until the next try.
    pub pause: Duration,
}

impl Store {
    /// Takes up to `limit` deliveries whose time has come, each for as long as `hold`.
    pub async fn claim_deliveries(&self, limit: usize, hold: Duration) -> Result<Vec<Due>> {
        let rows = sqlx::query(
            "-- claim_deliveries
             with picked as (
                 select id from webhook_deliveries
                 where state = 'pending' and next_attempt_at <= now()
                 order by next_attempt_at
                 limit $1
                 for update skip locked
             )
             update webhook_deliveries d
             set attempts = d.attempts + 1, next_attempt_at = now() + $2
             from picked, webhooks w
             where d.id = picked.id and w.id = d.webhook_id
             returning d.id, d.webhook_id, d.payload, d.attempts, w.url, w.secret,
                 case when w.old_secret_until > now() then w.old_secret end as old_secret",
        )
        .bind(limit as i64)
        .bind(hold)
        .fetch_all(&self.pool)
        .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            match self.read_due(row) {
                Ok(one) => due.push(one),
                // It is due again after a while; the others must not wait for it.
                Err(err) => tracing::error!(error = &err as &dyn std::error::Error, "cannot read a delivery"),
            }
        }
        Ok(due)
    }

    fn read_due(&self, row: &PgRow) -> Result<Due> {
        let webhook_id: WebhookId = row.parse("webhook_id")?;
        let sealed = [row.try_get::<Option<&[u8]>, _>("secret")?, row.try_get("old_secret")?];
        let place = place(&webhook_id);
        Ok(Due {
            id: row.parse("id")?,
            url: row.try_get("url")?,
            payload: row.try_get("payload")?,
            attempt: row.try_get("attempts")?,
            secrets: sealed.into_iter().flatten().map(|one| self.sealer.open(&place, one)).collect::<Result<_>>()?,
            webhook_id,
        })
    }

    /// Writes down what came of a try. One that nobody took within `patience` is given up.
    pub async fn record_delivery(&self, due: &Due, tried: &Tried, patience: Duration) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "-- record_delivery
             update webhook_deliveries
             set state = case
                     when $4::text is null then 'delivered'
                     when $5 or now() + $6 > queued_at + $7 then 'failed'
                     else 'pending' end,
                 next_attempt_at = now() + $6,
                 last_status = $3,
                 last_error = $4,
                 completed_at = case
                     when $4 is null or $5 or now() + $6 > queued_at + $7 then now() end
             where id = $1 and attempts = $2 and state = 'pending'",
        )
        .bind(due.id.as_str())
        .bind(due.attempt)
        .bind(tried.status.map(i32::from))
        .bind(&tried.error)
        .bind(tried.is_gone)
        .bind(tried.pause)
        .bind(patience)
        .execute(&mut *tx)
        .await?;
        if tried.is_gone {
            sqlx::query(
                "-- record_delivery: gone
                 update webhooks
                 set enabled = false, disabled_reason = 'The receiver answered 410 Gone', updated_at = now()
                 where id = $1 and enabled",
            )
            .bind(due.webhook_id.as_str())
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Forgets deliveries that were over before `age` ago: up to `limit` of them.
    pub async fn sweep_deliveries(&self, age: Duration, limit: i64) -> Result<u64> {
        let done = sqlx::query(
            "-- sweep_deliveries
             delete from webhook_deliveries
             where id = any(array(
                 select id from webhook_deliveries where state <> 'pending' and completed_at < now() - $1::interval limit $2
             ))",
        )
        .bind(age)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

pub(super) fn read(row: &PgRow) -> Result<Delivery> {
    Ok(Delivery {
        id: row.parse("id")?,
        webhook_id: row.parse("webhook_id")?,
        event: row.parse("event")?,
        payload: row.try_get("payload")?,
        state: row.parse("state")?,
        attempts: row.try_get("attempts")?,
        next_attempt_at: row.try_get::<DateTime<Utc>, _>("next_attempt_at")?,
        last_status: row.try_get("last_status")?,
        last_error: row.try_get("last_error")?,
        created_at: row.try_get("created_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
