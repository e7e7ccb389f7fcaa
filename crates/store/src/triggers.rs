//! Triggers of a project, as callers see and change them. What fires them is in `fire`.

mod fire;

use domain::{
    AgentId, EnvironmentId, ProjectId, TriggerId, signature,
    trigger::{Action, Delivery, Execution, Source, Trigger},
};
use secrecy::SecretString;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
    threads,
};

pub use fire::Received;

/// What a new trigger is made of.
#[derive(Debug, Clone)]
pub struct NewTrigger {
    pub name: String,
    pub environment_id: EnvironmentId,
    pub agent_id: Option<AgentId>,
    pub source: Source,
    pub event: String,
    pub filters: Map<String, Value>,
    pub action: Action,
    pub enabled: bool,
    /// What its senders sign with; made where there is none.
    pub secret: Option<SecretString>,
}

/// Which triggers are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct TriggerFilter {
    pub environment_id: Option<String>,
    pub source: Option<String>,
    pub enabled: Option<bool>,
}

impl Store {
    /// Makes a trigger, and gives what its senders sign with.
    ///
    /// # Errors
    /// `NotFound` if the agent or the environment is not the project's.
    pub async fn create_trigger(&self, project: &ProjectId, new: NewTrigger) -> Result<(Trigger, SecretString)> {
        let mut tx = self.pool.begin().await?;
        threads::check_owner(&mut tx, project, Some(&new.environment_id), new.agent_id.as_ref()).await?;
        let id = TriggerId::generate();
        let secret = new.secret.unwrap_or_else(|| signature::generate_secret().into());
        let row = sqlx::query(
            "-- create_trigger
             insert into triggers (id, project_id, name, environment_id, agent_id, source, event, filters, action,
                 enabled, secret)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             returning *",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .bind(new.name)
        .bind(new.environment_id.as_str())
        .bind(new.agent_id.as_ref().map(AgentId::as_str))
        .bind(new.source.as_str())
        .bind(new.event)
        .bind(to_json(&new.filters))
        .bind(to_json(&new.action))
        .bind(new.enabled)
        .bind(self.sealer.seal(&place(&id), &secret))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((read(&row)?, secret))
    }

    /// Finds a trigger of the project that is not deleted.
    pub async fn find_trigger(&self, project: &ProjectId, id: &TriggerId) -> Result<Option<Trigger>> {
        let row = sqlx::query(
            "-- find_trigger
             select * from triggers where project_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Finds a trigger by its id alone, with what its senders sign with: for whoever has no key but that.
    pub async fn find_trigger_to_fire(&self, id: &TriggerId) -> Result<Option<(Trigger, SecretString)>> {
        let row = sqlx::query(
            "-- find_trigger_to_fire
             select t.*
             from triggers t join projects p on p.id = t.project_id
             where t.id = $1 and t.deleted_at is null and p.deleted_at is null",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let secret = self.sealer.open(&place(id), row.try_get("secret")?)?;
        Ok(Some((read(&row)?, secret)))
    }

    /// Lists the project's triggers, newest first.
    pub async fn list_triggers(
        &self,
        project: &ProjectId,
        filter: &TriggerFilter,
        page: Page,
    ) -> Result<Paged<Trigger>> {
        const FROM: &str = "from triggers
             where project_id = $1
               and deleted_at is null
               and ($2::text is null or environment_id = $2)
               and ($3::text is null or source = $3)
               and ($4::boolean is null or enabled = $4)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_triggers
             select * {FROM} order by created_at desc, id desc limit $5 offset $6"
        )))
        .bind(project.as_str())
        .bind(&filter.environment_id)
        .bind(&filter.source)
        .bind(filter.enabled)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) {FROM}")))
            .bind(project.as_str())
            .bind(&filter.environment_id)
            .bind(&filter.source)
            .bind(filter.enabled)
            .fetch_one(&self.pool)
            .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Changes a trigger as `change` says, under its row's lock.
    ///
    /// # Errors
    /// What `change` refuses; `NotFound` also for a foreign agent or environment.
    pub async fn update_trigger<E: From<Error>>(
        &self,
        project: &ProjectId,
        id: &TriggerId,
        change: impl FnOnce(&mut Trigger) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Trigger, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let before = lock(&mut tx, project, id).await?;
        let mut trigger = before.clone();
        change(&mut trigger)?;
        let environment = Some(&trigger.environment_id).filter(|id| **id != before.environment_id);
        let agent = trigger.agent_id.as_ref().filter(|_| trigger.agent_id != before.agent_id);
        threads::check_owner(&mut tx, project, environment, agent).await?;
        let row = sqlx::query(
            "-- update_trigger
             update triggers
             set name = $2, environment_id = $3, agent_id = $4, event = $5, filters = $6, action = $7, enabled = $8,
                 updated_at = now()
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .bind(&trigger.name)
        .bind(trigger.environment_id.as_str())
        .bind(trigger.agent_id.as_ref().map(AgentId::as_str))
        .bind(&trigger.event)
        .bind(to_json(&trigger.filters))
        .bind(to_json(&trigger.action))
        .bind(trigger.enabled)
        .fetch_one(&mut *tx)
        .await
        .map_err(Error::from)?;
        tx.commit().await.map_err(Error::from)?;
        Ok(read(&row)?)
    }

    /// Gives a trigger another secret; what is signed with the one before is refused from now on.
    pub async fn set_trigger_secret(
        &self,
        project: &ProjectId,
        id: &TriggerId,
        secret: Option<SecretString>,
    ) -> Result<(Trigger, SecretString)> {
        let secret = secret.unwrap_or_else(|| signature::generate_secret().into());
        let row = sqlx::query(
            "-- set_trigger_secret
             update triggers set secret = $3, updated_at = now()
             where project_id = $1 and id = $2 and deleted_at is null
             returning *",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(self.sealer.seal(&place(id), &secret))
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Trigger", id))?;
        Ok((read(&row)?, secret))
    }

    /// Deletes a trigger so that it is no longer found and fires no more. What it started goes on.
    pub async fn delete_trigger(&self, project: &ProjectId, id: &TriggerId) -> Result<()> {
        let done = sqlx::query(
            "-- delete_trigger
             update triggers set deleted_at = now() where project_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("Trigger", id)) } else { Ok(()) }
    }

    /// Lists what became of deliveries to a trigger, newest first.
    pub async fn list_trigger_executions(
        &self,
        project: &ProjectId,
        id: &TriggerId,
        page: Page,
    ) -> Result<Paged<Execution>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_trigger_executions
             {EXECUTION} where x.project_id = $1 and x.trigger_id = $2
             order by x.created_at desc, x.id desc limit $3 offset $4"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total =
            sqlx::query_scalar("select count(*) from trigger_executions where project_id = $1 and trigger_id = $2")
                .bind(project.as_str())
                .bind(id.as_str())
                .fetch_one(&self.pool)
                .await?;
        Ok(Paged { items: rows.iter().map(read_execution).collect::<Result<_>>()?, total })
    }
}

/// Locks a trigger of the project that is not deleted.
async fn lock(tx: &mut PgConnection, project: &ProjectId, id: &TriggerId) -> Result<Trigger> {
    let row = sqlx::query(
        "-- triggers: lock
         select * from triggers where project_id = $1 and id = $2 and deleted_at is null for update",
    )
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(tx)
    .await?;
    read(&row.ok_or_else(|| Error::not_found("Trigger", id))?)
}

/// Where a secret is sealed for.
fn place(id: &TriggerId) -> String {
    format!("{id}/secret")
}

fn read(row: &PgRow) -> Result<Trigger> {
    Ok(Trigger {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        environment_id: row.parse("environment_id")?,
        agent_id: row.parse_optional("agent_id")?,
        source: row.parse("source")?,
        event: row.try_get("event")?,
        filters: row.json("filters")?,
        action: row.json("action")?,
        enabled: row.try_get("enabled")?,
        last_triggered_at: row.try_get("last_triggered_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// An execution with its run.
const EXECUTION: &str = "select x.*, r.status as run_status, r.completed_at,
        coalesce(x.error, r.outcome ->> 'message') as what_went_wrong
    from trigger_executions x
    left join runs r on r.id = x.run_id";

fn read_execution(row: &PgRow) -> Result<Execution> {
    Ok(Execution {
        id: row.parse("id")?,
        trigger_id: row.parse("trigger_id")?,
        project_id: row.parse("project_id")?,
        is_test: row.try_get("is_test")?,
        delivery: Delivery {
            id: row.try_get("delivery_id")?,
            event: row.try_get("event")?,
            payload: row.json("payload")?,
        },
        state: row.parse("state")?,
        thread_id: row.parse_optional("thread_id")?,
        run_id: row.parse_optional("run_id")?,
        run_status: row.parse_optional("run_status")?,
        error: row.try_get("what_went_wrong")?,
        created_at: row.try_get("created_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
