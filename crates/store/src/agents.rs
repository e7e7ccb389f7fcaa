//! Agents of a project.

use domain::{
    AgentId, ProjectId,
    agent::{Agent, AgentSettings},
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    agent_versions::{self, Label},
    row::{ReadColumn, to_json},
};

/// What a new agent is made of.
pub struct NewAgent {
    /// An id of the caller's choice, else one is made.
    pub id: Option<AgentId>,
    pub name: String,
    pub model: String,
    pub settings: AgentSettings,
    /// Takes the place of the project's default agent before it.
    pub is_default: bool,
    pub is_system: bool,
}

impl Store {
    /// Makes an agent.
    ///
    /// # Errors
    /// `Conflict` if the chosen id is taken in this project, by a deleted agent too.
    pub async fn create_agent(&self, project: &ProjectId, new: NewAgent) -> Result<Agent> {
        let mut tx = self.pool.begin().await?;
        let id = new.id.unwrap_or_else(AgentId::generate);
        if new.is_default {
            clear_default(&mut tx, project).await?;
        }
        let row = sqlx::query(
            "-- create_agent
             insert into agents (project_id, id, name, model, settings, is_default, is_system)
             values ($1, $2, $3, $4, $5, $6, $7)
             returning *",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(new.name)
        .bind(new.model)
        .bind(to_json(&new.settings))
        .bind(new.is_default)
        .bind(new.is_system)
        .fetch_one(&mut *tx)
        .await?;
        agent_versions::save(&mut tx, project, &id, &Label::default(), None).await?;
        tx.commit().await?;
        read(&row)
    }

    /// Finds an agent of the project that is not deleted.
    pub async fn find_agent(&self, project: &ProjectId, id: &AgentId) -> Result<Option<Agent>> {
        let row = sqlx::query(
            "-- find_agent
             select * from agents where project_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the project's agents, newest first.
    pub async fn list_agents(&self, project: &ProjectId, page: Page) -> Result<Paged<Agent>> {
        let rows = sqlx::query(
            "-- list_agents
             select *, count(*) over () as total
             from agents
             where project_id = $1 and deleted_at is null
             order by created_at desc, id desc
             limit $2 offset $3",
        )
        .bind(project.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = match rows.first() {
            Some(row) => row.try_get("total")?,
            None => {
                sqlx::query_scalar("select count(*) from agents where project_id = $1 and deleted_at is null")
                    .bind(project.as_str())
                    .fetch_one(&self.pool)
                    .await?
            }
        };
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Gives the ids of the project's agents that are called so, the newest first; two at most, to tell one from several.
    pub async fn find_agents_named(&self, project: &ProjectId, name: &str) -> Result<Vec<AgentId>> {
        let rows = sqlx::query(
            "-- find_agents_named
             select id from agents
             where project_id = $1 and name = $2 and deleted_at is null
             order by created_at desc, id desc limit 2",
        )
        .bind(project.as_str())
        .bind(name)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| row.parse("id")).collect()
    }

    /// Changes an agent as `change` says, under its row's lock, so that two changes at once are both kept. What is changed
    /// then is a new version.
    pub async fn update_agent(
        &self,
        project: &ProjectId,
        id: &AgentId,
        change: impl FnOnce(&mut Agent) + Send,
    ) -> Result<Agent> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "-- update_agent: lock
             select * from agents where project_id = $1 and id = $2 and deleted_at is null for update",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Agent", id))?;
        let before = read(&row)?;
        let mut agent = before.clone();
        change(&mut agent);
        let is_changed = agent != before;
        let row = sqlx::query(
            "-- update_agent
             update agents
             set name = $3, model = $4, settings = $5, updated_at = now()
             where project_id = $1 and id = $2
             returning *",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(agent.name)
        .bind(agent.model)
        .bind(to_json(&agent.settings))
        .fetch_one(&mut *tx)
        .await?;
        if is_changed {
            agent_versions::save(&mut tx, project, id, &Label::default(), None).await?;
        }
        tx.commit().await?;
        read(&row)
    }

    /// Deletes an agent: for good, or so that it is no longer found. Threads that named it keep its id.
    pub async fn delete_agent(&self, project: &ProjectId, id: &AgentId, for_good: bool) -> Result<()> {
        let statement = if for_good {
            "-- delete_agent: for good
             delete from agents where project_id = $1 and id = $2"
        } else {
            "-- delete_agent
             update agents set deleted_at = now(), is_default = false
             where project_id = $1 and id = $2 and deleted_at is null"
        };
        let done = sqlx::query(statement).bind(project.as_str()).bind(id.as_str()).execute(&self.pool).await?;
        if done.rows_affected() == 0 { Err(Error::not_found("Agent", id)) } else { Ok(()) }
    }
}

async fn clear_default(tx: &mut PgConnection, project: &ProjectId) -> Result<()> {
    sqlx::query("update agents set is_default = false where project_id = $1 and is_default")
        .bind(project.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) fn read(row: &PgRow) -> Result<Agent> {
    Ok(Agent {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        model: row.try_get("model")?,
        settings: row.json("settings")?,
        is_default: row.try_get("is_default")?,
        is_system: row.try_get("is_system")?,
        is_active: row.try_get::<Option<chrono::DateTime<chrono::Utc>>, _>("deleted_at")?.is_none(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        last_run_at: row.try_get("last_run_at")?,
    })
}
