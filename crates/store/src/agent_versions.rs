//! Versions of agents: what an agent was after each change. Which one a run uses is decided when it is first claimed.

use domain::{
    AgentId, AgentVersionId, ProjectId,
    agent::{Agent, AgentVersion},
    run::Run,
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store, agents,
    row::{ReadColumn, to_json},
};

/// What people say of a version.
#[derive(Debug, Clone, Default)]
pub struct Label {
    pub name: Option<String>,
    pub description: Option<String>,
}

const SELECT: &str = "select v.*, a.version_id = v.id as is_current, a.published_version_id = v.id as is_published,
        a.published_at
    from agent_versions v join agents a on a.project_id = v.project_id and a.id = v.agent_id
    where v.project_id = $1 and v.agent_id = $2 and a.deleted_at is null";

impl Store {
    /// Lists an agent's versions, newest first.
    ///
    /// # Errors
    /// `NotFound` if the agent is not the project's.
    pub async fn list_agent_versions(
        &self,
        project: &ProjectId,
        agent: &AgentId,
        page: Page,
    ) -> Result<Paged<AgentVersion>> {
        if self.find_agent(project, agent).await?.is_none() {
            return Err(Error::not_found("Agent", agent));
        }
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_agent_versions
             {SELECT} order by v.number desc limit $3 offset $4"
        )))
        .bind(project.as_str())
        .bind(agent.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar("select count(*) from agent_versions where project_id = $1 and agent_id = $2")
            .bind(project.as_str())
            .bind(agent.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Finds a version of an agent.
    ///
    /// # Errors
    /// `NotFound` if it is not the agent's, or the agent not the project's.
    pub async fn get_agent_version(
        &self,
        project: &ProjectId,
        agent: &AgentId,
        id: &AgentVersionId,
    ) -> Result<AgentVersion> {
        let mut connection = self.pool.acquire().await?;
        get(&mut connection, project, agent, id).await
    }

    /// Keeps what the agent is now, or what `snapshot` makes of it, as a version. The latter does not change the agent.
    pub async fn create_agent_version(
        &self,
        project: &ProjectId,
        agent: &AgentId,
        label: &Label,
        snapshot: Option<&Agent>,
    ) -> Result<AgentVersion> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, agent).await?;
        let id = save(&mut tx, project, agent, label, snapshot).await?;
        let version = get(&mut tx, project, agent, &id).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Changes what people say of a version.
    pub async fn update_agent_version(
        &self,
        project: &ProjectId,
        agent: &AgentId,
        id: &AgentVersionId,
        change: impl FnOnce(&mut Label) + Send,
    ) -> Result<AgentVersion> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, agent).await?;
        let version = get(&mut tx, project, agent, id).await?;
        let mut label = Label { name: version.name, description: version.description };
        change(&mut label);
        sqlx::query("update agent_versions set name = $2, description = $3, updated_at = now() where id = $1")
            .bind(id.as_str())
            .bind(label.name)
            .bind(label.description)
            .execute(&mut *tx)
            .await?;
        let version = get(&mut tx, project, agent, id).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// `Conflict` for the one that the agent is now, and the one that its runs use.
    pub async fn delete_agent_version(&self, project: &ProjectId, agent: &AgentId, id: &AgentVersionId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, agent).await?;
        let version = get(&mut tx, project, agent, id).await?;
        if version.is_current || version.is_published {
            let what = if version.is_published { "is published" } else { "is what the agent is now" };
            return Err(Error::Conflict(format!("the version {what}, so it cannot be deleted")));
        }
        sqlx::query("delete from agent_versions where id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Has the agent's runs use a version from now on, whatever is changed; or what the agent is (`published` is false).
    ///
    /// # Errors
    /// `Conflict` where a version is to be taken back that is not published.
    pub async fn publish_agent_version(
        &self,
        project: &ProjectId,
        agent: &AgentId,
        id: &AgentVersionId,
        published: bool,
    ) -> Result<AgentVersion> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, agent).await?;
        let version = get(&mut tx, project, agent, id).await?;
        if !published && !version.is_published {
            return Err(Error::Conflict("the version is not published".into()));
        }
        sqlx::query(
            "-- publish_agent_version
             update agents
             set published_version_id = case when $4 then $3 end, published_at = case when $4 then now() end
             where project_id = $1 and id = $2",
        )
        .bind(project.as_str())
        .bind(agent.as_str())
        .bind(id.as_str())
        .bind(published)
        .execute(&mut *tx)
        .await?;
        let version = get(&mut tx, project, agent, id).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Gives the agent of a run as the run uses it: the version that was noted when it was first claimed, where that is
    /// still there and still the agent's.
    pub async fn find_agent_of_run(&self, run: &Run) -> Result<Option<Agent>> {
        let Some(agent) = &run.agent_id else { return Ok(None) };
        let row = sqlx::query(
            "-- find_agent_of_run
             select a.project_id, a.id, a.is_default, a.is_system, a.created_at, a.updated_at, a.last_run_at, a.deleted_at,
                 coalesce(v.agent_name, a.name) as name, coalesce(v.model, a.model) as model,
                 coalesce(v.settings, a.settings) as settings
             from agents a
             left join agent_versions v on v.id = $3 and v.project_id = a.project_id and v.agent_id = a.id
             where a.project_id = $1 and a.id = $2 and a.deleted_at is null",
        )
        .bind(run.project_id.as_str())
        .bind(agent.as_str())
        .bind(run.agent_version_id.as_ref().map(AgentVersionId::as_str))
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(agents::read).transpose()
    }
}

