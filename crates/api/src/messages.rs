//! `/threads/{id}/messages`: what was said, and saying more, which starts a run.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{RunId, ThreadId, run_label::RunLabel};
use serde::{Deserialize, Serialize};
use store::{
    messages::Order,
    queue::{Accepted, IfBusy},
    runs::{Idempotency, NewRun},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    budgets,
    capacity::{self, Room},
    error::ErrorBody,
    list::List,
    mcp,
    path::Path,
    query::{self, Query},
    runs::RunView,
    skills,
    stream::{self, Range},
    threads::{ThreadView, find_thread},
    wire_event::WireEvent,
};

mod extras;
mod request;
mod view;
mod work;

pub(crate) use request::WorkRequest;
pub(crate) use view::MessageView;
pub(crate) use work::{MessageInput, Work};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_messages, send_message))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
    /// `asc` (oldest first, if absent) or `desc`.
    order: Option<String>,
    /// Leaves out the messages' metadata.
    #[serde(default, deserialize_with = "query::boolean")]
    compact: Option<bool>,
    /// Shows also the messages that the thread was rewound behind; they have `supersededAt`.
    #[serde(default, deserialize_with = "query::boolean", rename = "includeSuperseded")]
    include_superseded: Option<bool>,
}

/// A run that was started without a stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct StartedRun {
    thread: ThreadView,
    run: RunView,
    /// The run waits: behind another one of its thread, or until there is room.
    queued: bool,
    #[serde(flatten)]
    admission: Option<PutOff>,
}

/// Says that a run waits until there is room for it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PutOff {
    /// Always true.
    queued_in_batch: bool,
    /// The run's id.
    batch_job_id: String,
    /// Always `runtime_capacity_unavailable`.
    admission_reason: &'static str,
}

impl PutOff {
    pub(crate) fn new(run: &RunId) -> Self {
        Self { queued_in_batch: true, batch_job_id: run.to_string(), admission_reason: capacity::REASON }
    }
}

/// List a thread's messages
#[utoipa::path(get, path = "/threads/{id}/messages", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), ListQuery),
    responses((status = 200, description = "A part of the list", body = List<MessageView>)))]
async fn list_messages(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<MessageView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let order = parse_order(query.order.as_deref(), Order::OldestFirst)?;
    find_thread(&api, &caller, &id).await?;
    let messages = match query.include_superseded {
        Some(true) => api.store.list_all_messages(&id, order, page).await?,
        Some(false) | None => api.store.list_messages(&id, order, page).await?,
    };
    let is_compact = query.compact.unwrap_or(false);
    Ok(Json(List::new(messages, page, |message| {
        let view = MessageView::from(message);
        if is_compact { view.compact() } else { view }
    })))
}

/// Send a message and follow the run it starts
///
/// Answers with the run's events as they happen (`text/event-stream`), and ends after `stream.completed`. Whether the
/// client stays to read them makes no difference to the run. With `stream: false` it answers at once with JSON.
///
/// A stream that broke off goes on at `GET /threads/{id}/events?stream=true` with the last `id:` as `Last-Event-ID`.
/// While a run of the thread is under way, `mode` says what becomes of the message. The stream of one that is queued shows
/// nothing of the run before it.
///
/// A request repeated with the same `Idempotency-Key` within 24 hours starts nothing and streams the first one's run.
#[utoipa::path(post, path = "/threads/{id}/messages", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same request"),
    ),
    request_body = Work,
    responses(
        (status = 200, description = "The run's events", content_type = "text/event-stream", body = WireEvent),
        (status = 202, description = "With `stream: false`: the run that was started", body = StartedRun),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 409, description = "A run of the thread is under way, or the Idempotency-Key came with another request",
            body = ErrorBody),
        (status = 503, description = "Too many runs wait for their turn", body = ErrorBody),
        (status = 501, description = "Something is asked for that is not supported yet", body = ErrorBody),
    ))]
async fn send_message(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    request: WorkRequest,
) -> Result<Response> {
    let work: Work = request.parse()?;
    let wants_stream = work.wants_stream();
    let idempotency = request.idempotency(&format!("POST /threads/{id}/messages"))?;
    let (accepted, room) = send(&api, &caller, &id, work, idempotency, None).await?;
    let is_held = matches!(accepted, Accepted::Held(_));
    // A run that waits for its thread does not wait for room yet.
    let is_put_off = room == Room::Later && matches!(accepted, Accepted::Started(_));
    let (Accepted::Started(started) | Accepted::Held(started) | Accepted::Steered(started, _)) = accepted;
    if wants_stream && is_put_off {
        return Ok(stream::put_off(&api, &started).await?);
    }
    if wants_stream {
        return Ok(stream::respond(&api, &caller.project, Range::of_run(started), None));
    }
    let thread = find_thread(&api, &caller, &id).await?;
    let run = api.store.find_run(&caller.project, &started.run_id).await?;
    let run = run.ok_or_else(|| Error::not_found("Run", &started.run_id))?;
    let admission = is_put_off.then(|| PutOff::new(&started.run_id));
    let body = StartedRun { thread: thread.into(), run: run.into(), queued: is_held || is_put_off, admission };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Has a message worked on in a thread, if the caller may, its budgets allow it and there is what it asks for.
pub(crate) async fn send(
    api: &Api,
    caller: &Caller,
    id: &ThreadId,
    mut work: Work,
    idempotency: Option<Idempotency>,
    label: Option<RunLabel>,
) -> Result<(Accepted, Room)> {
    let if_busy = work.if_busy()?;
    let room = capacity::check(api, &caller.project, work.may_be_put_off()).await?;
    let extras = work.take_extras();
    let verdict = budgets::check_thread(api, caller, id).await;
    budgets::or_repeated(api, caller, verdict, idempotency.as_ref()).await?;
    let mut run = NewRun { label, ..work.into_run(Vec::new(), idempotency)? };
    run.options.key_id = Some(caller.key.clone());
    skills::check_enabled(api, &caller.project, run.options.enabled_skills.as_deref().unwrap_or_default()).await?;
    let brings_more = !extras.is_empty()
        || run.options.response_schema.is_some()
        || !run.options.setup_scripts.is_empty()
        || run.options.research_mode
        || run.options.stored.contains_key(mcp::FIELD);
    if run.options.research_mode || run.options.enabled_skills.as_ref().is_some_and(|skills| !skills.is_empty()) {
        let thread = find_thread(api, caller, id).await?;
        skills::check_available(api, &caller.project, thread.agent_id.as_ref(), &run.options).await?;
    }
    if if_busy == IfBusy::Steer && brings_more {
        let message = "steer cannot be together with attachments, secrets, setupScripts, mcpServers, a responseSchema or research: \
                       the run that reads the message has begun";
        return Err(Error::invalid_field("mode", message));
    }
    if !extras.is_empty() {
        let thread = find_thread(api, caller, id).await?;
        extras.add_to(api, &thread.environment_id, &mut run).await?;
    }
    mcp::seal(api, &mut run);
    Ok((api.store.send(&caller.project, id, run, if_busy).await?, room))
}

/// Reads which end of a list is to come first.
pub(crate) fn parse_order(order: Option<&str>, default: Order) -> Result<Order> {
    match order {
        None | Some("") => Ok(default),
        Some("asc") => Ok(Order::OldestFirst),
        Some("desc") => Ok(Order::NewestFirst),
        Some(_) => Err(Error::invalid_field("order", "must be asc or desc")),
    }
}
