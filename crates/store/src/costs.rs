//! What was spent, by day, agent, environment, model, key, user, thread and kind: sums over the charges.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{MicroUsd, ProjectId, ThreadId, run::Spent, thread::Thread};
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Paged, Result, Store, row::ReadColumn, threads};

/// A time, as reports have it: from the first moment on and before the last; `None` has no end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    pub from: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// Sums over charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    pub spent: Spent,
    pub calls: i64,
    pub threads: i64,
    pub runs: i64,
}

/// A day (UTC) with what was spent.
#[derive(Debug, Clone, Copy)]
pub struct DaySums {
    pub day: NaiveDate,
    pub sums: Sums,
}

/// What charges are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Agent,
    Environment,
    Model,
    Key,
    /// Whose key it was.
    User,
    /// Replies of runs, summaries, side questions, titles.
    Kind,
}

/// One of a group with what was spent.
#[derive(Debug, Clone)]
pub struct Share {
    /// `None` for what belongs to none, as work without an agent.
    pub id: Option<String>,
    pub name: Option<String>,
    pub sums: Sums,
}

/// Which threads are asked for, and in what order.
#[derive(Debug, Clone, Default)]
pub struct ThreadCosts {
    pub range: Range,
    pub agent_id: Option<String>,
    pub environment_id: Option<String>,
    pub order: ThreadOrder,
    pub is_ascending: bool,
}

/// What threads are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadOrder {
    #[default]
    Cost,
    CreatedAt,
    Duration,
}

/// A line of what was paid and added.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: String,
    /// Money that was added, rather than spent.
    pub is_top_up: bool,
    pub thread_id: Option<ThreadId>,
    pub run_id: Option<String>,
    pub kind: String,
    pub amount: MicroUsd,
    pub description: Option<String>,
    pub at: DateTime<Utc>,
}

const SUMS: &str = "coalesce(sum(c.input_tokens), 0)::bigint as input_tokens,
    coalesce(sum(c.output_tokens), 0)::bigint as output_tokens,
    coalesce(sum(c.cache_read_tokens), 0)::bigint as cache_read_tokens,
    coalesce(sum(c.cache_write_tokens), 0)::bigint as cache_write_tokens,
    coalesce(sum(c.cost_micro_usd), 0)::bigint as cost_micro_usd,
    count(c.model) as calls,
    count(distinct c.thread_id) as threads,
    count(distinct c.run_id) as runs";

const WITHIN: &str = "c.project_id = $1
    and ($2::timestamptz is null or c.at >= $2)
    and ($3::timestamptz is null or c.at < $3)";

/// Charges by what they are for, with what was added to the budget: one record a run, one a call beside runs.
const RECORDS: &str = "(
        select 'rec_' || coalesce(c.run_id, 'charge' || c.id::text) as id, false as is_top_up, c.thread_id, c.run_id,
            min(c.kind) as kind, sum(c.cost_micro_usd)::bigint as amount, null::text as description, max(c.at) as at
        from charges c
        where c.project_id = $1
        group by 1, c.thread_id, c.run_id
        union all
        select id, true, null, null, 'credit', amount_micro_usd, description, created_at
        from top_ups
        where project_id = $1
    ) r
    where ($2::timestamptz is null or r.at >= $2)
      and ($3::timestamptz is null or r.at < $3)
      and ($4::boolean is null or r.is_top_up = $4)";

