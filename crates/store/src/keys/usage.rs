//! How much keys are used, by the day. Servers count in memory and write now and then what they have counted.

use chrono::{DateTime, NaiveDate, Utc};
use domain::ApiKeyId;
use sqlx::Row;

use super::{OWNED, Owner};
use crate::{Result, Store, row::ReadColumn};

/// Requests that a key made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub requests: i64,
    /// Those that were answered with 400 or above.
    pub failures: i64,
}

/// A key with its requests.
#[derive(Debug, Clone)]
pub struct KeyUsage {
    pub id: ApiKeyId,
    pub name: String,
    pub prefix: String,
    pub is_active: bool,
    pub last_used_at: Option<DateTime<Utc>>,
    pub usage: Usage,
}

/// A day with its requests.
#[derive(Debug, Clone, Copy)]
pub struct DayUsage {
    pub day: NaiveDate,
    pub usage: Usage,
}

impl Store {
    /// Adds to what is known of a key's use today.
    pub async fn add_key_usage(&self, key: &ApiKeyId, usage: Usage) -> Result<()> {
        sqlx::query(
            "-- add_key_usage
             insert into key_usage (key_id, day, requests, failures)
             select id, (now() at time zone 'utc')::date, $2, $3 from api_keys where id = $1
             on conflict (key_id, day) do update
             set requests = key_usage.requests + excluded.requests, failures = key_usage.failures + excluded.failures",
        )
        .bind(key.as_str())
        .bind(usage.requests)
        .bind(usage.failures)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Sums up the use of each key since a day (`None`: of all time), the most used first.
    pub async fn sum_key_usage(&self, owner: Owner<'_>, since: Option<NaiveDate>) -> Result<Vec<KeyUsage>> {
        let (project, organization) = owner.columns();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- sum_key_usage
             select k.id, k.name, k.prefix, k.last_used_at,
                 k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) as is_active,
                 coalesce(u.requests, 0)::bigint as requests, coalesce(u.failures, 0)::bigint as failures
             from (select k.* {OWNED}) k
             left join lateral (
                 select sum(requests) as requests, sum(failures) as failures
                 from key_usage
                 where key_id = k.id and ($3::date is null or day >= $3)
             ) u on true
             order by requests desc, k.id"
        )))
        .bind(project)
        .bind(organization)
        .bind(since)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(KeyUsage {
                id: row.parse("id")?,
                name: row.try_get("name")?,
                prefix: row.try_get("prefix")?,
                is_active: row.try_get("is_active")?,
                last_used_at: row.try_get("last_used_at")?,
                usage: Usage { requests: row.try_get("requests")?, failures: row.try_get("failures")? },
            })
        };
        rows.iter().map(read).collect()
    }

    /// Sums up the use of keys day by day, oldest first; of one key or of all.
    pub async fn list_key_usage(
        &self,
        owner: Owner<'_>,
        key: Option<&ApiKeyId>,
        since: Option<NaiveDate>,
    ) -> Result<Vec<DayUsage>> {
        let (project, organization) = owner.columns();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_key_usage
             select u.day, sum(u.requests)::bigint as requests, sum(u.failures)::bigint as failures
             from key_usage u
             where u.key_id in (select k.id {OWNED} and ($3::text is null or k.id = $3))
               and ($4::date is null or u.day >= $4)
             group by u.day
             order by u.day"
        )))
        .bind(project)
        .bind(organization)
        .bind(key.map(ApiKeyId::as_str))
        .bind(since)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            let usage = Usage { requests: row.try_get("requests")?, failures: row.try_get("failures")? };
            Ok(DayUsage { day: row.try_get("day")?, usage })
        };
        rows.iter().map(read).collect()
    }
}
