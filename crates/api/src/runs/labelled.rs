//! `/runs`: the runs of a project under the names that callers give them. Source of the shapes: the TypeScript SDK, version 4.
//!
//! The same runs as those of `/threads/{id}/runs`, which are told in the words of the platform; these are told in the words
//! of clients that think in runs and know no threads.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{RunId, ThreadId, run::Run, scope::Scope};
use serde::{Deserialize, Serialize};
use store::{
    Page, Paged,
    queue::{Accepted, IfBusy},
    run_labels::{LabelledRun, LabelledRunFilter},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    error::ErrorBody,
    logs::{self, AddedLogs},
    messages::{self, Work, WorkRequest},
    path::Path,
    query::{self, Query},
    threads::{self, ThreadFields, find_thread},
};

mod input;
mod log;
mod view;

use input::{CreateRun, NewRunLog, RunFields, UpdateRun, Wish};
use log::{LogFormat, LogQuery, RunLogs};
use view::{LabelledRunView, statuses_of};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_all_runs, create_run))
        .routes(routes!(get_run, update_run, delete_run))
        .routes(routes!(get_run_log, add_run_log))
}

/// `{run}`.
#[derive(Debug, Serialize, ToSchema)]
struct LabelledRunEnvelope {
    run: LabelledRunView,
}

/// A part of a project's runs.
#[derive(Debug, Serialize, ToSchema)]
struct LabelledRunList {
    /// Newest first, each with the first 1,000 characters of its task.
    runs: Vec<LabelledRunView>,
    pagination: Pagination,
}

/// Which part of a list it is.
#[derive(Debug, Serialize, ToSchema)]
struct Pagination {
    /// The size of the whole list.
    total: i64,
    limit: i64,
    offset: i64,
}

impl LabelledRunList {
    fn new(runs: Paged<LabelledRun>, page: Page) -> Self {
        let pagination = Pagination { total: runs.total, limit: page.limit, offset: page.offset };
        Self { runs: runs.items.into_iter().map(Into::into).collect(), pagination }
    }
}

async fn find(api: &Api, caller: &Caller, id: &RunId) -> Result<LabelledRun> {
    let run = api.store.find_labelled_run(&caller.project, id).await?;
    run.ok_or_else(|| Error::not_found("Run", id))
}

async fn show(api: &Api, caller: &Caller, id: &RunId) -> Result<LabelledRunEnvelope> {
    Ok(LabelledRunEnvelope { run: find(api, caller, id).await?.into() })
}

/// Start a run
///
/// In the thread that `threadId` names, or in a new one, which wants the scope `threads:write` besides. The fields of a
/// message to a thread may be sent as well. It is answered at once; the run's events are those of its thread
/// (`GET /threads/{threadId}/events?stream=true`).
#[utoipa::path(post, path = "/runs", tag = "threads",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same request")),
    request_body = CreateRun,
    responses(
        (status = 201, description = "The run that was started", body = LabelledRunEnvelope),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 404, description = "The thread, the environment or the agent is not there", body = ErrorBody),
        (status = 409, description = "A run of the thread is under way, or the Idempotency-Key came with another request",
            body = ErrorBody),
        (status = 501, description = "Something is asked for that is not supported yet", body = ErrorBody),
    ))]
async fn create_run(
    State(api): State<Api>,
    caller: Caller,
    request: WorkRequest,
) -> Result<(StatusCode, Json<LabelledRunEnvelope>)> {
    let mut work: Work = request.parse()?;
    let mut wish: Wish = request.parse::<RunFields>()?.check()?;
    let idempotency = request.idempotency("POST /runs")?;
    if work.if_busy()? == IfBusy::Steer {
        return Err(Error::invalid_field("mode", "cannot be steer: that starts no run"));
    }
    if let Some(prompt) = wish.prompt.take() {
        work.read_instead(prompt);
    }
    let started = match &wish.thread {
        Some(thread) => {
            wish.check_thread(&find_thread(&api, &caller, thread).await?)?;
            match messages::send(&api, &caller, thread, work, idempotency, Some(wish.label)).await?.0 {
                Accepted::Started(started) | Accepted::Held(started) | Accepted::Steered(started, _) => started,
            }
        }
        None => {
            caller.require(Scope::ThreadsWrite)?;
            let mut fields: ThreadFields = request.parse()?;
            // It is the run's.
            fields.metadata = None;
            wish.choose(&api, &caller, &mut fields).await?;
            threads::start(&api, &caller, fields, work, idempotency, Some(wish.label)).await?.1
        }
    };
    Ok((StatusCode::CREATED, Json(show(&api, &caller, &started.run_id).await?)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    thread_id: Option<String>,
    /// `pending`, `running`, `success`, `failed` or `cancelled`.
    status: Option<String>,
    /// Only runs that came at this moment (RFC 3339) or on this day (`2025-01-15`, UTC) or later.
    since: Option<String>,
}

/// List a project's runs
///
/// Those that a message, a schedule or a trigger has started, newest first; not those that another run has called.
#[utoipa::path(get, path = "/runs", tag = "threads", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = LabelledRunList)))]
async fn list_all_runs(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<LabelledRunList>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let thread = given(query.thread_id).map(|id| id.parse::<ThreadId>());
    let only = LabelledRunFilter {
        statuses: given(query.status).map(|word| statuses_of(&word)).transpose()?.unwrap_or_default(),
        since: query::moment_or_day("since", query.since.as_deref())?,
        thread: match thread {
            // No thread has such an id, so none of its runs is there.
            Some(Err(_)) => return Ok(Json(LabelledRunList::new(Paged { items: Vec::new(), total: 0 }, page))),
            Some(Ok(id)) => Some(id),
            None => None,
        },
    };
    let runs = api.store.list_labelled_runs(&caller.project, &only, page).await?;
    Ok(Json(LabelledRunList::new(runs, page)))
}

/// Get a run
#[utoipa::path(get, path = "/runs/{runId}", tag = "threads", params(("runId" = String, Path, description = "The run's id")),
    responses((status = 200, description = "The run", body = LabelledRunEnvelope)))]