impl Store {
    /// Sums up what a project spent.
    pub async fn sum_costs(&self, project: &ProjectId, range: Range) -> Result<Sums> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- sum_costs
             select {SUMS} from charges c where {WITHIN}"
        )))
        .bind(project.as_str())
        .bind(range.from)
        .bind(range.until)
        .fetch_one(&self.pool)
        .await?;
        sums(&row)
    }

    /// Sums up what a project spent day by day, oldest first. Days on which nothing was spent are left out.
    pub async fn costs_by_day(&self, project: &ProjectId, range: Range) -> Result<Vec<DaySums>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- costs_by_day
             select (c.at at time zone 'utc')::date as day, {SUMS} from charges c where {WITHIN} group by 1 order by 1"
        )))
        .bind(project.as_str())
        .bind(range.from)
        .bind(range.until)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(DaySums { day: row.try_get("day")?, sums: sums(row)? })).collect()
    }

    /// Sums up what a project spent by a group, the dearest first.
    pub async fn costs_by(&self, project: &ProjectId, group: Group, range: Range) -> Result<Vec<Share>> {
        let (id, name, join) = match group {
            Group::Agent => {
                ("c.agent_id", "a.name", "left join agents a on a.project_id = c.project_id and a.id = c.agent_id")
            }
            Group::Environment => ("c.environment_id", "e.name", "left join environments e on e.id = c.environment_id"),
            Group::Key => ("c.key_id", "k.name", "left join api_keys k on k.id = c.key_id"),
            Group::User => (
                "k.user_id",
                "u.name",
                "left join api_keys k on k.id = c.key_id
                 left join projects p on p.id = c.project_id
                 left join users u on u.organization_id = p.organization_id and u.id = k.user_id",
            ),
            Group::Model => ("c.model", "coalesce(c.model, 'tools')", ""),
            Group::Kind => ("c.kind", "c.kind", ""),
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- costs_by
             select {id} as id, {name} as name, {SUMS}
             from charges c {join}
             where {WITHIN}
             group by 1, 2
             order by cost_micro_usd desc, 1"
        )))
        .bind(project.as_str())
        .bind(range.from)
        .bind(range.until)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &PgRow| Ok(Share { id: row.try_get("id")?, name: row.try_get("name")?, sums: sums(row)? });
        rows.iter().map(read).collect()
    }

    /// Lists the threads on which something was spent in a time, with how much that was. Deleted ones are left out.
    pub async fn costs_of_threads(
        &self,
        project: &ProjectId,
        asked: &ThreadCosts,
        page: Page,
    ) -> Result<Paged<(Thread, Sums)>> {
        let by = match asked.order {
            ThreadOrder::Cost => "cost_of_range",
            ThreadOrder::CreatedAt => "t.created_at",
            ThreadOrder::Duration => "coalesce(t.completed_at, now()) - t.started_at",
        };
        let direction = if asked.is_ascending { "asc" } else { "desc" };
        let charged = format!(
            "from (select c.thread_id, {SUMS} from charges c where {WITHIN} group by c.thread_id) s
             join threads t on t.id = s.thread_id
             {joins}
             where t.deleted_at is null
               and ($4::text is null or t.agent_id = $4)
               and ($5::text is null or t.environment_id = $5)",
            joins = threads::JOINS
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- costs_of_threads
             select {columns}, s.input_tokens as s_input, s.output_tokens as s_output, s.cache_read_tokens as s_read,
                 s.cache_write_tokens as s_write, s.cost_micro_usd as cost_of_range, s.calls, s.threads, s.runs
             {charged}
             order by {by} {direction}, t.id
             limit $6 offset $7",
            columns = threads::COLUMNS
        )))
        .bind(project.as_str())
        .bind(asked.range.from)
        .bind(asked.range.until)
        .bind(&asked.agent_id)
        .bind(&asked.environment_id)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- costs_of_threads: total
             select count(*) {charged}"
        )))
        .bind(project.as_str())
        .bind(asked.range.from)
        .bind(asked.range.until)
        .bind(&asked.agent_id)
        .bind(&asked.environment_id)
        .fetch_one(&self.pool)
        .await?;
        let read = |row: &PgRow| {
            let spent = Spent {
                input_tokens: row.try_get("s_input")?,
                output_tokens: row.try_get("s_output")?,
                cache_read_tokens: row.try_get("s_read")?,
                cache_write_tokens: row.try_get("s_write")?,
                cost: MicroUsd(row.try_get("cost_of_range")?),
            };
            let sums = Sums {
                spent,
                calls: row.try_get("calls")?,
                threads: row.try_get("threads")?,
                runs: row.try_get("runs")?,
            };
            Ok((threads::read(row)?, sums))
        };
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Lists what was spent and added, newest first.
    pub async fn list_records(
        &self,
        project: &ProjectId,
        range: Range,
        is_top_up: Option<bool>,
        page: Page,
    ) -> Result<Paged<Record>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "-- list_records
             select r.* from {RECORDS} order by r.at desc, r.id limit $5 offset $6"
        )))
        .bind(project.as_str())
        .bind(range.from)
        .bind(range.until)
        .bind(is_top_up)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "-- list_records: total
             select count(*) from {RECORDS}"
        )))
        .bind(project.as_str())
        .bind(range.from)
        .bind(range.until)
        .bind(is_top_up)
        .fetch_one(&self.pool)
        .await?;
        let read = |row: &PgRow| {
            Ok(Record {
                id: row.try_get("id")?,
                is_top_up: row.try_get("is_top_up")?,
                thread_id: row.parse_optional("thread_id")?,
                run_id: row.try_get("run_id")?,
                kind: row.try_get("kind")?,
                amount: MicroUsd(row.try_get("amount")?),
                description: row.try_get("description")?,
                at: row.try_get("at")?,
            })
        };
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }
}

fn sums(row: &PgRow) -> Result<Sums> {
    Ok(Sums {
        spent: row.spent()?,
        calls: row.try_get("calls")?,
        threads: row.try_get("threads")?,
        runs: row.try_get("runs")?,
    })
}
