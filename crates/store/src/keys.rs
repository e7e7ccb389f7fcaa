//! API keys: made once, shown once, kept as a hash.
//!
//! A key is `tb_` and 64 hex digits (256 random bits), so a plain SHA-256 is as good as a slow hash and costs
//! microseconds. The row is found by the hash through an index; the comparison that decides is made in constant time.

use chrono::{DateTime, Utc};
use domain::{ApiKeyId, ProjectId};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::Row;
use subtle::ConstantTimeEq;

use crate::{Error, Result, Store, row::ReadColumn};

/// What every key begins with: what does not is refused without a query.
const PREFIX: &str = "tb_";

/// A stored key, without the key itself.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub project_id: ProjectId,
    pub name: String,
    /// The first characters of the key, to tell keys apart.
    pub prefix: String,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key that was accepted, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub key_id: ApiKeyId,
    pub project_id: ProjectId,
}

fn hash(key: &SecretString) -> [u8; 32] {
    Sha256::digest(key.expose_secret().as_bytes()).into()
}

impl Store {
    /// Makes a key for a project. The text is given here and never again.
    pub async fn create_key(
        &self,
        project: &ProjectId,
        name: &str,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(ApiKey, SecretString)> {
        let random: [u8; 32] = rand::random();
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = SecretString::from(format!("{PREFIX}{text}"));
        let prefix: String = key.expose_secret().chars().take(11).collect();
        let row = sqlx::query(
            "-- create_key
             insert into api_keys (id, project_id, name, prefix, hash, expires_at)
             values ($1, $2, $3, $4, $5, $6)
             returning *",
        )
        .bind(ApiKeyId::generate().as_str())
        .bind(project.as_str())
        .bind(name)
        .bind(prefix)
        .bind(hash(&key).as_slice())
        .bind(expires_at)
        .fetch_one(&self.pool)
        .await?;
        Ok((read(&row)?, key))
    }

    /// Finds whose key this is; `None` for one that is unknown, expired or revoked.
    pub async fn find_caller(&self, key: &SecretString) -> Result<Option<Caller>> {
        if !key.expose_secret().starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = hash(key);
        let row = sqlx::query(
            "-- find_caller
             select id, project_id, hash, last_used_at is null or last_used_at < now() - interval '1 minute' as is_stale
             from api_keys
             where hash = $1
               and revoked_at is null
               and (expires_at is null or expires_at > now())",
        )
        .bind(hash.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if !bool::from(row.try_get::<&[u8], _>("hash")?.ct_eq(hash.as_slice())) {
            return Ok(None);
        }
        // Once a minute is enough to tell a used key from an unused one; a write per request would be a commit each.
        if row.try_get("is_stale")? {
            sqlx::query("update api_keys set last_used_at = now() where id = $1")
                .bind(row.try_get::<&str, _>("id")?)
                .execute(&self.pool)
                .await?;
        }
        Ok(Some(Caller { key_id: row.parse("id")?, project_id: row.parse("project_id")? }))
    }

    /// Lists all keys of the installation, oldest first.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>> {
        let rows = sqlx::query("select * from api_keys order by created_at, id").fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Revokes the key with this id, name or prefix (8 characters or more). It is refused from now on, on every server.
    ///
    /// # Errors
    /// `NotFound` if no valid key matches; `Conflict` if several do.
    pub async fn revoke_key(&self, id_or_prefix: &str) -> Result<ApiKey> {
        // As lists show it.
        let id_or_prefix = id_or_prefix.trim().trim_end_matches('…');
        let mut tx = self.pool.begin().await?;
        let rows = sqlx::query(
            "-- revoke_key
             update api_keys
             set revoked_at = now()
             where (id = $1 or name = $1 or length($1) >= 8 and (starts_with(prefix, $1) or starts_with(id, $1)))
               and revoked_at is null
             returning *",
        )
        .bind(id_or_prefix)
        .fetch_all(&mut *tx)
        .await?;
        match rows.as_slice() {
            [] => Err(Error::not_found("API key", id_or_prefix)),
            [row] => {
                let key = read(row)?;
                tx.commit().await?;
                Ok(key)
            }
            _ => Err(Error::Conflict(format!(
                "several keys are called or start with {id_or_prefix}: name one by its id"
            ))),
        }
    }
}

fn read(row: &sqlx::postgres::PgRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}
