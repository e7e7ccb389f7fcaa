//! Firing: a delivery becomes an execution, a thread and a run, in one transaction.
//!
//! The trigger's row is locked first. So of two servers that are told the same at once one waits for the other, and then
//! finds its execution.

use domain::{
    ExecutionId, ProjectId, TriggerId,
    trigger::{Delivery, Execution, ExecutionState, Trigger},
};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{EXECUTION, lock, read_execution};
use crate::{
    Result, Store,
    row::to_json,
    runs::Started,
    starting::{self, Work},
};

/// What was done with a delivery.
#[derive(Debug)]
pub enum Received {
    /// This time or when it was told before.
    Taken(Box<Execution>),
    /// It is not what the trigger waits for, and this is why.
    Passed(String),
}

impl Store {
    /// Takes a delivery to a trigger. One that was taken before gives what was done then.
    ///
    /// `body` is what came, as it came: where a delivery has no name of its own, the same body within five minutes is the
    /// same delivery, as senders repeat what they have no answer to.
    ///
    /// # Errors
    /// `NotFound` if the trigger was deleted.
    pub async fn receive(
        &self,
        project: &ProjectId,
        id: &TriggerId,
        delivery: &Delivery,
        body: &[u8],
    ) -> Result<Received> {
        let mut tx = self.pool.begin().await?;
        let trigger = lock(&mut tx, project, id).await?;
        let hash = Sha256::digest(body);
        let before = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- receive: before
             {EXECUTION} where x.trigger_id = $1
               and not x.is_test
               and case when $2::text is null
                   then x.delivery_id is null and x.body_hash = $3 and x.created_at > now() - interval '5 minutes'
                   else x.delivery_id = $2 end
             order by x.created_at desc limit 1"
        )))
        .bind(id.as_str())
        .bind(&delivery.id)
        .bind(hash.as_slice())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = before {
            return Ok(Received::Taken(Box::new(read_execution(&row)?)));
        }
        if let Some(why) = trigger.refusal(delivery) {
            return Ok(Received::Passed(why));
        }
        let (execution, started) = fire(&mut tx, &trigger, delivery, &hash, false).await?;
        tx.commit().await?;
        if let Some(started) = started {
            self.hint_started(started);
        }
        Ok(Received::Taken(Box::new(execution)))
    }

    /// Fires a trigger as if this had come, whatever its filters are, and whether or not it is switched on.
    pub async fn test_trigger(&self, project: &ProjectId, id: &TriggerId, delivery: &Delivery) -> Result<Execution> {
        let mut tx = self.pool.begin().await?;
        let trigger = lock(&mut tx, project, id).await?;
        let (execution, started) = fire(&mut tx, &trigger, delivery, &[], true).await?;
        tx.commit().await?;
        if let Some(started) = started {
            self.hint_started(started);
        }
        Ok(execution)
    }
}

/// Starts the work and writes the execution down, also of work that cannot start.
async fn fire(
    tx: &mut PgConnection,
    trigger: &Trigger,
    delivery: &Delivery,
    body_hash: &[u8],
    is_test: bool,
) -> Result<(Execution, Option<Started>)> {
    let task = trigger.message(delivery);
    let work = Work {
        environment_id: Some(&trigger.environment_id),
        agent_id: trigger.agent_id.as_ref(),
        app_id: None,
        title: &trigger.name,
        task: &task,
    };
    let (started, error) = match starting::start(tx, &trigger.project_id, work).await? {
        Ok(started) => (Some(started), None),
        Err(why) => (None, Some(why)),
    };
    let state = if started.is_some() { ExecutionState::Started } else { ExecutionState::Failed };
    let id = ExecutionId::generate();
    sqlx::query(
        "-- triggers: fire
         with fired as (
             update triggers set last_triggered_at = now() where id = $2
         )
         insert into trigger_executions (id, trigger_id, project_id, is_test, delivery_id, body_hash, event, payload,
             state, thread_id, run_id, error)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(id.as_str())
    .bind(trigger.id.as_str())
    .bind(trigger.project_id.as_str())
    .bind(is_test)
    .bind(&delivery.id)
    .bind(body_hash)
    .bind(&delivery.event)
    .bind(to_json(&delivery.payload))
    .bind(state.as_str())
    .bind(started.as_ref().map(|started| started.thread_id.as_str()))
    .bind(started.as_ref().map(|started| started.run_id.as_str()))
    .bind(error)
    .execute(&mut *tx)
    .await?;
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{EXECUTION} where x.id = $1")))
        .bind(id.as_str())
        .fetch_one(tx)
        .await?;
    Ok((read_execution(&row)?, started))
}
