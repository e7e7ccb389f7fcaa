//! `/threads/{id}/events`: a thread's log, as pages or as a stream that goes on where another broke off.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{RunId, ThreadId, event::Recorded};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{events::Gap, tail::Until};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    path::Path,
    query::{self, Query},
    stream::{self, EVENT_STREAM, Range, RunClock},
    threads::find_thread,
    timestamp::Timestamp,
    wire_event::{WireEvent, render, render_gap, write_frame},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_events))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only events after this number. The header `Last-Event-ID` wins over it.
    after: Option<String>,
    /// Only events before this number. Without `after`, the newest of them.
    before: Option<String>,
    /// The same as `after`: the `nextCursor` of the page before.
    cursor: Option<String>,
    /// How many at most: 0 to 1000. Of a page 100 if absent, of a stream no limit.
    limit: Option<i64>,
    /// Only the events of this run; of one that another run has called, those told of it.
    #[serde(rename = "runId")]
    run_id: Option<String>,
    /// Streams the events, and goes on with new ones while a run is under way.
    #[serde(default, deserialize_with = "query::boolean")]
    stream: Option<bool>,
}

/// An event of a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadEvent)]
pub(crate) struct EventView {
    id: String,
    thread_id: String,
    run_id: Option<String>,
    /// Counts up by one from 1 within the thread.
    sequence: i64,
    /// The name it has in a stream; the first, where it is several there.
    #[serde(rename = "type")]
    kind: &'static str,
    producer: Producer,
    title: Option<String>,
    summary: Option<String>,
    /// What it is in a stream; the fields of all, where it is several there.
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
    payload_version: i32,
    occurred_at: Timestamp,
    created_at: Timestamp,
}

/// Whose event it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventProducer)]
struct Producer {
    /// `run` or `thread`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    participant_id: Option<String>,
}

/// A part of a thread's events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// Always `list`.
    object: &'static str,
    data: Vec<EventView>,
    /// There are more after this part (before it, if only `before` was given).
    has_more: bool,
    /// The `cursor` of the part after this one; null at the end.
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

/// Read or follow a thread's events
///
/// Without `stream` a page, oldest first. With `stream=true` (or `1`, or `Accept: text/event-stream`) the events after the
/// number given, then new ones as they happen; it ends when no run is under way. It begins with a frame `stream.ready`.
/// Every frame of an event carries the same bytes as in the stream that the run's message was answered with.
///
/// Where events that are asked for are older than the server keeps them, an event `gap` with the range stands for them.
#[utoipa::path(get, path = "/threads/{id}/events", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` of the stream that broke off"),
    ),
    responses(
        (status = 200, description = "The events", content(
            (EventPage = "application/json"),
            (WireEvent = "text/event-stream"),
        )),
    ))]
