//! What MCP servers have, by how they are reached: so that a run knows before they run.

mod approvals;
mod sign_ins;
mod tokens;

use std::time::Duration;

use domain::EnvironmentId;
use sha2::{Digest, Sha256};
use sqlx::{Row, postgres::types::PgInterval};

pub(crate) use self::tokens::forget;
pub use self::{
    approvals::OfferedTool,
    sign_ins::SignIn,
    tokens::{KeptTokens, SignedIn},
};
use crate::{Result, Store};

/// The most that are kept of one environment; messages can name others each time.
const MAX_PER_ENVIRONMENT: i64 = 200;

/// What a server said that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptListing {
    /// As it was given.
    pub listing: String,
    /// Whether it is older than was asked for.
    pub is_old: bool,
}

/// A server of an environment as it is reached: what somebody signs in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    pub environment: EnvironmentId,
    pub name: String,
    /// With its variables filled in, so it may hold secrets: it is kept as a hash.
    pub url: String,
}

impl ServerAddress {
    fn address(&self) -> Vec<u8> {
        hash(&self.url)
    }
}

impl Store {
    /// Finds what is known of servers, in their order. `fingerprints` say how each is reached.
    pub async fn find_mcp_listings(
        &self,
        environment: &EnvironmentId,
        fingerprints: &[String],
        max_age: Duration,
    ) -> Result<Vec<Option<KeptListing>>> {
        let hashes: Vec<Vec<u8>> = fingerprints.iter().map(|fingerprint| hash(fingerprint)).collect();
        let rows = sqlx::query(
            "-- find_mcp_listings
             select hash, listing, listed_at < now() - $3 as is_old
             from mcp_listings where environment_id = $1 and hash = any($2)",
        )
        .bind(environment.as_str())
        .bind(&hashes)
        .bind(interval(max_age))
        .fetch_all(&self.pool)
        .await?;
        let mut found = vec![None; hashes.len()];
        for row in rows {
            let of: Vec<u8> = row.try_get("hash")?;
            let kept = KeptListing { listing: row.try_get("listing")?, is_old: row.try_get("is_old")? };
            for (at, _) in hashes.iter().enumerate().filter(|(_, hash)| **hash == of) {
                found[at] = Some(kept.clone());
            }
        }
        Ok(found)
    }

    /// Keeps what a server has. Of those kept longest ago some make room.
    pub async fn keep_mcp_listing(&self, environment: &EnvironmentId, fingerprint: &str, listing: &str) -> Result<()> {
        sqlx::query(
            "-- keep_mcp_listing
             with kept as (
                 insert into mcp_listings (environment_id, hash, listing)
                 select id, $2, $3 from environments where id = $1
                 on conflict (environment_id, hash) do update
                 set listing = excluded.listing, listed_at = excluded.listed_at
             )
             delete from mcp_listings
             where environment_id = $1 and hash in (
                 select hash from mcp_listings
                 where environment_id = $1 and hash <> $2
                 order by listed_at desc
                 offset $4
             )",
        )
        .bind(environment.as_str())
        .bind(hash(fingerprint))
        // A server may name its tools as it likes; the database takes no NUL.
        .bind(listing.replace("\\u0000", "\u{fffd}"))
        .bind(MAX_PER_ENVIRONMENT - 1)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn hash(fingerprint: &str) -> Vec<u8> {
    Sha256::digest(fingerprint.as_bytes()).to_vec()
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2);
    PgInterval { months: 0, days: 0, microseconds }
}
