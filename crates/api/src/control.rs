//! `/threads/{id}/runs/{runId}/steering` and `…/control`, and `/threads/{id}/resume`: what people do to a run under way, or
//! to a thread whose run ended too soon. Source of the shapes: the platform's own web client.

use axum::{Json, extract::State};
use domain::{
    RunId, ThreadId,
    event::{Steering, SteeringMode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets,
    error::ErrorBody,
    path::Path,
    runs::RunView,
    threads::{ThreadView, find_thread},
    wire_event::SteeringView,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(steer)).routes(routes!(control)).routes(routes!(resume_thread))
}

/// A note to a run.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"content": "Use the staging database", "mode": "checkpoint"}))]
struct SteerRun {
    /// What the model is to read.
    #[serde(alias = "message", alias = "text")]
    content: Option<String>,
    /// `checkpoint` (if absent): the model reads it with its next turn and follows it. `fyi`: the same, but the run does
    /// not go on for it. `interrupt`: the run is stopped, and a new one works on the note.
    mode: Option<String>,
}

/// What a run is to do.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"action": "pause"}))]
struct ControlRun {
    /// `cancel`, `pause`, `resume` or `message`.
    action: Option<String>,
    /// For `message`: what the model reads with its next turn.
    #[serde(alias = "message", alias = "text")]
    content: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Controlled {
    /// The run after that; with `interrupt` the new one.
    run: RunView,
    /// The note.
    steering: Option<SteeringView>,
    receipt: Receipt,
    accepted: bool,
    /// The model has read it already. It never has at once: an event `steering.delivered` says when.
    delivered: bool,
    /// The run does it already, or will at its next checkpoint if false.
    effect_applied: bool,
    /// A new run was made.
    execution_started: bool,
    /// Always false.
    coordinator_required: bool,
    /// What it cannot do, as a sentence.
    limitation: Option<String>,
}

/// Says that something arrived.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    run_id: String,
    /// What was asked for: a mode of a note or an action.
    action: String,
}

/// A thread that goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResumedThread {
    thread: ThreadView,
    run: RunView,
}

/// Send a note to a run under way
#[utoipa::path(post, path = "/threads/{id}/runs/{runId}/steering", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("runId" = String, Path, description = "The run's id"),
    ),
    request_body = SteerRun,
    responses(
        (status = 200, description = "The note was taken", body = Controlled),
        (status = 400, description = "The run is over, or the note is empty", body = ErrorBody),
        (status = 404, description = "The run is not the thread's", body = ErrorBody),
    ))]
async fn steer(
    State(api): State<Api>,
    caller: Caller,
    Path((id, run)): Path<(ThreadId, RunId)>,
    Body(body): Body<SteerRun>,
) -> Result<Json<Controlled>> {
    find_thread(&api, &caller, &id).await?;
    let content = required(body.content)?;
    match body.mode.as_deref() {
        None | Some("" | "checkpoint") => note(&api, &caller, &id, &run, SteeringMode::Checkpoint, &content).await,
        Some("fyi") => note(&api, &caller, &id, &run, SteeringMode::Fyi, &content).await,
        Some("interrupt") => interrupt(&api, &caller, &id, &run, content).await,
        Some(_) => Err(Error::invalid_field("mode", "must be fyi, checkpoint or interrupt")),
    }
}

/// Cancel, pause or resume a run, or send it a note
///
/// A paused run stands still at its next checkpoint: no worker and no container works for it, and its thread stays busy
/// until it is resumed or cancelled.
#[utoipa::path(post, path = "/threads/{id}/runs/{runId}/control", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("runId" = String, Path, description = "The run's id"),
    ),
    request_body = ControlRun,
    responses(
        (status = 200, description = "It was asked for", body = Controlled),
        (status = 400, description = "The run cannot do that as it stands", body = ErrorBody),
        (status = 404, description = "The run is not the thread's", body = ErrorBody),
    ))]
