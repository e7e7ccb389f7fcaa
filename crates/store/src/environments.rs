//! Environments of a project.

mod secrets;
mod servers;

use std::collections::HashSet;

use domain::{
    BuildId, EnvironmentId, ProjectId, RunId, ThreadId,
    environment::{Environment, EnvironmentSettings},
    run::Outcome,
};
use secrecy::SecretString;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Page, Paged, Result, Store,
    builds::{self, ENVIRONMENT_COLUMNS as BUILD_COLUMNS},
    mcp,
    row::{ReadColumn, to_json},
    runs::{self, Active},
};

/// What a new environment is made of.
pub struct NewEnvironment {
    pub name: String,
    pub settings: EnvironmentSettings,
    pub secrets: Vec<(String, SecretString)>,
    /// Takes the place of the project's default environment before it.
    pub is_default: bool,
}

/// Columns of an environment, with the names of its secrets.
const COLUMNS: &str = "e.*, array(
    select key from environment_secrets s where s.environment_id = e.id order by key
) as secret_keys";

impl Store {
    /// Makes an environment.
    pub async fn create_environment(&self, project: &ProjectId, mut new: NewEnvironment) -> Result<Environment> {
        servers::seal(&self.sealer, project, &mut new.settings)?;
        let mut tx = self.pool.begin().await?;
        if new.is_default {
            clear_default(&mut tx, project).await?;
        }
        let id = EnvironmentId::generate();
        sqlx::query(
            "-- create_environment
             insert into environments (id, project_id, name, settings, is_default)
             values ($1, $2, $3, $4, $5)",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .bind(new.name)
        .bind(to_json(&new.settings))
        .bind(new.is_default)
        .execute(&mut *tx)
        .await?;
        self.put_secrets(&mut tx, &id, &new.secrets).await?;
        let environment = get(&mut tx, project, &id).await?;
        tx.commit().await?;
        Ok(environment)
    }

    /// Gives the project's default environment, made on the first call.
    pub async fn default_environment(&self, project: &ProjectId) -> Result<Environment> {
        let mut tx = self.pool.begin().await?;
        // Two first calls at once make one environment: the loser's row is not inserted and it reads the winner's.
        sqlx::query(
            "-- default_environment
             insert into environments (id, project_id, name, settings, is_default)
             values ($1, $2, 'default', $3, true)
             on conflict (project_id) where is_default and deleted_at is null do nothing",
        )
        .bind(EnvironmentId::generate().as_str())
        .bind(project.as_str())
        .bind(to_json(&EnvironmentSettings::default()))
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- default_environment: read
             select {COLUMNS}, {BUILD_COLUMNS} from environments e where e.project_id = $1 and e.is_default and e.deleted_at is null"
        )))
        .bind(project.as_str())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        read(&row)
    }

    /// Finds an environment of the project that is not deleted.
    pub async fn find_environment(&self, project: &ProjectId, id: &EnvironmentId) -> Result<Option<Environment>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- find_environment
             select {COLUMNS}, {BUILD_COLUMNS} from environments e where e.project_id = $1 and e.id = $2 and e.deleted_at is null"
        )))
        .bind(project.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the project's environments: the default first, then the newest.
    pub async fn list_environments(
        &self,
        project: &ProjectId,
        is_default: Option<bool>,
        page: Page,
    ) -> Result<Paged<Environment>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_environments
             select {COLUMNS}, {BUILD_COLUMNS} from environments e
             where e.project_id = $1
               and e.deleted_at is null
               and ($2::boolean is null or e.is_default = $2)
             order by e.is_default desc, e.created_at desc, e.id desc
             limit $3 offset $4"
        )))
        .bind(project.as_str())
        .bind(is_default)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(
            "-- list_environments: total
             select count(*) from environments
             where project_id = $1 and deleted_at is null and ($2::boolean is null or is_default = $2)",
        )
        .bind(project.as_str())
        .bind(is_default)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Gives the ids of the project's environments that are called so, the newest first; two at most, to tell one from
    /// several.
    pub async fn find_environments_named(&self, project: &ProjectId, name: &str) -> Result<Vec<EnvironmentId>> {
        let rows = sqlx::query(
            "-- find_environments_named
             select id from environments
             where project_id = $1 and name = $2 and deleted_at is null
             order by created_at desc, id desc limit 2",
        )
        .bind(project.as_str())
        .bind(name)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| row.parse("id")).collect()
    }

    /// Changes an environment as `change` says, under its row's lock. Making it the default takes that from the one before.
    ///
    /// `secrets`: `None` leaves them, `Some` replaces all of them; one without a value keeps the value that is there.
    ///
    /// # Errors
    /// What `change` refuses with; `NotFound` also for a secret that is to be kept and is not there.
    pub async fn update_environment<E: From<Error>>(
        &self,
        project: &ProjectId,
        id: &EnvironmentId,
        secrets: Option<Vec<(String, Option<SecretString>)>>,
        change: impl FnOnce(&mut Environment) -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Environment, E> {
        let mut tx = self.pool.begin().await.map_err(Error::from)?;
        let before = lock(&mut tx, project, id).await?;
        let mut environment = before.clone();
        change(&mut environment)?;
        if environment.is_default && !before.is_default {
            clear_default(&mut tx, project).await?;
        }
        if let Some(secrets) = secrets {
            self.replace_secrets(&mut tx, &before, secrets).await?;
        }
        if let Some(build) = &before.build.latest
            && environment.settings.wants_another_image(&before.settings)
        {
            forget_build(&mut tx, &before.id, &build.id).await?;
        }
        let moved = servers::moved(&before.settings, &environment.settings);
        if !moved.is_empty() {
            mcp::forget(&mut tx, &before.id, Some(&moved)).await?;
        }
        servers::seal(&self.sealer, project, &mut environment.settings)?;
        write(&mut tx, environment).await?;
        let environment = get(&mut tx, project, id).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(environment)
    }

    /// Deletes an environment so that it is no longer found, with its secrets and its tokens for MCP servers, and asks the
    /// runs in it to stop. Its threads stay readable. Its files stay unless `wipes_files`, which leaves a wish that
    /// [`Store::list_wipes`] tells of.
    pub async fn delete_environment(&self, project: &ProjectId, id: &EnvironmentId, wipes_files: bool) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let deleted = sqlx::query(
            "-- delete_environment
             update environments
             set deleted_at = now(), is_default = false, wipe_requested_at = case when $3 then now() end
             where project_id = $1 and id = $2 and deleted_at is null
             returning build_id",
        )
        .bind(project.as_str())
        .bind(id.as_str())
        .bind(wipes_files)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::not_found("Environment", id))?;
        // Only now: a run that was starting held the environment's row, and is seen by this statement.
        let cancelled = sqlx::query(
            "-- delete_environment: cancel
             update runs
             set cancel_requested_at = coalesce(cancel_requested_at, now())
             from threads
             where threads.id = runs.thread_id
               and threads.environment_id = $1
               and threads.project_id = $2
               -- What it has called ends with it.
               and runs.parent_run_id is null
               and runs.status not in ('held', 'completed', 'failed', 'cancelled')
             returning runs.id, runs.status, runs.thread_id",
        )
        .bind(id.as_str())
        .bind(project.as_str())
        .fetch_all(&mut *tx)
        .await?;
        if let Some(build) = deleted.parse_optional("build_id")? {
            builds::cancel_unwanted(&mut tx, &build).await?;
        }
        secrets::delete(&mut tx, id, &[]).await?;
        mcp::forget(&mut tx, id, None).await?;
        let mut stopped = Vec::new();
        for row in &cancelled {
            let (thread, active) =
                (row.parse::<ThreadId>("thread_id")?, Active { id: row.parse("id")?, status: row.parse("status")? });
            // One that no worker has is over now; some wait for what nobody can give any more.
            let finished = runs::finish_idle(&mut tx, &active, &Outcome::Cancelled).await?;
            stopped.push((thread, active.id, finished));
        }
        tx.commit().await?;
        for (thread, run, finished) in &stopped {
            self.hub.hint_cancel(run);
            if let Some(finished) = finished {
                self.hint_finished(thread, finished);
            }
        }
        Ok(())
    }

    /// Finds a run that is under way in an environment, of whichever project. One that waits for somebody's decision, or
    /// was paused, will go on there.
    pub async fn find_active_run(&self, id: &EnvironmentId) -> Result<Option<RunId>> {
        let row = sqlx::query(
            "-- find_active_run
             select r.id from runs r
             join threads t on t.id = r.thread_id
             where t.environment_id = $1 and r.status not in ('held', 'completed', 'failed', 'cancelled')
             order by r.queued_at
             limit 1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| row.parse("id")).transpose()
    }

    /// Lists all environments of the installation that may have a container.
    pub async fn list_wanted_environments(&self) -> Result<HashSet<EnvironmentId>> {
        let ids: Vec<String> =
            sqlx::query_scalar("select id from environments where deleted_at is null").fetch_all(&self.pool).await?;
        ids.into_iter().map(|id| id.parse().map_err(Error::unreadable("an environment id"))).collect()
    }

    /// Lists the deleted environments whose files are still to be removed, oldest wish first.
    pub async fn list_wipes(&self) -> Result<Vec<EnvironmentId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "-- list_wipes
             select id from environments where wipe_requested_at is not null order by wipe_requested_at",
        )
        .fetch_all(&self.pool)
        .await?;
        ids.into_iter().map(|id| id.parse().map_err(Error::unreadable("an environment id"))).collect()
    }

    /// Takes the wish back after the files were removed; not while a run there has not ended, which may write once more.
    pub async fn finish_wipe(&self, id: &EnvironmentId) -> Result<()> {
        sqlx::query(
            "-- finish_wipe
             update environments
             set wipe_requested_at = null
             where id = $1
               and not exists(
                   select 1 from runs r
                   join threads t on t.id = r.thread_id
                   where t.environment_id = $1 and r.status not in ('held', 'completed', 'failed', 'cancelled')
               )",
        )
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Takes an environment's row for this transaction.
async fn lock(tx: &mut PgConnection, project: &ProjectId, id: &EnvironmentId) -> Result<Environment> {
    sqlx::query(
        "-- lock
         select 1 from environments where project_id = $1 and id = $2 and deleted_at is null for update",
    )
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| Error::not_found("Environment", id))?;
    get(tx, project, id).await
}

