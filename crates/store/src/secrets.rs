//! Secrets that came with a message: sealed, opened for the run's commands only, and removed when the run ends.

use domain::RunId;
use secrecy::SecretString;
use sqlx::{PgConnection, Row};

use crate::{Result, Store, seal::Sealer};

impl Store {
    /// Opens the secrets of a run that is not over.
    pub async fn open_run_secrets(&self, run: &RunId) -> Result<Vec<(String, SecretString)>> {
        let rows = sqlx::query(
            "-- open_run_secrets
             select key, sealed from run_secrets where run_id = $1 order by key",
        )
        .bind(run.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let key: String = row.try_get("key")?;
                let value = self.sealer.open(&place(run, &key), row.try_get("sealed")?)?;
                Ok((key, value))
            })
            .collect()
    }

    /// Removes the secrets of runs that are over, where their end did not: up to `limit` of them.
    pub async fn sweep_run_secrets(&self, limit: i64) -> Result<u64> {
        let done = sqlx::query(
            "-- sweep_run_secrets
             delete from run_secrets
             where run_id = any(array(
                 select s.run_id from run_secrets s join runs r on r.id = s.run_id
                 where r.status in ('completed', 'failed', 'cancelled')
                 limit $1
             ))",
        )
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Secrets that were sealed for a run that does not exist yet.
#[derive(Debug, Clone, Default)]
pub struct SealedSecrets(Vec<(String, Vec<u8>)>);

impl Store {
    /// Seals secrets for a run.
    pub fn seal_run_secrets(&self, run: &RunId, secrets: &[(String, SecretString)]) -> SealedSecrets {
        seal(&self.sealer, run, secrets)
    }
}

fn seal(sealer: &Sealer, run: &RunId, secrets: &[(String, SecretString)]) -> SealedSecrets {
    SealedSecrets(secrets.iter().map(|(key, value)| (key.clone(), sealer.seal(&place(run, key), value))).collect())
}

impl SealedSecrets {
    /// Adds others, of the same run and under other keys.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Stores the secrets of a run in the transaction that makes it.
pub(crate) async fn insert(tx: &mut PgConnection, run: &RunId, secrets: &SealedSecrets) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let (keys, sealed): (Vec<_>, Vec<_>) = secrets.0.iter().cloned().unzip();
    sqlx::query(
        "-- insert: secrets
         insert into run_secrets (run_id, key, sealed)
         select $1, s.key, s.sealed from unnest($2::text[], $3::bytea[]) as s(key, sealed)",
    )
    .bind(run.as_str())
    .bind(keys)
    .bind(sealed)
    .execute(tx)
    .await?;
    Ok(())
}

/// Where a secret is sealed for.
fn place(run: &RunId, key: &str) -> String {
    format!("{run}/{key}")
}
