//! Webhooks of a project, as callers see and change them. What they are told is in `outbox`.

mod outbox;

use std::time::Duration;

use domain::{
    DeliveryId, ProjectId, WebhookId, signature,
    webhook::{Delivery, Notice, Webhook},
};
use secrecy::SecretString;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Error, Page, Paged, Result, Store, row::ReadColumn};

pub use outbox::{Due, Tried};
pub(crate) use outbox::{HAS_WEBHOOKS, tell, tell_of_run};

/// What a new webhook is made of.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    pub url: String,
    pub description: Option<String>,
    pub events: Vec<String>,
    pub enabled: bool,
}

impl Store {
    /// Makes a webhook, and gives what its deliveries are signed with.
    pub async fn create_webhook(&self, project: &ProjectId, new: NewWebhook) -> Result<(Webhook, SecretString)> {
        let id = WebhookId::generate();
        let secret = SecretString::from(signature::generate_secret());
        let row = sqlx::query(
            "-- create_webhook
             insert into webhooks (id, project_id, url, description, events, enabled, secret)
             values ($1, $2, $3, $4, $5, $6, $7)
             returning *",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .bind(new.url)
        .bind(new.description)
        .bind(new.events)
        .bind(new.enabled)
        .bind(self.sealer.seal(&place(&id), &secret))
        .fetch_one(&self.pool)
        .await?;
        Ok((read(&row)?, secret))
    }

    /// Finds a webhook of the project that is not deleted.
    pub async fn find_webhook(&self, project: &ProjectId, id: &WebhookId) -> Result<Option<Webhook>> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, project, id, "").await
    }

    /// Lists the project's webhooks, newest first.
    pub async fn list_webhooks(&self, project: &ProjectId, page: Page) -> Result<Paged<Webhook>> {
        let rows = sqlx::query(
            "-- list_webhooks
             select * from webhooks where project_id = $1 and deleted_at is null
             order by created_at desc, id desc limit $2 offset $3",
        )
        .bind(project.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar("select count(*) from webhooks where project_id = $1 and deleted_at is null")
            .bind(project.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Changes a webhook as `change` says, under its row's lock. One that is switched on is no longer said to be off.
    pub async fn update_webhook<E: From<Error>>(
        &self,
        project: &ProjectId,
        id: &WebhookId,
        change: impl FnOnce(&mut Webhook) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Webhook, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let found = find(&mut tx, project, id, "for update").await?;
        let mut webhook = found.ok_or_else(|| Error::not_found("Webhook", id))?;
        change(&mut webhook)?;
        let row = sqlx::query(
            "-- update_webhook
             update webhooks
             set url = $2, description = $3, events = $4, enabled = $5, updated_at = now(),
                 disabled_reason = case when $5 then null else disabled_reason end
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .bind(&webhook.url)
        .bind(&webhook.description)
        .bind(&webhook.events)
        .bind(webhook.enabled)
        .fetch_one(&mut *tx)
        .await
        .map_err(Error::from)?;
        tx.commit().await.map_err(Error::from)?;
        Ok(read(&row)?)
    }

    /// Gives a webhook another secret. For as long as `overlap` what is sent is signed with both.
    pub async fn rotate_webhook_secret(
        &self,
        project: &ProjectId,
        id: &WebhookId,
        overlap: Duration,
    ) -> Result<(Webhook, SecretString)> {
        let secret = SecretString::from(signature::generate_secret());
        let row = sqlx::query(
            "-- rotate_webhook_secret
             update webhooks
             set old_secret = secret, old_secret_until = now() + $4, secret = $3, updated_at = now()
             where project_id = $1 and id = $2 and deleted_at is null
             returning *",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(self.sealer.seal(&place(id), &secret))
        .bind(overlap)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Webhook", id))?;
        Ok((read(&row)?, secret))
    }

    /// Deletes a webhook: it is told nothing more, also nothing of what waits.
    pub async fn delete_webhook(&self, project: &ProjectId, id: &WebhookId) -> Result<()> {
        let done = sqlx::query(
            "-- delete_webhook
             with deleted as (
                 update webhooks set deleted_at = now()
                 where project_id = $1 and id = $2 and deleted_at is null
                 returning id
             ), waiting as (
                 delete from webhook_deliveries d using deleted where d.webhook_id = deleted.id and d.state = 'pending'
             )
             select 1 from deleted",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        done.map(|_| ()).ok_or_else(|| Error::not_found("Webhook", id))
    }

    /// Has something sent to a webhook that tells of nothing, also to one that is switched off.
    pub async fn test_webhook(&self, project: &ProjectId, id: &WebhookId) -> Result<Delivery> {
        let notice = Notice::Test(id.clone());
        let row = sqlx::query(
            "-- test_webhook
             insert into webhook_deliveries (id, webhook_id, project_id, event, payload)
             select $3, id, project_id, $4, $5 from webhooks where project_id = $1 and id = $2 and deleted_at is null
             returning *",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(DeliveryId::generate().as_str())
        .bind(notice.event().as_str())
        .bind(notice.payload(project, chrono::Utc::now()))
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Webhook", id))?;
        outbox::read(&row)
    }

    /// Lists what a webhook was told, or is to be told, newest first.
    pub async fn list_deliveries(
        &self,
        project: &ProjectId,
        webhook: &WebhookId,
        state: Option<&str>,
        page: Page,
    ) -> Result<Paged<Delivery>> {
        const FROM: &str = "from webhook_deliveries
             where project_id = $1 and webhook_id = $2 and ($3::text is null or state = $3)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_deliveries
             select * {FROM} order by created_at desc, id desc limit $4 offset $5"
        )))
        .bind(project.as_str())
        .bind(webhook.as_str())
        .bind(state)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) {FROM}")))
            .bind(project.as_str())
            .bind(webhook.as_str())
            .bind(state)
            .fetch_one(&self.pool)
            .await?;
        Ok(Paged { items: rows.iter().map(outbox::read).collect::<Result<_>>()?, total })
    }

    /// Has a delivery sent again, under its old id and with all the time that there was for it.
    ///
    /// # Errors
    /// `State` for one that is still being tried.
    pub async fn resend_delivery(&self, project: &ProjectId, webhook: &WebhookId, id: &DeliveryId) -> Result<Delivery> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- resend_delivery: lock
             select d.state
             from webhook_deliveries d join webhooks w on w.id = d.webhook_id
             where d.project_id = $1 and d.webhook_id = $2 and d.id = $3 and w.deleted_at is null
             for update of d",
        )
        .bind(project.as_str())
        .bind(webhook.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Delivery", id))?;
        if row.try_get::<&str, _>("state")? == "pending" {
            return Err(Error::State("the delivery is still being tried".into()));
        }
        let row = sqlx::query(
            "-- resend_delivery
             update webhook_deliveries
             set state = 'pending', next_attempt_at = now(), queued_at = now(), completed_at = null
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        outbox::read(&row)
    }
}

async fn find(
    connection: &mut PgConnection,
    project: &ProjectId,
    id: &WebhookId,
    lock: &'static str,
) -> Result<Option<Webhook>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- find_webhook
         select * from webhooks where project_id = $1 and id = $2 and deleted_at is null {lock}"
    )))
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Where a secret is sealed for. The one before is sealed for the same place.
fn place(id: &WebhookId) -> String {
    format!("{id}/secret")
}

fn read(row: &PgRow) -> Result<Webhook> {
    Ok(Webhook {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        url: row.try_get("url")?,
        description: row.try_get("description")?,
        events: row.try_get("events")?,
        enabled: row.try_get("enabled")?,
        disabled_reason: row.try_get("disabled_reason")?,
        old_secret_until: row.try_get("old_secret_until")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
