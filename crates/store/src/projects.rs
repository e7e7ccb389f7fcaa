//! Projects: the owners of everything, and themselves owned by an organization.

use domain::{
    OrganizationId, ProjectId,
    project::{Project, ProjectKind, ProjectStats},
};
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
};

/// What a project is made from.
#[derive(Debug, Clone, Default)]
pub struct NewProject {
    /// An id of the caller's choice, else one is made.
    pub id: Option<ProjectId>,
    pub name: String,
    pub description: Option<String>,
    pub kind: ProjectKind,
    pub tier: Option<String>,
    pub stored: Map<String, Value>,
}

impl Store {
    /// Gives the installation's first project, made on the first call.
    pub async fn default_project(&self) -> Result<ProjectId> {
        // The lock makes two servers that start at once agree on one project.
        let mut tx = self.pool.begin().await?;
        sqlx::query("select pg_advisory_xact_lock(hashtext('atelier.default_project'))").execute(&mut *tx).await?;
        let found: Option<String> =
            sqlx::query_scalar("select id from projects where deleted_at is null order by created_at, id limit 1")
                .fetch_optional(&mut *tx)
                .await?;
        let id = match found {
            Some(id) => id.parse().map_err(Error::unreadable("a project id"))?,
            None => {
                let id = ProjectId::generate();
                sqlx::query("insert into projects (id, name) values ($1, 'Default')")
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                id
            }
        };
        tx.commit().await?;
        Ok(id)
    }

    /// Makes a project in the installation's first organization.
    pub async fn create_project(&self, name: &str) -> Result<ProjectId> {
        let id = ProjectId::generate();
        sqlx::query("insert into projects (id, name) values ($1, $2)")
            .bind(id.as_str())
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(id)
    }

    /// Makes an organization without any project.
    pub async fn create_organization(&self, name: &str) -> Result<OrganizationId> {
        let id = OrganizationId::generate();
        sqlx::query("insert into organizations (id, name) values ($1, $2)")
            .bind(id.as_str())
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(id)
    }

    /// Makes a project in an organization.
    ///
    /// # Errors
    /// `Conflict` if the chosen id is taken, also by a project that was deleted.
    pub async fn create_project_in(&self, organization: &OrganizationId, new: NewProject) -> Result<Project> {
        let row = sqlx::query(
            "-- create_project_in
             insert into projects (id, organization_id, name, description, kind, stored, tier)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (id) do nothing
             returning *",
        )
        .bind(new.id.clone().unwrap_or_else(ProjectId::generate).as_str())
        .bind(organization.as_str())
        .bind(new.name)
        .bind(new.description)
        .bind(new.kind.as_str())
        .bind(to_json(&new.stored))
        .bind(new.tier)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::Conflict("a project with this id exists already".into()))?;
        read(&row)
    }

    /// Finds a project of the organization that is not deleted.
    pub async fn find_project(&self, organization: &OrganizationId, id: &ProjectId) -> Result<Option<Project>> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, organization, id, "").await
    }

    /// Lists the organization's projects, oldest first: `only` one, those whose name holds `search`, those of a kind.
    pub async fn list_projects(
        &self,
        organization: &OrganizationId,
        only: Option<&ProjectId>,
        search: Option<&str>,
        kind: Option<&str>,
        page: Page,
    ) -> Result<Paged<Project>> {
        const WHERE: &str = "from projects
             where organization_id = $1
               and deleted_at is null
               and ($2::text is null or id = $2)
               and ($3::text is null or strpos(lower(name), lower($3)) > 0)
               and ($4::text is null or kind = $4)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_projects
             select * {WHERE} order by created_at, id limit $5 offset $6"
        )))
        .bind(organization.as_str())
        .bind(only.map(ProjectId::as_str))
        .bind(search)
        .bind(kind)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_projects: total
             select count(*) {WHERE}"
        )))
        .bind(organization.as_str())
        .bind(only.map(ProjectId::as_str))
        .bind(search)
        .bind(kind)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Changes a project as `change` says, under its row's lock.
    pub async fn update_project<E: From<Error>>(
        &self,
        organization: &OrganizationId,
        id: &ProjectId,
        change: impl FnOnce(&mut Project) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Project, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let found = find(&mut tx, organization, id, "for update").await?;
        let mut project = found.ok_or_else(|| Error::not_found("Project", id))?;
        change(&mut project)?;
        let row = sqlx::query(
            "-- update_project
             update projects
             set name = $2, description = $3, kind = $4, stored = $5, tier = $6, updated_at = now()
             where id = $1
             returning *",
        )
        .bind(id.as_str())
        .bind(&project.name)
        .bind(&project.description)
        .bind(project.kind.as_str())
        .bind(to_json(&project.stored))
        .bind(&project.tier)
        .fetch_one(&mut *tx)
        .await
        .map_err(Error::from)?;
        tx.commit().await.map_err(Error::from)?;
        Ok(read(&row)?)
    }

    /// Deletes a project: its keys open nothing any more, its schedules fire no more. Its rows and files stay.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while runs are under way.
    pub async fn delete_project(&self, organization: &OrganizationId, id: &ProjectId) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let busy: i64 = sqlx::query_scalar(
            "-- delete_project: runs under way
             select count(*) from runs where project_id = $1 and status not in ('completed', 'failed', 'cancelled')",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        let done = sqlx::query(
            "-- delete_project
             update projects set deleted_at = now() where organization_id = $1 and id = $2 and deleted_at is null",
        )
        .bind(organization.as_str())
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("Project", id));
        }
        if busy > 0 {
            return Err(Error::Conflict(format!("The project has {busy} runs under way: cancel them first")));
        }
        sqlx::query("update schedules set enabled = false, next_run_at = null where project_id = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Lists the tiers that projects are of, and how many are.
    pub async fn list_tiers(&self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query_as(
            "-- list_tiers
             select tier, count(*) from projects
             where tier is not null and deleted_at is null
             group by tier
             order by tier",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Counts what there is in a project.
    pub async fn project_stats(&self, project: &ProjectId) -> Result<ProjectStats> {
        let row = sqlx::query(
            "-- project_stats
             select t.*, r.runs, e.environments
             from (
                 select count(*) filter (where deleted_at is null) as threads,
                     count(*) filter (where deleted_at is null and status in ('running', 'permission_asked'))
                         as active_threads,
                     coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), 0)::bigint
                         as tokens,
                     coalesce(sum(cost_micro_usd), 0)::bigint as cost
                 from threads
                 where project_id = $1
             ) t,
             (select count(*) as runs from runs where project_id = $1) r,
             (select count(*) as environments from environments where project_id = $1 and deleted_at is null) e",
        )
        .bind(project.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(ProjectStats {
            environments: row.try_get("environments")?,
            threads: row.try_get("threads")?,
            active_threads: row.try_get("active_threads")?,
            runs: row.try_get("runs")?,
            tokens: row.try_get("tokens")?,
            cost: domain::MicroUsd(row.try_get("cost")?),
        })
    }
}

async fn find(
    connection: &mut PgConnection,
    organization: &OrganizationId,
    id: &ProjectId,
    lock: &'static str,
) -> Result<Option<Project>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- find_project
         select * from projects where organization_id = $1 and id = $2 and deleted_at is null {lock}"
    )))
    .bind(organization.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &PgRow) -> Result<Project> {
    Ok(Project {
        id: row.parse("id")?,
        organization_id: row.parse("organization_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        kind: row.parse("kind")?,
        tier: row.try_get("tier")?,
        stored: row.json("stored")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
