//! Signing in to MCP servers: what was begun. It is sealed, and who comes back is known by the hash of a random state, once.

use std::time::Duration;

use domain::EnvironmentId;
use secrecy::SecretString;
use sqlx::{PgConnection, Row};

use super::{ServerAddress, hash, interval};
use crate::{Result, Store, row::ReadColumn};

/// The most that an environment may have begun at once; messages can name other servers each time.
const MAX_PER_ENVIRONMENT: i64 = 200;

/// What somebody began who has come back.
#[derive(Debug)]
pub struct SignIn {
    pub environment: EnvironmentId,
    pub server: String,
    /// As it was given.
    pub begun: SecretString,
}

impl Store {
    /// Keeps what somebody has begun with, for `expires_in`. Of one environment's those begun longest ago make room.
    pub async fn keep_mcp_sign_in(
        &self,
        state: &str,
        server: &ServerAddress,
        begun: &SecretString,
        expires_in: Duration,
    ) -> Result<()> {
        sqlx::query(
            "-- keep_mcp_sign_in
             with kept as (
                 insert into mcp_sign_ins (state, environment_id, server, address, sealed, expires_at)
                 select $2, id, $3, $4, $5, now() + $6 from environments where id = $1 and deleted_at is null
             )
             delete from mcp_sign_ins
             where expires_at < now() or state in (
                 select state from mcp_sign_ins where environment_id = $1 order by created_at desc offset $7
             )",
        )
        .bind(server.environment.as_str())
        .bind(hash(state))
        .bind(&server.name)
        .bind(server.address())
        .bind(self.sealer.seal(&place(&server.environment, &server.name), begun))
        .bind(interval(expires_in))
        .bind(MAX_PER_ENVIRONMENT - 1)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Finds what somebody has begun with for a server, if there is at least this much time left to come back.
    pub async fn find_mcp_sign_in(&self, server: &ServerAddress, left: Duration) -> Result<Option<SecretString>> {
        let sealed: Option<Vec<u8>> = sqlx::query_scalar(
            "-- find_mcp_sign_in
             select sealed from mcp_sign_ins
             where environment_id = $1 and server = $2 and address = $3 and expires_at > now() + $4
             order by created_at desc
             limit 1",
        )
        .bind(server.environment.as_str())
        .bind(&server.name)
        .bind(server.address())
        .bind(interval(left))
        .fetch_optional(&self.pool)
        .await?;
        sealed.map(|sealed| self.sealer.open(&place(&server.environment, &server.name), &sealed)).transpose()
    }

    /// Gives what somebody has begun with who comes back with `state`; only the first time, and not too late.
    pub async fn take_mcp_sign_in(&self, state: &str) -> Result<Option<SignIn>> {
        let row = sqlx::query(
            "-- take_mcp_sign_in
             delete from mcp_sign_ins s using environments e, projects p
             where s.state = $1 and s.expires_at > now()
               and e.id = s.environment_id and e.deleted_at is null
               and p.id = e.project_id and p.deleted_at is null
             returning s.environment_id, s.server, s.sealed",
        )
        .bind(hash(state))
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (environment, server): (EnvironmentId, String) = (row.parse("environment_id")?, row.try_get("server")?);
        let begun = self.sealer.open(&place(&environment, &server), row.try_get("sealed")?)?;
        Ok(Some(SignIn { environment, server, begun }))
    }
}

/// Forgets what was begun for servers of an environment: for those of these names, or for all.
pub(super) async fn forget(tx: &mut PgConnection, environment: &EnvironmentId, names: Option<&[&str]>) -> Result<()> {
    sqlx::query(
        "-- forget: sign-ins
         delete from mcp_sign_ins where environment_id = $1 and ($2::text[] is null or server = any($2))",
    )
    .bind(environment.as_str())
    .bind(names)
    .execute(tx)
    .await?;
    Ok(())
}

fn place(environment: &EnvironmentId, server: &str) -> String {
    // Each part in quotes, so that no two places are written alike.
    serde_json::json!([environment.as_str(), "mcp sign-in", server]).to_string()
}
