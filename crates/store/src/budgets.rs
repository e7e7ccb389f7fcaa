//! Budgets of a project, its keys and its agents, and what was added to them.

use chrono::{DateTime, Utc};
use domain::{
    AgentId, ApiKeyId, MicroUsd, ProjectId, ThreadId,
    budget::{Budget, Cap, Period, Subject},
};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Error, Result, Store, row::ReadColumn};

/// Money that was added to what a project may spend in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    pub id: String,
    pub amount: MicroUsd,
    pub description: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// What a project has spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpentSums {
    pub today: MicroUsd,
    pub this_month: MicroUsd,
    pub ever: MicroUsd,
    /// All that was added.
    pub added: MicroUsd,
}

/// A budget `b` with what was spent of it. The database's clock says which day it is.
const BUDGET: &str = "select b.subject, b.subject_id, b.period,
        b.limit_micro_usd + case
            when b.subject = 'project' and b.period = 'total'
                then (select coalesce(sum(amount_micro_usd), 0)::bigint from top_ups where project_id = b.project_id)
            else 0
        end as limit_micro_usd,
        (
            select coalesce(sum(s.cost_micro_usd), 0)::bigint
            from spending s
            where s.project_id = b.project_id
              and s.subject = b.subject
              and s.subject_id = b.subject_id
              and s.day >= case b.period
                  when 'day' then (now() at time zone 'utc')::date
                  when 'month' then date_trunc('month', now() at time zone 'utc')::date
                  else '-infinity'::date
              end
        ) as spent_micro_usd
    from budgets b";

