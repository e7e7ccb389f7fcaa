//! The tokens that came of signing in to MCP servers, sealed.
//!
//! Most of whoever gives tokens takes the one that renews them once, so of several servers one renews and the others wait.
//! That is a lease in the row rather than a lock, as the network lies within it. Whoever holds it is known by the sealed
//! text, which is another each time: who comes too late, or renews what was forgotten meanwhile, changes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::EnvironmentId;
use secrecy::SecretString;
use sqlx::{PgConnection, Row};

use super::{ServerAddress, interval, sign_ins};
use crate::{Result, Store};

/// The most servers of one environment that somebody may be signed in to.
const MAX_PER_ENVIRONMENT: i64 = 200;

/// Tokens as they were when they were read.
#[derive(Debug)]
pub struct KeptTokens {
    /// As they were given.
    pub tokens: SecretString,
    sealed: Vec<u8>,
}

/// Since when somebody is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    pub since: DateTime<Utc>,
    pub renewed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Keeps the tokens of somebody who has signed in. Those for other servers that were kept longest ago make room.
    pub async fn keep_mcp_tokens(&self, server: &ServerAddress, tokens: &SecretString) -> Result<()> {
        sqlx::query(
            "-- keep_mcp_tokens
             with kept as (
                 insert into mcp_tokens (environment_id, server, address, sealed)
                 select id, $2, $3, $4 from environments where id = $1 and deleted_at is null
                 on conflict (environment_id, server, address) do update
                 set sealed = excluded.sealed, signed_in_at = excluded.signed_in_at, renewed_at = null,
                     renewing_until = null
             )
             delete from mcp_tokens
             where environment_id = $1 and (server, address) in (
                 select server, address from mcp_tokens
                 where environment_id = $1 and (server, address) <> ($2, $3)
                 order by coalesce(renewed_at, signed_in_at) desc
                 offset $5
             )",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .bind(self.sealer.seal(&place(server), tokens))
        .bind(MAX_PER_ENVIRONMENT - 1)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Opens the tokens for a server, for a run.
    pub async fn open_mcp_tokens(&self, server: &ServerAddress) -> Result<Option<KeptTokens>> {
        let sealed: Option<Vec<u8>> = sqlx::query_scalar(
            "-- open_mcp_tokens
             select sealed from mcp_tokens where environment_id = $1 and server = $2 and address = $3",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .fetch_optional(&self.pool)
        .await?;
        let Some(sealed) = sealed else { return Ok(None) };
        Ok(Some(KeptTokens { tokens: self.sealer.open(&place(server), &sealed)?, sealed }))
    }

    /// Takes it upon the caller to renew tokens, for `lease`; false if somebody else does, or they are others by now.
    pub async fn begin_mcp_renewal(&self, server: &ServerAddress, old: &KeptTokens, lease: Duration) -> Result<bool> {
        let done = sqlx::query(
            "-- begin_mcp_renewal
             update mcp_tokens set renewing_until = now() + $5
             where environment_id = $1 and server = $2 and address = $3 and sealed = $4
               and (renewing_until is null or renewing_until < now())",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .bind(&old.sealed)
        .bind(interval(lease))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a renewal: with new tokens, or with the old ones as they are. Tokens that are others by now stay.
    pub async fn end_mcp_renewal(
        &self,
        server: &ServerAddress,
        old: &KeptTokens,
        new: Option<&SecretString>,
    ) -> Result<()> {
        sqlx::query(
            "-- end_mcp_renewal
             update mcp_tokens
             set renewing_until = null,
                 sealed = coalesce($5, sealed),
                 renewed_at = case when $5 is null then renewed_at else now() end
             where environment_id = $1 and server = $2 and address = $3 and sealed = $4",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .bind(&old.sealed)
        .bind(new.map(|new| self.sealer.seal(&place(server), new)))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Drops tokens that are of no use any more; others that somebody has signed in for by now stay.
    pub async fn drop_mcp_tokens(&self, server: &ServerAddress, old: &KeptTokens) -> Result<()> {
        sqlx::query(
            "-- drop_mcp_tokens
             delete from mcp_tokens where environment_id = $1 and server = $2 and address = $3 and sealed = $4",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .bind(&old.sealed)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Tells whether somebody is signed in to an environment's server, by its name.
    pub async fn find_mcp_signed_in(&self, environment: &EnvironmentId, name: &str) -> Result<Option<SignedIn>> {
        let row = sqlx::query(
            "-- find_mcp_signed_in
             select signed_in_at, renewed_at from mcp_tokens
             where environment_id = $1 and server = $2
             order by signed_in_at desc
             limit 1",
        )
        .bind(environment.as_str())
        .bind(name)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(SignedIn { since: row.try_get("signed_in_at")?, renewed_at: row.try_get("renewed_at")? }))
    }

    /// Forgets who has signed in to an environment's server, by its name, and who is about to; false if nobody has.
    pub async fn forget_mcp_tokens(&self, environment: &EnvironmentId, name: &str) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        let forgotten = forget(&mut tx, environment, Some(&[name])).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

/// Forgets who has signed in to servers of an environment, and who is about to: for those of these names, or for all.
pub(crate) async fn forget(tx: &mut PgConnection, environment: &EnvironmentId, names: Option<&[&str]>) -> Result<bool> {
    sign_ins::forget(tx, environment, names).await?;
    let done = sqlx::query(
        "-- forget: tokens
         delete from mcp_tokens where environment_id = $1 and ($2::text[] is null or server = any($2))",
    )
    .bind(environment.as_str())
    .bind(names)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

fn place(server: &ServerAddress) -> String {
    // Each part in quotes, so that no two places are written alike.
    serde_json::json!([server.environment.as_str(), "mcp tokens", server.name, server.url]).to_string()
}
