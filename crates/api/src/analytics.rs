//! `…/analytics`: what was done in an environment or by an agent in the last 24 hours, and in a project in longer times.

use axum::{Json, extract::State};
use domain::{AgentId, EnvironmentId};
use serde::{Deserialize, Serialize};
use store::analytics::{Analytics, Counted, CountedOne, Each, Period, RecentRun, Subject};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result, auth::Caller, environments, path::Path, query::Query, runs::status_word, timestamp::Timestamp,
};

const RECENT_RUNS: i64 = 20;

/// How many environments or agents an overview lists.
const MOST_LISTED: i64 = 100;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(environments_overview))
        .routes(routes!(environment_analytics))
        .routes(routes!(agents_overview))
        .routes(routes!(agent_analytics))
}

/// What was done in the last 24 hours.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Analytics)]
struct AnalyticsView {
    /// Of which environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_id: Option<String>,
    /// Of which agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    /// Whether anything was ever done.
    available: bool,
    summary: AnalyticsSummary,
    charts: AnalyticsCharts,
    /// The newest runs, of earlier days too.
    recent_runs: Vec<RecentRunView>,
}

/// The last 24 hours of the clock, the one under way among them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AnalyticsSummary {
    #[serde(rename = "totalRuns24h")]
    total_runs: i64,
    /// Completed ones among those that are over, from 0 to 1; `null` if none is.
    #[serde(rename = "successRate24h")]
    success_rate: Option<f64>,
    #[serde(rename = "failedRuns24h")]
    failed_runs: i64,
    #[serde(rename = "cancelledRuns24h")]
    cancelled_runs: i64,
    p50_runtime_ms: Option<i64>,
    p95_runtime_ms: Option<i64>,
    avg_runtime_ms: Option<i64>,
    #[serde(rename = "totalRuntimeMinutes24h")]
    total_runtime_minutes: f64,
    /// Of all time.
    last_run_at: Option<Timestamp>,
}

/// The same by the hour, oldest first, 24 of them.
#[derive(Serialize, ToSchema)]
struct AnalyticsCharts {
    #[serde(rename = "activity24h")]
    activity: Vec<AnalyticsBucket>,
    /// The same as `activity24h`.
    #[serde(rename = "status24h")]
    status: Vec<AnalyticsBucket>,
}

/// The runs that were asked for in one hour.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AnalyticsBucket {
    bucket_start: Timestamp,
    #[schema(example = "14:00")]
    label: String,
    total: i64,
    completed: i64,
    failed: i64,
    cancelled: i64,
    success_rate: Option<f64>,
    p95_runtime_ms: Option<i64>,
    /// The same as `total`.
    request_count: i64,
    /// The same as `completed`.
    success_count: i64,
    /// The same as `failed`.
    failure_count: i64,
}

/// What was done in a project.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AnalyticsOverview {
    #[schema(example = "7d")]
    period: PeriodName,
    /// The beginning of the period.
    start: Timestamp,
    summary: OverviewSummary,
    /// By the hour for `24h`, else by the day of UTC; oldest first.
    activity: Vec<AnalyticsBucket>,
    /// Those with most runs first, 100 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    environments: Option<Vec<OverviewItem>>,
    /// Those with most runs first, 100 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<Vec<OverviewItem>>,
    /// The newest runs, of earlier times too.
    recent_runs: Vec<RecentRunView>,
}

/// The runs that were asked for in a period.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OverviewSummary {
    total_runs: i64,
    completed_runs: i64,
    failed_runs: i64,
    cancelled_runs: i64,
    /// Completed ones among those that are over, from 0 to 1; `null` if none is.
    success_rate: Option<f64>,
    p50_runtime_ms: Option<i64>,
    p95_runtime_ms: Option<i64>,
    avg_runtime_ms: Option<i64>,
    total_runtime_minutes: f64,
}

/// An environment or an agent in an overview.
#[derive(Serialize, ToSchema)]
struct OverviewItem {
    id: String,
    name: String,
    #[serde(flatten)]
    summary: OverviewSummary,
}

/// How long back: `24h`, `7d` or `30d`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
enum PeriodName {
    #[default]
    #[serde(rename = "24h", alias = "day", alias = "1d")]
    Day,
    #[serde(rename = "7d", alias = "week")]
    Week,
    #[serde(rename = "30d", alias = "month")]
    Month,
}