async fn get_run(State(api): State<Api>, caller: Caller, Path(id): Path<RunId>) -> Result<Json<LabelledRunEnvelope>> {
    Ok(Json(show(&api, &caller, &id).await?))
}

/// Change what a run is called, add to its log, or cancel it
///
/// An absent field is left alone, `null` clears it. What a run does, how it ends and what it costs is measured: the only
/// `status` that can be set is `cancelled`, which wants the scope `execute` besides.
#[utoipa::path(patch, path = "/runs/{runId}", tag = "threads",
    params(("runId" = String, Path, description = "The run's id")), request_body = UpdateRun,
    responses(
        (status = 200, description = "The run after the change", body = LabelledRunEnvelope),
        (status = 400, description = "The run is over, or a field is measured and cannot be set", body = ErrorBody),
    ))]
async fn update_run(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<RunId>,
    Body(body): Body<UpdateRun>,
) -> Result<Json<LabelledRunEnvelope>> {
    let run = find(&api, &caller, &id).await?.run;
    let change = body.check(run.status)?;
    if change.cancels {
        caller.require(Scope::Execute)?;
    }
    if !change.logs.is_empty() {
        logs::add(&api, &caller, &run.thread_id, Some(&id), &change.logs).await?;
    }
    if change.renames() {
        api.store.change_run_label(&caller.project, &id, |label| change.label.apply(label)).await?;
    }
    if change.cancels {
        api.store.cancel_run(&caller.project, &run.thread_id, &id).await?;
    }
    Ok(Json(show(&api, &caller, &id).await?))
}

/// Delete a run
///
/// It is no longer found here, and asked to stop if it is under way. Its thread keeps what it said, did and cost.
#[utoipa::path(delete, path = "/runs/{runId}", tag = "threads",
    params(("runId" = String, Path, description = "The run's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_run(State(api): State<Api>, caller: Caller, Path(id): Path<RunId>) -> Result<Json<Deleted>> {
    let run = find(&api, &caller, &id).await?.run;
    if !run.status.is_over() {
        match api.store.cancel_run(&caller.project, &run.thread_id, &id).await {
            // It has ended meanwhile.
            Ok(()) | Err(store::Error::State(_)) => {}
            Err(err) => return Err(err.into()),
        }
    }
    api.store.hide_run(&caller.project, &id).await?;
    Ok(Json(Deleted::new("runId", &id)))
}

/// Read a run's log
///
/// The lines of its thread's log that are about this run.
#[utoipa::path(get, path = "/runs/{runId}/logs", tag = "threads",
    params(("runId" = String, Path, description = "The run's id"), LogQuery),
    responses((status = 200, description = "The lines, oldest first", content(
        (RunLogs = "application/json"), (String = "text/plain"),
    ))))]
async fn get_run_log(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<RunId>,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    let (format, least) = query.check()?;
    let run: Run = find(&api, &caller, &id).await?.run;
    let thread = find_thread(&api, &caller, &run.thread_id).await?;
    let (lines, gap) = logs::lines(&api, &thread, Some(&run), true).await?;
    let logs = RunLogs::new(lines, gap, least);
    Ok(match format {
        LogFormat::Json => Json(logs).into_response(),
        LogFormat::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], logs.to_string()).into_response(),
    })
}

/// Add a line to a run's log
#[utoipa::path(post, path = "/runs/{runId}/logs", tag = "threads",
    params(("runId" = String, Path, description = "The run's id")), request_body = NewRunLog,
    responses(
        (status = 200, description = "It is added", body = AddedLogs),
        (status = 400, description = "The line says nothing", body = ErrorBody),
    ))]
async fn add_run_log(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<RunId>,
    Body(body): Body<NewRunLog>,
) -> Result<Json<AddedLogs>> {
    let line = body.check()?;
    let run = find(&api, &caller, &id).await?.run;
    Ok(Json(logs::add(&api, &caller, &run.thread_id, Some(&id), &[line]).await?))
}
