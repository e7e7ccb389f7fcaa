//! Costs as clients see them. Money is in US dollars; `…CT` are whole micro-dollars, which add up exactly.

use chrono::NaiveDate;
use domain::thread::Thread;
use serde::Serialize;
use store::{
    Page, Paged,
    costs::{DaySums, Group, Share, Sums},
};
use utoipa::ToSchema;

use super::range::About;
use crate::{list::List, threads::ThreadView, timestamp::Timestamp};

/// What was spent in a time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CostTotals {
    /// US dollars.
    total_cost: f64,
    /// The same: what models and their tools took.
    agent_cost: f64,
    environment_cost: f64,
    /// Threads on which something was spent.
    total_threads: i64,
    total_runs: i64,
    /// Model calls.
    total_calls: i64,
    /// Micro-dollars.
    #[serde(rename = "totalCT")]
    total_ct: i64,
    #[serde(rename = "agentCT")]
    agent_ct: i64,
    #[serde(rename = "environmentCT")]
    environment_ct: i64,
    #[serde(rename = "mcpCT")]
    mcp_ct: i64,
    /// Tokens of prompts, cached or not.
    input_tokens: i64,
    output_tokens: i64,
    cache_tokens: i64,
    total_tokens: i64,
}

impl From<Sums> for CostTotals {
    fn from(sums: Sums) -> Self {
        let spent = sums.spent;
        Self {
            total_cost: spent.cost.as_usd(),
            agent_cost: spent.cost.as_usd(),
            environment_cost: 0.0,
            total_threads: sums.threads,
            total_runs: sums.runs,
            total_calls: sums.calls,
            total_ct: spent.cost.0,
            agent_ct: spent.cost.0,
            environment_ct: 0,
            mcp_ct: 0,
            input_tokens: spent.prompt_tokens(),
            output_tokens: spent.output_tokens,
            cache_tokens: spent.cache_read_tokens + spent.cache_write_tokens,
            total_tokens: spent.total_tokens(),
        }
    }
}

/// A day (UTC) with what was spent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CostDay {
    #[schema(value_type = String, example = "2026-01-15")]
    date: NaiveDate,
    #[serde(flatten)]
    totals: CostTotals,
}

impl From<DaySums> for CostDay {
    fn from(day: DaySums) -> Self {
        Self { date: day.day, totals: day.sums.into() }
    }
}

/// What was spent, in all and by the day.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CostSummary {
    project_id: String,
    #[schema(example = "month")]
    period: &'static str,
    /// Null: from the beginning.
    start_date: Option<Timestamp>,
    end_date: Option<Timestamp>,
    totals: CostTotals,
    /// Oldest first. Days on which nothing was spent are left out.
    by_day: Vec<CostDay>,
}

impl CostSummary {
    pub(super) fn new(about: About, sums: Sums, days: Vec<DaySums>) -> Self {
        Self {
            project_id: about.project.into(),
            period: about.period,
            start_date: about.range.from.map(Into::into),
            end_date: about.range.until.map(Into::into),
            totals: sums.into(),
            by_day: days.into_iter().map(Into::into).collect(),
        }
    }
}

/// One of a group with what was spent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CostShare {
    /// Null: work without any.
    id: Option<String>,
    name: Option<String>,
    thread_count: i64,
    #[serde(flatten)]
    totals: CostTotals,
}

impl From<Share> for CostShare {
    fn from(share: Share) -> Self {
        Self { id: share.id, name: share.name, thread_count: share.sums.threads, totals: share.sums.into() }
    }
}

/// What was spent, by what. What was not asked for is empty.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Breakdown {
    group_by: Option<String>,
    #[schema(example = "month")]
    period: &'static str,
    agents: Vec<CostShare>,
    environments: Vec<CostShare>,
    models: Vec<CostShare>,
    keys: Vec<CostShare>,
    users: Vec<CostShare>,
    sources: Vec<CostShare>,
}

impl Breakdown {
    pub(super) fn new(group_by: Option<String>, period: &'static str, groups: Vec<(Group, Vec<Share>)>) -> Self {
        let mut breakdown = Self { group_by, period, ..Self::default() };
        for (group, shares) in groups {
            let place = match group {
                Group::Agent => &mut breakdown.agents,
                Group::Environment => &mut breakdown.environments,
                Group::Model => &mut breakdown.models,
                Group::Key => &mut breakdown.keys,
                Group::User => &mut breakdown.users,
                Group::Kind => &mut breakdown.sources,
            };
            *place = shares.into_iter().map(Into::into).collect();
        }
        breakdown
    }
}

/// A thread with what was spent on it in the time that was asked about. Its other figures are of all time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadCostView {
    #[serde(flatten)]
    thread: ThreadView,
    /// US dollars.
    cost_in_range: f64,
    calls_in_range: i64,
}

/// What all threads together cost.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadCostStats {
    #[serde(rename = "totalCT")]
    total_ct: i64,
    #[serde(rename = "agentCT")]
    agent_ct: i64,
    #[serde(rename = "environmentCT")]
    environment_ct: i64,
    total_threads: i64,
}

/// Threads with what was spent on them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ThreadCostList {
    #[serde(flatten)]
    list: List<ThreadCostView>,
    stats: ThreadCostStats,
}

impl ThreadCostList {
    pub(super) fn new(threads: Paged<(Thread, Sums)>, page: Page, all: Sums) -> Self {
        let list = List::new(threads, page, |(thread, sums)| ThreadCostView {
            thread: thread.into(),
            cost_in_range: sums.spent.cost.as_usd(),
            calls_in_range: sums.calls,
        });
        let cost = all.spent.cost.0;
        let stats =
            ThreadCostStats { total_ct: cost, agent_ct: cost, environment_ct: 0, total_threads: list.total_count };
        Self { list, stats }
    }
}

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenCounts {
    /// Tokens of prompts that no cache served.
    input_tokens: i64,
    output_tokens: i64,
    /// Tokens of prompts that a cache served or took in.
    cache_tokens: i64,
    total_tokens: i64,
}

impl From<Sums> for TokenCounts {
    fn from(sums: Sums) -> Self {
        let spent = sums.spent;
        Self {
            input_tokens: spent.input_tokens,
            output_tokens: spent.output_tokens,
            cache_tokens: spent.cache_read_tokens + spent.cache_write_tokens,
            total_tokens: spent.total_tokens(),
        }
    }
}

/// A day (UTC) of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenDay {
    #[schema(value_type = String, example = "2026-01-15")]
    date: NaiveDate,
    #[serde(flatten)]
    counts: TokenCounts,
}

/// Tokens by the day and in all.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenPerformance {
    #[schema(example = "month")]
    period: &'static str,
    by_day: Vec<TokenDay>,
    totals: TokenCounts,
}

impl TokenPerformance {
    pub(super) fn new(period: &'static str, sums: Sums, days: Vec<DaySums>) -> Self {
        let by_day = days.into_iter().map(|day| TokenDay { date: day.day, counts: day.sums.into() }).collect();
        Self { period, by_day, totals: sums.into() }
    }
}
