//! Secrets of environments: sealed when they come, opened for the tools' processes only.

use domain::{EnvironmentId, ProjectId, environment::Environment};
use secrecy::SecretString;
use sqlx::{PgConnection, Postgres, Row, Transaction};

use super::lock;
use crate::{Error, Result, Store, seal};

/// Most secrets of one environment, and most bytes of their names and values together: Linux takes 2 MiB of variables
/// and arguments in all.
const MAX_SECRETS: i64 = 1000;
const MAX_BYTES: i64 = 1024 * 1024;

impl Store {
    /// Sets a secret of an environment, whether it was there or not.
    ///
    /// # Errors
    /// `NotFound` for the environment; `State` when that would be more than a process's environment can hold.
    pub async fn set_secret(
        &self,
        project: &ProjectId,
        id: &EnvironmentId,
        key: &str,
        value: SecretString,
    ) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        self.set(tx, id, key, value).await
    }

    /// Gives a secret that is there another value.
    ///
    /// # Errors
    /// `NotFound` for the environment or the secret; `State` as of [`set_secret`](Self::set_secret).
    pub async fn replace_secret(
        &self,
        project: &ProjectId,
        id: &EnvironmentId,
        key: &str,
        value: SecretString,
    ) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        let environment = lock(&mut tx, project, id).await?;
        if !environment.secret_keys.iter().any(|there| there == key) {
            return Err(Error::not_found("Secret", key));
        }
        self.set(tx, id, key, value).await
    }

    /// Removes a secret of an environment.
    ///
    /// # Errors
    /// `NotFound` for the environment or the secret.
    pub async fn delete_secret(&self, project: &ProjectId, id: &EnvironmentId, key: &str) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, project, id).await?;
        let done = sqlx::query(
            "-- delete_secret
             delete from environment_secrets where environment_id = $1 and key = $2",
        )
        .bind(id.as_str())
        .bind(key)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("Secret", key));
        }
        touch(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Opens the secrets of an environment, for its tools' processes.
    pub async fn open_secrets(&self, id: &EnvironmentId) -> Result<Vec<(String, SecretString)>> {
        let rows = sqlx::query(
            "-- open_secrets
             select key, sealed from environment_secrets where environment_id = $1 order by key",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let key: String = row.try_get("key")?;
                let value = self.sealer.open(&place(id, &key), row.try_get("sealed")?)?;
                Ok((key, value))
            })
            .collect()
    }

    /// Sets a secret in the transaction that has the environment's row, and ends it.
    async fn set(
        &self,
        mut tx: Transaction<'_, Postgres>,
        id: &EnvironmentId,
        key: &str,
        value: SecretString,
    ) -> Result<()> {
        self.put_secrets(&mut tx, id, &[(key.to_owned(), value)]).await?;
        let row = sqlx::query(
            "-- set_secret: size
             select count(*) as secrets, sum(octet_length(key) + octet_length(sealed) - $2)::bigint as bytes
             from environment_secrets where environment_id = $1",
        )
        .bind(id.as_str())
        .bind(seal::OVERHEAD_BYTES as i32)
        .fetch_one(&mut *tx)
        .await?;
        if row.try_get::<i64, _>("secrets")? > MAX_SECRETS {
            return Err(Error::State(format!("An environment has at most {MAX_SECRETS} secrets")));
        }
        if row.try_get::<i64, _>("bytes")? > MAX_BYTES {
            return Err(Error::State(format!("An environment's secrets have at most {MAX_BYTES} bytes in all")));
        }
        touch(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Replaces all secrets; one without a value keeps the one that is there.
    pub(super) async fn replace_secrets(
        &self,
        tx: &mut PgConnection,
        environment: &Environment,
        secrets: Vec<(String, Option<SecretString>)>,
    ) -> Result<()> {
        let (mut kept, mut set) = (Vec::new(), Vec::new());
        for (key, value) in secrets {
            match value {
                Some(value) => set.push((key, value)),
                None if environment.secret_keys.contains(&key) => kept.push(key),
                None => return Err(Error::not_found("Secret", key)),
            }
        }
        delete(tx, &environment.id, &kept).await?;
        self.put_secrets(tx, &environment.id, &set).await
    }

    pub(super) async fn put_secrets(
        &self,
        tx: &mut PgConnection,
        id: &EnvironmentId,
        secrets: &[(String, SecretString)],
    ) -> Result<()> {
        for (key, value) in secrets {
            sqlx::query(
                "-- put_secrets
                 insert into environment_secrets (environment_id, key, sealed)
                 values ($1, $2, $3)
                 on conflict (environment_id, key) do update set sealed = excluded.sealed",
            )
            .bind(id.as_str())
            .bind(key)
            .bind(self.sealer.seal(&place(id, key), value))
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }
}

/// Where a secret belongs, bound into its seal.
fn place(id: &EnvironmentId, key: &str) -> String {
    format!("{id}/{key}")
}

/// Removes the secrets of an environment, `but` those.
pub(super) async fn delete(tx: &mut PgConnection, id: &EnvironmentId, but: &[String]) -> Result<()> {
    sqlx::query("delete from environment_secrets where environment_id = $1 and key <> all($2)")
        .bind(id.as_str())
        .bind(but)
        .execute(tx)
        .await?;
    Ok(())
}

async fn touch(tx: &mut PgConnection, id: &EnvironmentId) -> Result<()> {
    sqlx::query("update environments set updated_at = now() where id = $1").bind(id.as_str()).execute(tx).await?;
    Ok(())
}
