//! `/threads`: conversations. Their messages, events and runs are in the modules of those names.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    ThreadId,
    run_label::RunLabel,
    scope::Scope,
    thread::{Thread, ThreadStatus as Status},
};
use serde::{Deserialize, Serialize};
use store::{
    Page, Paged,
    messages::Order,
    runs::{Idempotency, NewRun, Started},
    threads::ThreadFilter,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets,
    capacity::{self, Room},
    deleted::Deleted,
    environments,
    error::ErrorBody,
    list::List,
    mcp,
    messages::{MessageView, PutOff, Work, WorkRequest},
    path::Path,
    query::{self, Query},
    runs::RunView,
    skills,
    stream::{self, Range},
    wire_event::WireEvent,
};

mod input;
mod view;

pub(crate) use input::ThreadFields;
pub(crate) use input::check_title;
use input::{CreateThread, UpdateThread};
use view::ThreadStatus;
pub(crate) use view::ThreadView;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_threads, create_thread))
        .routes(routes!(get_thread, update_thread, delete_thread))
        .routes(routes!(get_status))
        .routes(routes!(cancel))
}

/// The messages that are shown with their thread.
const NEWEST: Page = Page { limit: 1000, offset: 0 };

/// What a retried creation repeats.
const TARGET: &str = "POST /threads";

/// `{thread}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ThreadEnvelope {
    thread: ThreadView,
}

/// `{thread}`, and the run that was started in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedThread {
    thread: ThreadView,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunView>,
    #[serde(flatten)]
    admission: Option<PutOff>,
}

/// A run that was asked to stop.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CancelledRun {
    /// Always true.
    success: bool,
    /// Always true. The run is over when its stream says so.
    cancelled: bool,
    run_id: String,
    thread_id: String,
}

/// Finds a thread of the caller's project.
pub(crate) async fn find_thread(api: &Api, caller: &Caller, id: &ThreadId) -> Result<Thread> {
    let thread = api.store.find_thread(&caller.project, id).await?;
    thread.ok_or_else(|| Error::not_found("Thread", id))
}

/// Create a thread, and start a run in it if there is a message
///
/// With a message the answer is the run's events as they happen (`text/event-stream`), beginning with `thread.created`,
/// unless `stream` is false: then it is JSON at once, without waiting for the run. Without a message it is JSON. A message
/// wants the scope `execute` besides.
#[utoipa::path(post, path = "/threads", tag = "threads",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same request")),
    request_body = CreateThread,
    responses(
        (status = 200, description = "The run's events", content_type = "text/event-stream", body = WireEvent),
        (status = 201, description = "The thread", body = CreatedThread),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 404, description = "The environment or the agent is not there", body = ErrorBody),
        (status = 409, description = "The Idempotency-Key came with another request", body = ErrorBody),
        (status = 501, description = "Something is asked for that is not supported yet", body = ErrorBody),
    ))]
