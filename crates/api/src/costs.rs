//! `/costs`: what was spent, on what, and when.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use store::costs::{Group, Share, ThreadCosts, ThreadOrder};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    query::{self, Query},
};

mod csv;
mod range;
mod view;

pub(crate) use range::{RangeQuery, moment};
use view::{Breakdown, CostSummary, ThreadCostList, TokenPerformance};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(summarize_costs))
        .routes(routes!(break_costs_down))
        .routes(routes!(list_thread_costs))
        .routes(routes!(show_token_performance))
        .routes(routes!(export_costs))
}

/// Sum up what was spent
///
/// All figures are sums over model calls, each of which is one charge, so they agree with the runs' events to the
/// micro-dollar. Environments cost nothing: they are on your machine.
#[utoipa::path(get, path = "/costs/summary", tag = "costs", params(RangeQuery),
    responses((status = 200, description = "The sums", body = CostSummary)))]
async fn summarize_costs(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<RangeQuery>,
) -> Result<Json<CostSummary>> {
    let about = query.resolve(&api, &caller).await?;
    let sums = api.store.sum_costs(&about.project, about.range).await?;
    let days = api.store.costs_by_day(&about.project, about.range).await?;
    Ok(Json(CostSummary::new(about, sums, days)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct BreakdownQuery {
    /// `agent`, `environment`, `model`, `key`, `user` or `source`; all of them if absent.
    group_by: Option<String>,
}

/// Break costs down
///
/// By agent, environment, model, API key, whose key it was, and by what the calls were for (`source`: `reply`, `compaction`, `side_question`,
/// `title`, `tool`).
#[utoipa::path(get, path = "/costs/breakdown", tag = "costs", params(BreakdownQuery, RangeQuery),
    responses((status = 200, description = "The shares, the dearest first", body = Breakdown)))]
async fn break_costs_down(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<BreakdownQuery>,
    Query(range): Query<RangeQuery>,
) -> Result<Json<Breakdown>> {
    let only = query.group_by.as_deref().filter(|group| !group.is_empty()).map(group).transpose()?;
    let about = range.resolve(&api, &caller).await?;
    let mut shares: Vec<(Group, Vec<Share>)> = Vec::new();
    for (_, group) in GROUPS.iter().filter(|(_, group)| only.is_none_or(|only| only == *group)) {
        shares.push((*group, api.store.costs_by(&about.project, *group, about.range).await?));
    }
    Ok(Json(Breakdown::new(query.group_by, about.period, shares)))
}

const GROUPS: [(&str, Group); 6] = [
    ("agent", Group::Agent),
    ("environment", Group::Environment),
    ("model", Group::Model),
    ("key", Group::Key),
    ("user", Group::User),
    ("source", Group::Kind),
];

fn group(word: &str) -> Result<Group> {
    let found = GROUPS.iter().find(|(known, _)| *known == word).map(|(_, group)| *group);
    found.ok_or_else(|| Error::invalid_field("groupBy", "must be agent, environment, model, key, user or source"))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ThreadsQuery {
    /// `totalCost` (if absent), `agentCost`, `environmentCost`, `createdAt` or `duration`.
    sort_by: Option<String>,
    /// `asc` or `desc` (if absent).
    order: Option<String>,
    agent_id: Option<String>,
    environment_id: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List what threads cost
///
/// Those on which something was spent in the time that is asked about.
#[utoipa::path(get, path = "/costs/threads", tag = "costs", params(ThreadsQuery, RangeQuery),
    responses((status = 200, description = "A part of the list", body = ThreadCostList)))]
async fn list_thread_costs(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ThreadsQuery>,
    Query(range): Query<RangeQuery>,
) -> Result<Json<ThreadCostList>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let order = match query.sort_by.as_deref() {
        // Environments cost nothing, so by their cost all are equal.
        None | Some("" | "totalCost" | "agentCost" | "environmentCost") => ThreadOrder::Cost,
        Some("createdAt") => ThreadOrder::CreatedAt,
        Some("duration") => ThreadOrder::Duration,
        Some(_) => {
            let message = "must be totalCost, agentCost, environmentCost, createdAt or duration";
            return Err(Error::invalid_field("sortBy", message));
        }
    };
    let is_ascending = match query.order.as_deref() {
        None | Some("" | "desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Error::invalid_field("order", "must be asc or desc")),
    };
    let about = range.resolve(&api, &caller).await?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let asked = ThreadCosts {
        range: about.range,
        agent_id: given(query.agent_id),
        environment_id: given(query.environment_id),
        order,
        is_ascending,
    };
    let threads = api.store.costs_of_threads(&about.project, &asked, page).await?;
    let all = api.store.sum_costs(&about.project, about.range).await?;
    Ok(Json(ThreadCostList::new(threads, page, all)))
}

/// Show which tokens were used
#[utoipa::path(get, path = "/costs/performance/tokens", tag = "costs", params(RangeQuery),
    responses((status = 200, description = "Tokens by day", body = TokenPerformance)))]
async fn show_token_performance(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<RangeQuery>,
) -> Result<Json<TokenPerformance>> {
    let about = query.resolve(&api, &caller).await?;
    let sums = api.store.sum_costs(&about.project, about.range).await?;
    let days = api.store.costs_by_day(&about.project, about.range).await?;
    Ok(Json(TokenPerformance::new(about.period, sums, days)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ExportQuery {
    /// `day` (if absent), `agent`, `environment`, `model`, `key`, `user`, `source` or `thread`.
    group_by: Option<String>,
}

/// The most threads that one export has.
const MAX_THREADS: i64 = 100_000;

/// Export costs as CSV
///
/// A line each for what is asked for, with tokens and US dollars to the micro-dollar. At most 100,000 threads.
#[utoipa::path(get, path = "/costs/export", tag = "costs", params(ExportQuery, RangeQuery),
    responses((status = 200, description = "The lines", content_type = "text/csv", body = String)))]
async fn export_costs(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
    Query(range): Query<RangeQuery>,
) -> Result<Response> {
    let about = range.resolve(&api, &caller).await?;
    let mut table = match query.group_by.as_deref() {
        None | Some("" | "day") => {
            let mut table = csv::Table::new(&["date"]);
            for day in api.store.costs_by_day(&about.project, about.range).await? {
                table.add(&[&day.day.to_string()], &day.sums);
            }
            table
        }
        Some("thread") => {
            let mut table = csv::Table::new(&["id", "title"]);
            let asked = ThreadCosts { range: about.range, ..ThreadCosts::default() };
            let page = store::Page { limit: MAX_THREADS, offset: 0 };
            for (thread, sums) in api.store.costs_of_threads(&about.project, &asked, page).await?.items {
                table.add(&[thread.id.as_str(), thread.title.as_deref().unwrap_or_default()], &sums);
            }
            table
        }
        Some(word) => {
            let mut table = csv::Table::new(&["id", "name"]);
            for share in api.store.costs_by(&about.project, group(word)?, about.range).await? {
                let (id, name) = (share.id.unwrap_or_default(), share.name.unwrap_or_default());
                table.add(&[&id, &name], &share.sums);
            }
            table
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"costs.csv\""),
    ];
    Ok((headers, table.take()).into_response())
}
