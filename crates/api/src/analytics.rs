//! `/environments/{id}/analytics`: what was done in an environment in the last 24 hours.

use axum::{Json, extract::State};
use domain::EnvironmentId;
use serde::Serialize;
use store::analytics::{Counted, RecentRun};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::find;
use crate::{Api, Result, auth::Caller, path::Path, runs::status_word, timestamp::Timestamp};

const RECENT_RUNS: i64 = 20;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(environment_analytics))
}

/// What was done in an environment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EnvironmentAnalytics {
    environment_id: String,
    /// Whether anything was ever done there.
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
    responses((status = 200, description = "What was done", body = EnvironmentAnalytics)))]
async fn environment_analytics(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<EnvironmentAnalytics>> {
    find(&api, &caller, &id).await?;
    let day = api.store.environment_day(&caller.project, &id, RECENT_RUNS).await?;
    let hours: Vec<AnalyticsBucket> = day.hours.iter().map(bucket).collect();
    let whole = &day.whole;
    Ok(Json(EnvironmentAnalytics {
        environment_id: id.into(),
        available: day.last_run_at.is_some(),
        summary: AnalyticsSummary {
            total_runs: whole.total,
            success_rate: success_rate(whole),
            failed_runs: whole.failed,
            cancelled_runs: whole.cancelled,
            p50_runtime_ms: whole.p50_ms,
            p95_runtime_ms: whole.p95_ms,
            avg_runtime_ms: whole.average_ms,
            total_runtime_minutes: whole.sum_ms as f64 / 60_000.0,
            last_run_at: day.last_run_at.map(Into::into),
        },
        charts: AnalyticsCharts { activity: hours.clone(), status: hours },
        recent_runs: day.recent.into_iter().map(recent_run).collect(),
    }))
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
