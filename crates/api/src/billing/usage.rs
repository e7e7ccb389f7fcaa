//! What was used, in the words of older clients.

use axum::{Json, extract::State};
use chrono::{NaiveDate, Utc};
use domain::MicroUsd;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::costs::{Group, Range};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::view::{days_ago, start_of};
use crate::{
    Api, Error, Result,
    auth::Caller,
    budgets::{Standing, UNLIMITED},
    query::Query,
    timestamp::Timestamp,
};

/// The days that a summary is about.
const DAYS: u64 = 30;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(summarize_usage))
        .routes(routes!(list_daily_usage))
        .routes(routes!(get_account))
        .routes(routes!(get_usage_stats))
}

fn last(days: u64) -> Range {
    let first = days_ago(days - 1);
    Range { from: first.map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc()), until: None }
}

/// What was used in the last 30 days.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UsageSummary {
    /// US dollars.
    total_spent: f64,
    period_start: Option<Timestamp>,
    period_end: Timestamp,
    run_count: i64,
    token_count: i64,
}

/// Sum up what was used
///
/// In the last 30 days (UTC), today among them.
#[utoipa::path(get, path = "/billing/summary", tag = "costs",
    responses((status = 200, description = "The sums", body = UsageSummary)))]
async fn summarize_usage(State(api): State<Api>, caller: Caller) -> Result<Json<UsageSummary>> {
    let sums = api.store.sum_costs(&caller.project, last(DAYS)).await?;
    Ok(Json(UsageSummary {
        total_spent: sums.spent.cost.as_usd(),
        period_start: days_ago(DAYS - 1).map(start_of),
        period_end: Timestamp::now(),
        run_count: sums.runs,
        token_count: sums.spent.total_tokens(),
    }))
}

/// A day (UTC) of use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DailyUsageDay)]
struct UsageDay {
    #[schema(value_type = String, example = "2026-01-15")]
    date: NaiveDate,
    /// US dollars.
    cost: f64,
    runs: i64,
    tokens: i64,
}

/// Use by the day.
#[derive(Debug, Serialize, ToSchema)]
struct DailyUsage {
    /// Oldest first. Days on which nothing was spent are left out.
    days: Vec<UsageDay>,
}

/// Show what was used day by day
///
/// In the last 30 days (UTC), today among them.
#[utoipa::path(get, path = "/billing/daily", tag = "costs",
    responses((status = 200, description = "The days", body = DailyUsage)))]
async fn list_daily_usage(State(api): State<Api>, caller: Caller) -> Result<Json<DailyUsage>> {
    let days = api.store.costs_by_day(&caller.project, last(DAYS)).await?;
    let day = |day: store::costs::DaySums| UsageDay {
        date: day.day,
        cost: day.sums.spent.cost.as_usd(),
        runs: day.sums.runs,
        tokens: day.sums.spent.total_tokens(),
    };
    Ok(Json(DailyUsage { days: days.into_iter().map(day).collect() }))
}

/// Who pays, in a manner of speaking.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BillingAccount {
    api_key_id: String,
    /// `standard` or `internal`.
    #[serde(rename = "type")]
    #[schema(example = "standard")]
    kind: &'static str,
    status: &'static str,
    /// US dollars; `null`: any.
    monthly_budget: Option<f64>,
    current_balance: f64,
}

/// `{account}`.
#[derive(Debug, Serialize, ToSchema)]
struct AccountEnvelope {
    account: BillingAccount,
}

/// Show the account
#[utoipa::path(get, path = "/billing/account", tag = "costs",
    responses((status = 200, description = "The account", body = AccountEnvelope)))]
async fn get_account(State(api): State<Api>, caller: Caller) -> Result<Json<AccountEnvelope>> {
    let standing = Standing::find(&api, &caller).await?;
    let monthly_budget = standing.limit(domain::budget::Period::Month).map(MicroUsd::as_usd);
    let account = BillingAccount {
        api_key_id: caller.key.into(),
        kind: caller.kind.as_str(),
        status: "active",
        monthly_budget,
        current_balance: standing.available().unwrap_or(UNLIMITED).as_usd(),
    };
    Ok(Json(AccountEnvelope { account }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// `day`, `week`, `month` (if absent) or `year`, each up to today (UTC).
    period: Option<String>,
    /// `project`, `model` or `agent`.
    breakdown: Option<String>,
}

/// What was used in a period.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UsageStats {
    #[schema(example = "month")]
    period: &'static str,
    start_date: Option<Timestamp>,
    end_date: Timestamp,
    /// US dollars.
    total_cost: f64,
    total_cost_usd: f64,
    total_tokens: i64,
    total_runs: i64,
    /// `{cost, tokens, runs}` by what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    breakdown: Option<Map<String, Value>>,
}

/// `{stats}`.
#[derive(Debug, Serialize, ToSchema)]
struct StatsEnvelope {
    stats: UsageStats,
}

/// Show what was used
#[utoipa::path(get, path = "/billing/stats", tag = "costs", params(StatsQuery),
    responses((status = 200, description = "The sums", body = StatsEnvelope)))]
async fn get_usage_stats(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<StatsQuery>,
) -> Result<Json<StatsEnvelope>> {
    let (period, days) = match query.period.as_deref() {
        Some("day") => ("day", 1),
        Some("week") => ("week", 7),
        None | Some("" | "month") => ("month", DAYS),
        Some("year") => ("year", 365),
        Some(_) => return Err(Error::invalid_field("period", "must be day, week, month or year")),
    };
    let sums = api.store.sum_costs(&caller.project, last(days)).await?;
    let line = |sums: store::costs::Sums| json!({"cost": sums.spent.cost.as_usd(), "tokens": sums.spent.total_tokens(), "runs": sums.runs});
    let shares = async |group| {
        let shares = api.store.costs_by(&caller.project, group, last(days)).await?;
        let named = |share: store::costs::Share| (share.id.unwrap_or_else(|| "none".to_owned()), line(share.sums));
        Ok::<Map<String, Value>, Error>(shares.into_iter().map(named).collect())
    };
    let breakdown = match query.breakdown.as_deref() {
        None | Some("") => None,
        Some("project") => Some(Map::from_iter([(caller.project.to_string(), line(sums))])),
        Some("model") => Some(shares(Group::Model).await?),
        Some("agent") => Some(shares(Group::Agent).await?),
        Some(_) => return Err(Error::invalid_field("breakdown", "must be project, model or agent")),
    };
    let stats = UsageStats {
        period,
        start_date: days_ago(days - 1).map(start_of),
        end_date: Utc::now().into(),
        total_cost: sums.spent.cost.as_usd(),
        total_cost_usd: sums.spent.cost.as_usd(),
        total_tokens: sums.spent.total_tokens(),
        total_runs: sums.runs,
        breakdown,
    };
    Ok(Json(StatsEnvelope { stats }))
}