async fn control(
    State(api): State<Api>,
    caller: Caller,
    Path((id, run)): Path<(ThreadId, RunId)>,
    Body(body): Body<ControlRun>,
) -> Result<Json<Controlled>> {
    find_thread(&api, &caller, &id).await?;
    let action = body.action.ok_or_else(|| Error::missing_field("action"))?;
    let (store, project) = (&api.store, &caller.project);
    match action.as_str() {
        "cancel" => store.cancel_run(project, &id, &run).await?,
        "pause" => drop(store.pause_run(project, &id, &run).await?),
        "resume" => drop(store.resume_run(project, &id, &run).await?),
        "message" => {
            let content = required(body.content)?;
            return note(&api, &caller, &id, &run, SteeringMode::Checkpoint, &content).await;
        }
        _ => return Err(Error::invalid_field("action", "must be cancel, pause, resume or message")),
    }
    let run = find_run(&api, &caller, &run).await?;
    let effect_applied = match action.as_str() {
        "cancel" => run.status.is_over(),
        "pause" => run.status == domain::run::RunStatus::Paused,
        _ => true,
    };
    let receipt = Receipt { run_id: run.id.to_string(), action };
    Ok(Json(Controlled { effect_applied, ..Controlled::new(run.into(), receipt) }))
}

/// Go on where the last run ended too soon
///
/// Starts a run without a new message in a thread whose last run failed, was cancelled or reached a limit. The work so far
/// is kept, and the model goes on from it. Follow it at `GET /threads/{id}/events?stream=true`.
#[utoipa::path(post, path = "/threads/{id}/resume", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses(
        (status = 200, description = "The run was started", body = ResumedThread),
        (status = 400, description = "There is nothing to resume", body = ErrorBody),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 409, description = "A run of the thread is under way", body = ErrorBody),
    ))]
async fn resume_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
) -> Result<Json<ResumedThread>> {
    budgets::check_thread(&api, &caller, &id).await?;
    let started = api.store.continue_thread(&caller.project, &id).await?;
    let thread = find_thread(&api, &caller, &id).await?;
    let run = find_run(&api, &caller, &started.run_id).await?;
    Ok(Json(ResumedThread { thread: thread.into(), run: run.into() }))
}

async fn note(
    api: &Api,
    caller: &Caller,
    thread: &ThreadId,
    run: &RunId,
    mode: SteeringMode,
    content: &str,
) -> Result<Json<Controlled>> {
    let (note, _) = api.store.steer_run(&caller.project, thread, run, mode, content).await?;
    let run = find_run(api, caller, run).await?;
    let receipt = Receipt { run_id: run.id.to_string(), action: mode.as_str().to_owned() };
    Ok(Json(Controlled { steering: Some(view(&note)), ..Controlled::new(run.into(), receipt) }))
}

async fn interrupt(
    api: &Api,
    caller: &Caller,
    thread: &ThreadId,
    run: &RunId,
    content: String,
) -> Result<Json<Controlled>> {
    let started = api.store.interrupt_run(&caller.project, thread, run, content).await?;
    let next = find_run(api, caller, &started.run_id).await?;
    let receipt = Receipt { run_id: run.to_string(), action: "interrupt".into() };
    Ok(Json(Controlled { execution_started: true, ..Controlled::new(next.into(), receipt) }))
}

async fn find_run(api: &Api, caller: &Caller, run: &RunId) -> Result<domain::run::Run> {
    let found = api.store.find_run(&caller.project, run).await?;
    found.ok_or_else(|| Error::not_found("Run", run))
}

fn required(content: Option<String>) -> Result<String> {
    match content {
        None => Err(Error::missing_field("content")),
        Some(content) if content.trim().is_empty() => Err(Error::invalid_field("content", "must not be empty")),
        Some(content) => Ok(content),
    }
}

fn view(note: &Steering) -> SteeringView {
    note.into()
}

impl Controlled {
    fn new(run: RunView, receipt: Receipt) -> Self {
        Self {
            run,
            steering: None,
            receipt,
            accepted: true,
            delivered: false,
            effect_applied: false,
            execution_started: false,
            coordinator_required: false,
            limitation: None,
        }
    }
}