impl Store {
    /// Gives the budgets that hold for what an agent does for a key. For a key of the installation's own there are none.
    pub async fn budgets_in_force(
        &self,
        project: &ProjectId,
        agent: Option<&AgentId>,
        key: Option<&ApiKeyId>,
    ) -> Result<Vec<Budget>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- budgets_in_force
             {BUDGET}
             where b.project_id = $1
               and (
                   b.subject = 'project'
                   or b.subject = 'agent' and b.subject_id = $2
                   or b.subject = 'key' and b.subject_id = $3
               )
               and not exists (select 1 from api_keys where id = $3 and kind = 'internal')"
        )))
        .bind(project.as_str())
        .bind(agent.map(AgentId::as_str))
        .bind(key.map(ApiKeyId::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// The same for what is done in a thread of the project.
    pub async fn budgets_in_thread(
        &self,
        project: &ProjectId,
        thread: &ThreadId,
        key: Option<&ApiKeyId>,
    ) -> Result<Vec<Budget>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- budgets_in_thread
             {BUDGET}
             where b.project_id = $1
               and (
                   b.subject = 'project'
                   or b.subject = 'agent' and b.subject_id = (
                       select agent_id from threads where project_id = $1 and id = $2
                   )
                   or b.subject = 'key' and b.subject_id = $3
               )
               and not exists (select 1 from api_keys where id = $3 and kind = 'internal')"
        )))
        .bind(project.as_str())
        .bind(thread.as_str())
        .bind(key.map(ApiKeyId::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Lists all budgets of a project: its own first.
    pub async fn list_budgets(&self, project: &ProjectId) -> Result<Vec<Budget>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_budgets
             {BUDGET} where b.project_id = $1 order by b.subject = 'project' desc, b.subject, b.subject_id, b.period"
        )))
        .bind(project.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Sets budgets, all or nothing. They hold from the next model call on.
    ///
    /// # Errors
    /// `NotFound` for a key or an agent that is not the project's.
    pub async fn set_budgets(&self, project: &ProjectId, caps: &[Cap]) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        for cap in caps {
            check_subject(&mut tx, project, cap).await?;
            let project = project.as_str();
            let (subject, id, period) = (cap.subject.as_str(), &cap.subject_id, cap.period.as_str());
            match cap.limit {
                Some(limit) => {
                    sqlx::query(
                        "-- set_budgets
                         insert into budgets (project_id, subject, subject_id, period, limit_micro_usd)
                         values ($1, $2, $3, $4, $5)
                         on conflict (project_id, subject, subject_id, period) do update
                         set limit_micro_usd = excluded.limit_micro_usd, updated_at = now()",
                    )
                    .bind(project)
                    .bind(subject)
                    .bind(id)
                    .bind(period)
                    .bind(limit.0)
                    .execute(&mut *tx)
                    .await?
                }
                None => {
                    sqlx::query(
                        "-- set_budgets: none
                         delete from budgets
                         where project_id = $1 and subject = $2 and subject_id = $3 and period = $4",
                    )
                    .bind(project)
                    .bind(subject)
                    .bind(id)
                    .bind(period)
                    .execute(&mut *tx)
                    .await?
                }
            };
        }
        Ok(tx.commit().await?)
    }

    /// Adds money to what a project may spend in all.
    pub async fn add_top_up(
        &self,
        project: &ProjectId,
        amount: MicroUsd,
        description: Option<&str>,
        key: &ApiKeyId,
    ) -> Result<TopUp> {
        let row = sqlx::query(
            "-- add_top_up
             insert into top_ups (id, project_id, amount_micro_usd, description, key_id)
             values ('rec_' || replace(gen_random_uuid()::text, '-', ''), $1, $2, $3, $4)
             returning *",
        )
        .bind(project.as_str())
        .bind(amount.0)
        .bind(description)
        .bind(key.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(TopUp {
            id: row.try_get("id")?,
            amount: MicroUsd(row.try_get("amount_micro_usd")?),
            description: row.try_get("description")?,
            created_at: row.try_get("created_at")?,
        })
    }

    /// Sums up what a project has spent, and what was added to its budget.
    pub async fn spent_sums(&self, project: &ProjectId) -> Result<SpentSums> {
        let row = sqlx::query(
            "-- spent_sums
             select coalesce(sum(cost_micro_usd) filter (where day = (now() at time zone 'utc')::date), 0)::bigint as today,
                 coalesce(sum(cost_micro_usd) filter (
                     where day >= date_trunc('month', now() at time zone 'utc')::date
                 ), 0)::bigint as this_month,
                 coalesce(sum(cost_micro_usd), 0)::bigint as ever,
                 (select coalesce(sum(amount_micro_usd), 0)::bigint from top_ups where project_id = $1) as added
             from spending
             where project_id = $1 and subject = 'project'",
        )
        .bind(project.as_str())
        .fetch_one(&self.pool)
        .await?;
        let sum = |column: &str| Ok::<_, Error>(MicroUsd(row.try_get(column)?));
        Ok(SpentSums { today: sum("today")?, this_month: sum("this_month")?, ever: sum("ever")?, added: sum("added")? })
    }
}

async fn check_subject(tx: &mut PgConnection, project: &ProjectId, cap: &Cap) -> Result<()> {
    let (kind, found) = match cap.subject {
        Subject::Project => return Ok(()),
        Subject::Key => ("API key", "select 1 from api_keys where project_id = $1 and id = $2 and deleted_at is null"),
        Subject::Agent => ("Agent", "select 1 from agents where project_id = $1 and id = $2 and deleted_at is null"),
    };
    let row = sqlx::query(found).bind(project.as_str()).bind(&cap.subject_id).fetch_optional(tx).await?;
    row.map(|_| ()).ok_or_else(|| Error::not_found(kind, &cap.subject_id))
}

fn read(row: &PgRow) -> Result<Budget> {
    Ok(Budget {
        subject: row.parse::<Subject>("subject")?,
        subject_id: row.try_get("subject_id")?,
        period: row.parse::<Period>("period")?,
        limit: MicroUsd(row.try_get("limit_micro_usd")?),
        spent: MicroUsd(row.try_get("spent_micro_usd")?),
    })
}