impl From<PeriodName> for Period {
    fn from(name: PeriodName) -> Self {
        match name {
            PeriodName::Day => Self::Day,
            PeriodName::Week => Self::Week,
            PeriodName::Month => Self::Month,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OverviewQuery {
    /// `24h` (which it is if absent), `7d` or `30d`.
    #[serde(default)]
    #[param(inline)]
    period: PeriodName,
}

/// A run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecentRun)]
struct RecentRunView {
    id: String,
    /// Its thread's title; empty if it has none.
    title: String,
    /// `queued`, `running`, `paused`, `completed`, `failed` or `cancelled`.
    status: &'static str,
    timestamp_ms: i64,
    /// When it was asked for.
    timestamp: Timestamp,
    duration_ms: Option<i64>,
}

/// Get what was done in an environment
///
/// Runs of the last 24 hours, counted by the hour in which they were asked for.
#[utoipa::path(get, path = "/environments/{id}/analytics", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "What was done", body = AnalyticsView)))]
async fn environment_analytics(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<AnalyticsView>> {
    environments::find(&api, &caller, &id).await?;
    let day = api.store.analytics(&caller.project, Subject::Environment(&id), Period::Day, RECENT_RUNS).await?;
    Ok(Json(AnalyticsView { environment_id: Some(id.into()), ..AnalyticsView::new(day) }))
}

/// Get what an agent did
///
/// Runs of the last 24 hours of threads that have this agent, counted by the hour in which they were asked for.
#[utoipa::path(get, path = "/agents/{id}/analytics", tag = "agents",
    params(("id" = String, Path, description = "The agent's id")),
    responses((status = 200, description = "What was done", body = AnalyticsView)))]
async fn agent_analytics(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
) -> Result<Json<AnalyticsView>> {
    let agent = api.store.find_agent(&caller.project, &id).await?;
    agent.ok_or_else(|| Error::not_found("Agent", id.as_str()))?;
    let day = api.store.analytics(&caller.project, Subject::Agent(&id), Period::Day, RECENT_RUNS).await?;
    Ok(Json(AnalyticsView { agent_id: Some(id.into()), ..AnalyticsView::new(day) }))
}

/// Get what was done in all environments
///
/// Runs of a period, together and for each environment.
#[utoipa::path(get, path = "/environments/analytics/overview", tag = "environments", params(OverviewQuery),
    responses((status = 200, description = "What was done", body = AnalyticsOverview)))]
async fn environments_overview(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<OverviewQuery>,
) -> Result<Json<AnalyticsOverview>> {
    let (overview, each) = overview(&api, &caller, query.period, Each::Environment).await?;
    Ok(Json(AnalyticsOverview { environments: Some(each), ..overview }))
}

/// Get what all agents did
///
/// Runs of a period, together and for each agent.
#[utoipa::path(get, path = "/agents/analytics/overview", tag = "agents", params(OverviewQuery),
    responses((status = 200, description = "What was done", body = AnalyticsOverview)))]
async fn agents_overview(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<OverviewQuery>,
) -> Result<Json<AnalyticsOverview>> {
    let (overview, each) = overview(&api, &caller, query.period, Each::Agent).await?;
    Ok(Json(AnalyticsOverview { agents: Some(each), ..overview }))
}

async fn overview(
    api: &Api,
    caller: &Caller,
    period: PeriodName,
    each: Each,
) -> Result<(AnalyticsOverview, Vec<OverviewItem>)> {
    let all = api.store.analytics(&caller.project, Subject::Project, period.into(), RECENT_RUNS).await?;
    let each = api.store.analytics_of_each(&caller.project, each, period.into(), MOST_LISTED).await?;
    let overview = AnalyticsOverview {
        period,
        start: all.whole.from.into(),
        summary: OverviewSummary::new(&all.whole),
        activity: all.parts.iter().map(bucket).collect(),
        environments: None,
        agents: None,
        recent_runs: all.recent.into_iter().map(recent_run).collect(),
    };
    Ok((overview, each.into_iter().map(item).collect()))
}

impl AnalyticsView {
    fn new(day: Analytics) -> Self {
        let hours: Vec<AnalyticsBucket> = day.parts.iter().map(bucket).collect();
        let whole = &day.whole;
        Self {
            environment_id: None,
            agent_id: None,
            available: day.last_run_at.is_some(),
            summary: AnalyticsSummary {
                total_runs: whole.total,
                success_rate: success_rate(whole),
                failed_runs: whole.failed,
                cancelled_runs: whole.cancelled,
                p50_runtime_ms: whole.p50_ms,
                p95_runtime_ms: whole.p95_ms,
                avg_runtime_ms: whole.average_ms,
                total_runtime_minutes: minutes(whole),
                last_run_at: day.last_run_at.map(Into::into),
            },
            charts: AnalyticsCharts { activity: hours.clone(), status: hours },
            recent_runs: day.recent.into_iter().map(recent_run).collect(),
        }
    }
}

impl OverviewSummary {
    fn new(counted: &Counted) -> Self {
        Self {
            total_runs: counted.total,
            completed_runs: counted.completed,
            failed_runs: counted.failed,
            cancelled_runs: counted.cancelled,
            success_rate: success_rate(counted),
            p50_runtime_ms: counted.p50_ms,
            p95_runtime_ms: counted.p95_ms,
            avg_runtime_ms: counted.average_ms,
            total_runtime_minutes: minutes(counted),
        }
    }
}

fn item(one: CountedOne) -> OverviewItem {
    OverviewItem { summary: OverviewSummary::new(&one.counted), id: one.id, name: one.name }
}

fn minutes(counted: &Counted) -> f64 {
    counted.sum_ms as f64 / 60_000.0
}

fn bucket(hour: &Counted) -> AnalyticsBucket {
    AnalyticsBucket {
        bucket_start: hour.from.into(),
        label: hour.from.format("%H:%M").to_string(),
        total: hour.total,
        completed: hour.completed,
        failed: hour.failed,
        cancelled: hour.cancelled,
        success_rate: success_rate(hour),
        p95_runtime_ms: hour.p95_ms,
        request_count: hour.total,
        success_count: hour.completed,
        failure_count: hour.failed,
    }
}

fn success_rate(counted: &Counted) -> Option<f64> {
    let over = counted.completed + counted.failed + counted.cancelled;
    (over > 0).then(|| counted.completed as f64 / over as f64)
}

fn recent_run(run: RecentRun) -> RecentRunView {
    RecentRunView {
        id: run.id.into(),
        title: run.title.unwrap_or_default(),
        status: status_word(run.status),
        timestamp_ms: run.queued_at.timestamp_millis(),
        timestamp: run.queued_at.into(),
        duration_ms: run.duration_ms,
    }
}
