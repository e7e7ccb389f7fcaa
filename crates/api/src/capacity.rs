//! Whether there is room for another run now, and what a client is told if not.
//!
//! A run is always kept durably and done when a worker is free; the answer's stream simply waits that long. Who sends
//! `queueWhenCapacityUnavailable` does not want to wait on an open stream: that one ends at once and says that the run is
//! put off. Only where far too much waits already is a message refused.

use axum::http::StatusCode;
use domain::{ProjectId, RunId, run::Spent};

use crate::{
    Api, Error, Result,
    wire_event::{Admission, Kind, RunSummary, WireEvent, write_frame},
};

/// Why a run is put off, in the words of the wire.
pub(crate) const REASON: &str = "runtime_capacity_unavailable";

/// When a run will be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Now,
    /// When other runs are done, and the caller does not wait for that.
    Later,
}

/// Looks whether there is room for another run of the project.
///
/// # Errors
/// 503 where too many runs wait already.
pub(crate) async fn check(api: &Api, project: &ProjectId, is_queueing_allowed: bool) -> Result<Room> {
    let settings = &api.settings;
    if !is_queueing_allowed && settings.max_queued == 0 {
        return Ok(Room::Now);
    }
    let load = api.store.load(project).await?;
    if is_queueing_allowed {
        let most = settings.tiers.concurrent_runs(load.tier.as_deref(), settings.concurrent_per_project);
        let is_project_full = most > 0 && load.of_project >= i64::from(most);
        // Any server may do it. Where none has said what it can do, this one alone counts.
        let capacity = load.capacity.max(i64::from(settings.concurrent_runs));
        let is_full = load.running + load.queued >= capacity;
        return Ok(if is_project_full || is_full { Room::Later } else { Room::Now });
    }
    if load.queued >= i64::from(settings.max_queued) {
        let message = "Too many runs wait for their turn on this server. Try again later, or send \
                       queueWhenCapacityUnavailable";
        let error = Error::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("capacity_unavailable");
        return Err(error.with_retry_after(std::time::Duration::from_secs(10)));
    }
    Ok(Room::Now)
}

/// The last frame of a stream whose run is put off.
pub(crate) fn put_off(run: &RunId) -> String {
    let spent = Spent::default();
    let summary = RunSummary {
        id: run.to_string(),
        status: "queued",
        stop_reason: None,
        tokens: spent.into(),
        total_tokens: 0,
        cost_usd: 0.0,
    };
    let admission = Admission { queued: true, batch_job_id: run.to_string(), admission_reason: REASON };
    let kind = Kind::StreamCompleted { run: summary, admission: Some(admission) };
    let event = WireEvent::of(kind);
    let mut frame = String::new();
    write_frame(&mut frame, event.kind.name(), None, &event);
    frame
}