async fn create_thread(State(api): State<Api>, caller: Caller, request: WorkRequest) -> Result<Response> {
    let mut work: Work = request.parse()?;
    let fields: ThreadFields = request.parse()?;
    let idempotency = request.idempotency(TARGET)?;
    if !work.has_content() && fields.has_no_messages() {
        work.check_supported()?;
        if !work.take_extras().is_empty() {
            return Err(Error::missing_field("content"));
        }
        let new = fields.into_new(&api, &caller, None).await?;
        let thread = match idempotency {
            None => api.store.create_thread(&caller.project, new).await?,
            Some(idempotency) => api.store.create_thread_once(&caller.project, new, &idempotency).await?,
        };
        return Ok((StatusCode::CREATED, Json(CreatedThread { thread: thread.into(), run: None, admission: None }))
            .into_response());
    }
    caller.require(Scope::Execute)?;
    let wants_stream = work.wants_stream();
    let (thread, started, room) = start(&api, &caller, fields, work, idempotency, None).await?;
    if wants_stream && room == Room::Later {
        return Ok(stream::put_off(&api, &started).await?);
    }
    if wants_stream {
        return Ok(stream::respond(&api, &caller.project, Range::of_run(started), None));
    }
    let run = api.store.find_run(&caller.project, &started.run_id).await?;
    let admission = (room == Room::Later).then(|| PutOff::new(&started.run_id));
    let body = CreatedThread { thread: thread.into(), run: run.map(Into::into), admission };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Makes a thread and the run of its first message, if the caller's budgets allow it and there is what it asks for.
pub(crate) async fn start(
    api: &Api,
    caller: &Caller,
    mut fields: ThreadFields,
    mut work: Work,
    idempotency: Option<Idempotency>,
    label: Option<RunLabel>,
) -> Result<(Thread, Started, Room)> {
    // Nothing is under way in a new thread; a mode that there is not is wrong all the same.
    work.if_busy()?;
    let room = capacity::check(api, &caller.project, work.may_be_put_off()).await?;
    let extras = work.take_extras();
    let initial = fields.messages.take().unwrap_or_default();
    let task = work.task().map(str::to_owned);
    let mut run = NewRun { label, ..work.into_run(initial, idempotency)? };
    skills::check_enabled(api, &caller.project, run.options.enabled_skills.as_deref().unwrap_or_default()).await?;
    run.options.key_id = Some(caller.key.clone());
    let new = fields.into_new(api, caller, task).await?;
    skills::check_available(api, &caller.project, new.agent_id.as_ref(), &run.options).await?;
    let verdict = budgets::check(api, caller, new.agent_id.as_ref()).await;
    budgets::or_repeated(api, caller, verdict, run.idempotency.as_ref()).await?;
    if !extras.is_empty() {
        environments::find(api, caller, &new.environment_id).await?;
        extras.add_to(api, &new.environment_id, &mut run).await?;
    }
    mcp::seal(api, &mut run);
    let (thread, started) = api.store.create_thread_with_run(&caller.project, new, run).await?;
    Ok((thread, started, room))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    environment_id: Option<String>,
    agent_id: Option<String>,
    app_id: Option<String>,
    /// All threads are in the key's project: any other, and `none`, gives none.
    project_id: Option<String>,
    /// Threads that a schedule made; there are none yet.
    schedule_id: Option<String>,
    /// One of a thread's statuses, or `all`.
    status: Option<String>,
    /// Only threads made after this moment (RFC 3339) or day (`2025-01-15`, UTC).
    created_after: Option<String>,
}

/// List threads
///
/// Newest first.
#[utoipa::path(get, path = "/threads", tag = "threads", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<ThreadView>)))]
async fn list_threads(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<ThreadView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let project = given(query.project_id);
    let mut is_empty = project.is_some_and(|id| id != caller.project.as_str()) || given(query.schedule_id).is_some();
    let status = match given(query.status).as_deref() {
        None | Some("all") => None,
        Some("deleted") => {
            is_empty = true;
            None
        }
        Some(word) => Some(word.parse::<Status>().map_err(|err| Error::invalid_field("status", err.to_string()))?),
    };
    let filter = ThreadFilter {
        environment_id: given(query.environment_id),
        agent_id: given(query.agent_id),
        app_id: given(query.app_id),
        status,
        created_after: query::moment_or_day("createdAfter", query.created_after.as_deref())?,
    };
    let threads = if is_empty {
        Paged { items: Vec::new(), total: 0 }
    } else {
        api.store.list_threads(&caller.project, &filter, page).await?
    };
    Ok(Json(List::new(threads, page, ThreadView::from)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct GetQuery {
    /// Shows also the messages that the thread was rewound behind; they have `supersededAt`.
    #[serde(default, deserialize_with = "query::boolean")]
    include_superseded: Option<bool>,
}

/// Get a thread with its messages
///
/// Of more than 1,000 messages the newest: `messageCount` tells how many there are, `/threads/{id}/messages` gives all.
#[utoipa::path(get, path = "/threads/{id}", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), GetQuery),
    responses((status = 200, description = "The thread", body = ThreadEnvelope)))]
async fn get_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<GetQuery>,
) -> Result<Json<ThreadEnvelope>> {
    let thread = find_thread(&api, &caller, &id).await?;
    let messages = match query.include_superseded {
        Some(true) => api.store.list_all_messages(&id, Order::NewestFirst, NEWEST).await?,
        Some(false) | None => api.store.list_messages(&id, Order::NewestFirst, NEWEST).await?,
    };
    let messages = messages.items.into_iter().rev().map(MessageView::from).collect();
    Ok(Json(ThreadEnvelope { thread: ThreadView::from(thread).with_messages(messages) }))
}

/// Change a thread
///
/// An absent field is left alone, `null` clears it.
#[utoipa::path(patch, path = "/threads/{id}", tag = "threads", params(("id" = String, Path, description = "The thread's id")),
    request_body = UpdateThread,
    responses(
        (status = 200, description = "The thread after the change", body = ThreadEnvelope),
        (status = 409, description = "A run of the thread is under way", body = ErrorBody),
    ))]
async fn update_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<UpdateThread>,
) -> Result<Json<ThreadEnvelope>> {
    let change = body.check(&caller)?;
    let mut is_applied = true;
    let thread = api.store.update_thread(&caller.project, &id, |thread| is_applied = change.apply(thread)).await?;
    if !is_applied {
        return Err(store::Error::Busy.into());
    }
    Ok(Json(ThreadEnvelope { thread: thread.into() }))
}

/// Delete a thread
///
/// It is no longer found, and a run under way is asked to stop.
#[utoipa::path(delete, path = "/threads/{id}", tag = "threads", params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_thread(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<Deleted>> {
    api.store.delete_thread(&caller.project, &id).await?;
    Ok(Json(Deleted::new("threadId", &id)))
}

/// Tell how a thread stands
#[utoipa::path(get, path = "/threads/{id}/status", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "Its status", body = ThreadStatus)))]
async fn get_status(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<ThreadStatus>> {
    Ok(Json(find_thread(&api, &caller, &id).await?.into()))
}

/// Cancel the run under way
///
/// Answers at once. What the run has started is killed, and its stream ends with `run.status` `cancelled`.
#[utoipa::path(post, path = "/threads/{id}/cancel", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses(
        (status = 200, description = "The run was asked to stop", body = CancelledRun),
        (status = 400, description = "No run is under way", body = ErrorBody),
    ))]
async fn cancel(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<CancelledRun>> {
    find_thread(&api, &caller, &id).await?;
    match api.store.cancel_active_run(&caller.project, &id).await? {
        Some(run) => {
            Ok(Json(CancelledRun { success: true, cancelled: true, run_id: run.into(), thread_id: id.into() }))
        }
        None => Err(Error::bad_request("No run of the thread is under way").with_code("nothing_running")),
    }
}
