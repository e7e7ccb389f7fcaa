//! The audit log: only added to, which a trigger of the table enforces.

use chrono::{DateTime, Utc};
use domain::{
    OrganizationId,
    audit::{AuditLine, WrittenLine},
};
use sqlx::{Row, postgres::PgRow};

use crate::{
    Page, Paged, Result, Store,
    row::{ReadColumn, to_json},
};

/// Which lines are asked for; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub project_id: Option<String>,
    pub key_id: Option<String>,
    pub user_id: Option<String>,
    pub method: Option<String>,
    pub route: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

impl Store {
    /// Adds a line.
    pub async fn add_audit_line(&self, line: &AuditLine) -> Result<()> {
        sqlx::query(
            "-- add_audit_line
             insert into audit_log (organization_id, project_id, key_id, method, route, subject, status, request_id,
                 address, user_id)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, (select user_id from api_keys where id = $3))",
        )
        .bind(line.organization_id.as_str())
        .bind(line.project_id.as_str())
        .bind(line.key_id.as_str())
        .bind(&line.method)
        .bind(&line.route)
        .bind(to_json(&line.subject))
        .bind(line.status.map(i32::from))
        .bind(&line.request_id)
        .bind(&line.address)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Lists what was done in an organization, newest first.
    pub async fn list_audit_lines(
        &self,
        organization: &OrganizationId,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<Paged<WrittenLine>> {
        const WHERE: &str = "from audit_log
             where organization_id = $1
               and ($2::text is null or project_id = $2)
               and ($3::text is null or key_id = $3)
               and ($4::text is null or method = $4)
               and ($5::text is null or route = $5)
               and ($6::timestamptz is null or at >= $6)
               and ($7::timestamptz is null or at < $7)
               and ($8::text is null or user_id = $8)";
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_audit_lines
             select * {WHERE} order by id desc limit $9 offset $10"
        )))
        .bind(organization.as_str())
        .bind(&filter.project_id)
        .bind(&filter.key_id)
        .bind(&filter.method)
        .bind(&filter.route)
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.user_id)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_audit_lines: total
             select count(*) {WHERE}"
        )))
        .bind(organization.as_str())
        .bind(&filter.project_id)
        .bind(&filter.key_id)
        .bind(&filter.method)
        .bind(&filter.route)
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.user_id)
        .fetch_one(&self.pool)
        .await?;
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }
}

fn read(row: &PgRow) -> Result<WrittenLine> {
    let line = AuditLine {
        organization_id: row.parse("organization_id")?,
        project_id: row.parse("project_id")?,
        key_id: row.parse("key_id")?,
        method: row.try_get("method")?,
        route: row.try_get("route")?,
        subject: row.json("subject")?,
        status: row.try_get::<Option<i32>, _>("status")?.and_then(|status| u16::try_from(status).ok()),
        request_id: row.try_get("request_id")?,
        address: row.try_get("address")?,
    };
    Ok(WrittenLine { id: row.try_get("id")?, at: row.try_get("at")?, user_id: row.try_get("user_id")?, line })
}
