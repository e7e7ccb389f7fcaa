//! Previews: made with a token that is shown once and kept as a hash, gone when they are revoked.

use std::{collections::HashSet, time::Duration};

use domain::{EnvironmentId, PreviewId, ProjectId, preview::Preview};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::{Row, postgres::PgRow, postgres::types::PgInterval};
use subtle::ConstantTimeEq;

use crate::{Error, Result, Store, row::ReadColumn};

/// How many an environment may have at once. A script that makes one for each run meets this, and old ones expire.
pub const MAX_PER_ENVIRONMENT: i64 = 1000;

/// What a preview is made from.
#[derive(Debug, Clone)]
pub struct NewPreview {
    pub port: u16,
    pub name: Option<String>,
    pub rewrites_host: bool,
    pub expires_in: Duration,
}

impl Store {
    /// Makes a preview of an environment of the project, and the token that opens it.
    ///
    /// # Errors
    /// `NotFound` for the environment; `Conflict` when it has too many.
    pub async fn create_preview(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        new: NewPreview,
    ) -> Result<(Preview, SecretString)> {
        let random: [u8; 32] = rand::random();
        let token = SecretString::from(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let count: Option<i64> = sqlx::query_scalar(
            "-- create_preview: how many there are
             select (select count(*) from previews where environment_id = e.id and expires_at > now())
             from environments e
             where e.project_id = $1 and e.id = $2 and e.deleted_at is null",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .fetch_optional(&self.pool)
        .await?;
        // Two at the same moment may both be the last: the limit is there for thousands.
        if count.ok_or_else(|| Error::not_found("Environment", environment))? >= MAX_PER_ENVIRONMENT {
            return Err(Error::Conflict(format!(
                "The environment has {MAX_PER_ENVIRONMENT} previews: revoke some, or wait until they expire"
            )));
        }
        let row = sqlx::query(
            "-- create_preview
             insert into previews (id, environment_id, hash, port, name, rewrites_host, expires_at)
             select $3, id, $4, $5, $6, $7, now() + $8
             from environments
             where project_id = $1 and id = $2 and deleted_at is null
             returning *",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(PreviewId::generate().as_str())
        .bind(hash(&token).as_slice())
        .bind(i32::from(new.port))
        .bind(new.name)
        .bind(new.rewrites_host)
        .bind(PgInterval {
            months: 0,
            days: 0,
            microseconds: i64::try_from(new.expires_in.as_micros()).unwrap_or(i64::MAX / 2),
        })
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Error::not_found("Environment", environment))?;
        Ok((read(&row)?, token))
    }

    /// Lists the previews of an environment of the project that can still be opened, the newest first.
    pub async fn list_previews(&self, project: &ProjectId, environment: &EnvironmentId) -> Result<Vec<Preview>> {
        let rows = sqlx::query(
            "-- list_previews
             select p.*
             from previews p
             join environments e on e.id = p.environment_id
             where e.project_id = $1 and e.id = $2 and e.deleted_at is null and p.expires_at > now()
             order by p.created_at desc, p.id desc",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Revokes a preview of an environment of the project.
    ///
    /// # Errors
    /// `NotFound`, also for one that has expired.
    pub async fn revoke_preview(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        preview: &PreviewId,
    ) -> Result<()> {
        let done = sqlx::query(
            "-- revoke_preview
             delete from previews p
             using environments e
             where e.id = p.environment_id and e.project_id = $1 and e.id = $2 and e.deleted_at is null
               and p.id = $3 and p.expires_at > now()",
        )
        .bind(project.as_str())
        .bind(environment.as_str())
        .bind(preview.as_str())
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 { Err(Error::not_found("Preview", preview)) } else { Ok(()) }
    }

    /// Finds the preview that a token opens now; `None` for a wrong token, and for one that expired or was revoked.
    pub async fn find_preview(&self, preview: &PreviewId, token: &SecretString) -> Result<Option<Preview>> {
        let row = sqlx::query(
            "-- find_preview
             select p.*
             from previews p
             join environments e on e.id = p.environment_id
             where p.id = $1 and p.expires_at > now() and e.deleted_at is null",
        )
        .bind(preview.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let is_right = bool::from(row.try_get::<&[u8], _>("hash")?.ct_eq(hash(token).as_slice()));
        if is_right { read(&row).map(Some) } else { Ok(None) }
    }

    /// Tells which of these previews can still be opened.
    pub async fn live_previews(&self, previews: &[PreviewId]) -> Result<HashSet<PreviewId>> {
        let ids: Vec<&str> = previews.iter().map(PreviewId::as_str).collect();
        let rows = sqlx::query(
            "-- live_previews
             select p.id
             from previews p
             join environments e on e.id = p.environment_id
             where p.id = any($1) and p.expires_at > now() and e.deleted_at is null",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| row.parse("id")).collect()
    }

    /// Forgets up to `limit` previews that have expired. Gives how many that were.
    pub async fn sweep_previews(&self, limit: i64) -> Result<u64> {
        let done = sqlx::query(
            "-- sweep_previews
             delete from previews
             where id in (select id from previews where expires_at <= now() limit $1)",
        )
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

fn hash(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

fn read(row: &PgRow) -> Result<Preview> {
    Ok(Preview {
        id: row.parse("id")?,
        environment_id: row.parse("environment_id")?,
        port: u16::try_from(row.try_get::<i32, _>("port")?).map_err(Error::unreadable("port"))?,
        name: row.try_get("name")?,
        rewrites_host: row.try_get("rewrites_host")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}