/// Takes an environment's latest build from it; the image in use stays in use until there is another.
async fn forget_build(tx: &mut PgConnection, id: &EnvironmentId, build: &BuildId) -> Result<()> {
    sqlx::query("update environments set build_id = null where id = $1").bind(id.as_str()).execute(&mut *tx).await?;
    builds::cancel_unwanted(tx, build).await
}

async fn write(tx: &mut PgConnection, environment: Environment) -> Result<()> {
    sqlx::query(
        "-- write
         update environments
         set name = $2, settings = $3, is_default = $4, updated_at = now()
         where id = $1",
    )
    .bind(environment.id.as_str())
    .bind(environment.name)
    .bind(to_json(&environment.settings))
    .bind(environment.is_default)
    .execute(tx)
    .await?;
    Ok(())
}

async fn clear_default(tx: &mut PgConnection, project: &ProjectId) -> Result<()> {
    sqlx::query("update environments set is_default = false where project_id = $1 and is_default")
        .bind(project.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

async fn get(tx: &mut PgConnection, project: &ProjectId, id: &EnvironmentId) -> Result<Environment> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- get
         select {COLUMNS}, {BUILD_COLUMNS} from environments e where e.project_id = $1 and e.id = $2"
    )))
    .bind(project.as_str())
    .bind(id.as_str())
    .fetch_one(tx)
    .await?;
    read(&row)
}

pub(crate) fn read(row: &PgRow) -> Result<Environment> {
    Ok(Environment {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        settings: row.json("settings")?,
        secret_keys: row.try_get("secret_keys")?,
        is_default: row.try_get("is_default")?,
        is_active: row.try_get::<Option<chrono::DateTime<chrono::Utc>>, _>("deleted_at")?.is_none(),
        build: builds::read_environment(row)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