async fn list_events(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response> {
    let last_event_id = headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let after = match parse_sequence("Last-Event-ID", last_event_id)? {
        Some(after) => Some(after),
        None => parse_sequence("after", query.after)?.or(parse_sequence("cursor", query.cursor)?),
    };
    let before = parse_sequence("before", query.before)?;
    let wants_stream =
        query.stream.unwrap_or_else(|| headers.get(header::ACCEPT).is_some_and(|accept| accept == EVENT_STREAM));
    let limit = match query.limit {
        None => None,
        Some(limit) => Some(query::page(Some(limit), None, 0, 1000)?.limit),
    };
    find_thread(&api, &caller, &id).await?;
    let only: Option<RunId> = match query.run_id.as_deref().filter(|run| !run.is_empty()) {
        None => None,
        Some(run) => {
            let run: RunId = run.parse().map_err(|_| Error::not_found("Run", run))?;
            let found = api.store.find_run(&caller.project, &run).await?.filter(|found| found.thread_id == id);
            Some(found.ok_or_else(|| Error::not_found("Run", &run))?.id)
        }
    };
    if wants_stream {
        let after = after.unwrap_or(0);
        let mut greeting = String::new();
        // By its clients' rules this one frame has no `type`.
        write_frame(&mut greeting, "stream.ready", None, &json!({"after": after, "threadId": id}));
        let range = Range { thread: id, after, until: Until::Idle, before, limit, only };
        return Ok(stream::respond(&api, &caller.project, range, Some(greeting)));
    }
    let limit = limit.unwrap_or(100);
    let is_backwards = after.is_none() && before.is_some();
    let part = match &only {
        None => read_part(&api, &id, after, before, limit).await?,
        Some(run) => read_part_of(&api, &id, run, after.unwrap_or(0), before, limit).await?,
    };
    let mut clock = RunClock::new(api.store.clone(), caller.project);
    let mut data = Vec::with_capacity(part.events.len() + 1);
    data.extend(part.gap.map(|gap| view_gap(&id, gap)));
    for event in &part.events {
        let run_started_at = clock.started_at(event).await?;
        data.push(view(event, render(event, run_started_at)));
    }
    let Part { after, is_cut, next_cursor, gap, events: _ } = part;
    // What is gone is no part that could be asked for.
    let has_more = if is_backwards { after > 0 && gap.is_none() } else { is_cut };
    Ok(Json(EventPage { object: "list", data, has_more, next_cursor }).into_response())
}

/// A part of a log, as a page shows it.
pub(crate) struct Part {
    /// What is missing before the events.
    pub gap: Option<Gap>,
    pub events: Vec<Recorded>,
    /// The number that the part begins after.
    pub after: i64,
    /// There are more events after the part.
    pub is_cut: bool,
    pub next_cursor: Option<String>,
}

/// Reads a page of a thread's log.
pub(crate) async fn read_part(
    api: &Api,
    id: &ThreadId,
    after: Option<i64>,
    before: Option<i64>,
    limit: i64,
) -> Result<Part> {
    let after = match (after, before) {
        (Some(after), _) => after,
        // Numbers follow each other, so the newest before one are known without a search.
        (None, Some(before)) => before.saturating_sub(limit).saturating_sub(1).max(0),
        (None, None) => 0,
    };
    // One more than asked for tells whether there is more.
    let store::events::Part { gap, mut events } = api.store.read_log(id, after, before, limit + 1).await?;
    let is_cut = events.len() as i64 > limit;
    events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = events.last().filter(|_| is_cut).map(|last| last.sequence.to_string());
    Ok(Part { gap, events, after, is_cut, next_cursor })
}

/// The same of one run.
async fn read_part_of(
    api: &Api,
    id: &ThreadId,
    run: &RunId,
    after: i64,
    before: Option<i64>,
    limit: i64,
) -> Result<Part> {
    let mut events = api.store.list_run_events(id, run, after, before, limit + 1).await?;
    let is_cut = events.len() as i64 > limit;
    events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = events.last().filter(|_| is_cut).map(|last| last.sequence.to_string());
    Ok(Part { gap: None, events, after, is_cut, next_cursor })
}

/// Gives what stands for events that are gone: an event with the number of the last of them.
pub(crate) fn view_gap(thread: &ThreadId, gap: Gap) -> EventView {
    let recorded = Place { thread, sequence: gap.to, run: None, at: gap.since };
    make_view(recorded, vec![render_gap(thread, gap)])
}

pub(crate) fn view(recorded: &Recorded, rendered: Vec<WireEvent>) -> EventView {
    let Recorded { thread_id: thread, sequence, run_id, created_at: at, event: _ } = recorded;
    make_view(Place { thread, sequence: *sequence, run: run_id.as_ref(), at: *at }, rendered)
}

/// Where an event stands in a log.
struct Place<'a> {
    thread: &'a ThreadId,
    sequence: i64,
    run: Option<&'a RunId>,
    at: DateTime<Utc>,
}

fn make_view(place: Place<'_>, rendered: Vec<WireEvent>) -> EventView {
    let mut payload = Map::new();
    let mut kind = None;
    for event in rendered {
        kind.get_or_insert(event.kind.name());
        if let Ok(Value::Object(fields)) = serde_json::to_value(&event.kind) {
            payload.extend(fields.into_iter().filter(|(name, _)| name != "type"));
        }
        if let Some(Ok(Value::Object(fields))) = event.nested.as_ref().map(serde_json::to_value) {
            payload.extend(fields);
        }
    }
    let thread_id = place.thread.to_string();
    let producer = match place.run {
        Some(run) => Producer { kind: "run", id: run.to_string(), participant_id: None },
        None => Producer { kind: "thread", id: thread_id.clone(), participant_id: None },
    };
    EventView {
        id: format!("{thread_id}:{}", place.sequence),
        thread_id,
        run_id: place.run.map(ToString::to_string),
        sequence: place.sequence,
        kind: kind.unwrap_or_default(),
        producer,
        title: None,
        summary: None,
        payload,
        payload_version: 1,
        occurred_at: place.at.into(),
        created_at: place.at.into(),
    }
}

/// Reads an event's number; nothing is none.
pub(crate) fn parse_sequence(name: &str, text: Option<String>) -> Result<Option<i64>> {
    match text.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => match text.parse() {
            Ok(sequence) if sequence >= 0 => Ok(Some(sequence)),
            _ => Err(Error::invalid_field(name, "must be an event's number, 0 or above")),
        },
    }
}