/// Keeps an agent as a version. Without a `snapshot` it is what the agent is now.
pub(crate) async fn save(
    tx: &mut PgConnection,
    project: &ProjectId,
    agent: &AgentId,
    label: &Label,
    snapshot: Option<&Agent>,
) -> Result<AgentVersionId> {
    let id = AgentVersionId::generate();
    sqlx::query(
        "-- agent_versions: save
         insert into agent_versions (id, project_id, agent_id, number, name, description, agent_name, model, settings)
         select $3, a.project_id, a.id,
             coalesce((
                 select max(v.number) + 1 from agent_versions v where v.project_id = a.project_id and v.agent_id = a.id
             ), 0),
             $4, $5, coalesce($6, a.name), coalesce($7, a.model), coalesce($8, a.settings)
         from agents a
         where a.project_id = $1 and a.id = $2",
    )
    .bind(project.as_str())
    .bind(agent.as_str())
    .bind(id.as_str())
    .bind(&label.name)
    .bind(&label.description)
    .bind(snapshot.map(|agent| &agent.name))
    .bind(snapshot.map(|agent| &agent.model))
    .bind(snapshot.map(|agent| to_json(&agent.settings)))
    .execute(&mut *tx)
    .await?;
    if snapshot.is_none() {
        sqlx::query("update agents set version_id = $3 where project_id = $1 and id = $2")
            .bind(project.as_str())
            .bind(agent.as_str())
            .bind(id.as_str())
            .execute(tx)
            .await?;
    }
    Ok(id)
}

/// Locks an agent, which orders what happens to its versions.
async fn lock(tx: &mut PgConnection, project: &ProjectId, agent: &AgentId) -> Result<()> {
    sqlx::query(
        "-- agent_versions: lock
         select 1 from agents where project_id = $1 and id = $2 and deleted_at is null for update",
    )
    .bind(project.as_str())
    .bind(agent.as_str())
    .fetch_optional(tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| Error::not_found("Agent", agent))
}

async fn get(
    connection: &mut PgConnection,
    project: &ProjectId,
    agent: &AgentId,
    id: &AgentVersionId,
) -> Result<AgentVersion> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- get_agent_version
         {SELECT} and v.id = $3"
    )))
    .bind(project.as_str())
    .bind(agent.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    read(&row.ok_or_else(|| Error::not_found("Version", id))?)
}

fn read(row: &PgRow) -> Result<AgentVersion> {
    let is_published = row.try_get::<Option<bool>, _>("is_published")?.unwrap_or(false);
    Ok(AgentVersion {
        id: row.parse("id")?,
        agent_id: row.parse("agent_id")?,
        number: row.try_get("number")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        agent_name: row.try_get("agent_name")?,
        model: row.try_get("model")?,
        settings: row.json("settings")?,
        is_current: row.try_get::<Option<bool>, _>("is_current")?.unwrap_or(false),
        is_published,
        published_at: if is_published { row.try_get("published_at")? } else { None },
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
