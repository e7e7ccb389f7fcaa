//! `/metrics`: JSON for SDKs, which break on anything else; Prometheus text for those who ask for it by name.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use store::metrics::Totals;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::{Api, Result};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const GOOD_FOR: Duration = Duration::from_secs(2);

/// What was counted last.
pub(crate) type Counted = Arc<Mutex<Option<(Instant, Totals)>>>;

/// What all runs together came to; several names for one thing, since clients differ in theirs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    total_executions: i64,
    successful_executions: i64,
    failed_executions: i64,
    cancelled_executions: i64,
    queued_executions: i64,
    /// Milliseconds from start to end of a run.
    average_duration: f64,
    total_tokens_used: i64,
    /// US dollars.
    total_cost: f64,
    /// Runs under way.
    active_sessions: i64,
    /// Always empty: errors belong to their threads and to the log.
    recent_errors: Vec<String>,
    /// Of the runs that completed or failed, for example `97.5%`.
    #[schema(example = "97.5%")]
    success_rate: String,
    total_tasks: i64,
    successful_tasks: i64,
    failed_tasks: i64,
}

/// Get metrics
///
/// JSON, or Prometheus text if `Accept` names `text/plain` or OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, description = "Totals since the first run", content(
        (Metrics = "application/json"), (String = "text/plain")))))]
pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response> {
    let totals = totals(&api).await?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let wants_text = ["text/plain", "application/openmetrics-text"].iter().any(|media| accept.contains(media));
    if wants_text {
        let text = (api.render_metrics)() + &gauges(&totals);
        return Ok(([(header::CONTENT_TYPE, PROMETHEUS)], text).into_response());
    }
    let ended = totals.completed + totals.failed;
    let rate = if ended == 0 { 100.0 } else { totals.completed as f64 * 100.0 / ended as f64 };
    let metrics = Metrics {
        total_executions: totals.runs,
        successful_executions: totals.completed,
        failed_executions: totals.failed,
        cancelled_executions: totals.cancelled,
        queued_executions: totals.queued,
        average_duration: totals.average_duration_ms,
        total_tokens_used: totals.tokens,
        total_cost: totals.cost_usd(),
        active_sessions: totals.running,
        recent_errors: Vec::new(),
        success_rate: format!("{rate:.1}%"),
        total_tasks: totals.runs,
        successful_tasks: totals.completed,
        failed_tasks: totals.failed,
    };
    Ok(Json(metrics).into_response())
}

/// Counting looks at every run; anybody may ask, as often as they like.
async fn totals(api: &Api) -> Result<Totals> {
    // Held while counting: those who come meanwhile take what is found.
    let mut counted = api.counted.lock().await;
    if let Some((at, totals)) = &*counted
        && at.elapsed() < GOOD_FOR
    {
        return Ok(totals.clone());
    }
    let totals = api.store.totals().await?;
    *counted = Some((Instant::now(), totals.clone()));
    Ok(totals)
}

/// What the rows tell, for all servers of the installation together.
fn gauges(totals: &Totals) -> String {
    let mut text = String::from("# TYPE atelier_runs gauge\n");
    let written = totals
        .by_status()
        .iter()
        .try_for_each(|(status, count)| writeln!(text, "atelier_runs{{status=\"{status}\"}} {count}"));
    written.expect("a string takes whatever is written to it");
    text + &format!(
        "# TYPE atelier_tokens_total counter\natelier_tokens_total {}\n\
         # TYPE atelier_cost_usd_total counter\natelier_cost_usd_total {}\n",
        totals.tokens,
        totals.cost_usd()
    )
}
