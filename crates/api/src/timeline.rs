//! `/threads/{id}/timeline`: messages, runs and events of a thread in one order.
//!
//! A page is a part of the event log with, at its place, what the events are about: a run and the messages that caused it
//! stand before its first event, its answer after its last. The order and the cursor are the events' numbers.

use std::collections::{HashMap, HashSet};

use axum::{Json, extract::State};
use domain::{
    RunId, ThreadId,
    event::Event,
    message::{Message, Role},
    run::Run,
};
use serde::{Deserialize, Serialize};
use store::{Page, events::Gap, messages::Order};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Result,
    auth::Caller,
    events::{self, EventView, Part, parse_sequence},
    messages::MessageView,
    path::Path,
    query::{self, Query},
    runs::RunView,
    stream::RunClock,
    threads::find_thread,
    timestamp::Timestamp,
    wire_event::render,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get_timeline))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct TimelineQuery {
    /// Only what comes after the event with this number.
    after: Option<String>,
    /// Only what comes before the event with this number. Without `after`, the newest of it.
    before: Option<String>,
    /// The same as `after`: the `nextCursor` of the page before.
    cursor: Option<String>,
    /// How many events at most: 0 to 500, 100 if absent. What belongs to them is not counted.
    limit: Option<i64>,
}

/// A part of a thread's timeline. `items` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
struct Timeline {
    /// Always `list`.
    object: &'static str,
    data: Vec<TimelineItem>,
    has_more: bool,
    /// The `cursor` of the part after this one; null at the end.
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

/// Something of a thread, told apart by `type`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TimelineItem {
    id: String,
    /// The number of the event that it belongs to; 0 for messages that were copied from another thread.
    sequence: i64,
    created_at: Timestamp,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimelineContent)]
#[serde(tag = "type", rename_all = "snake_case")]
enum What {
    Message { message: Box<MessageView> },
    Run { run: Box<RunView> },
    Event { event: Box<EventView> },
}

/// Read a thread's timeline
///
/// Messages, runs and events, oldest first.
#[utoipa::path(get, path = "/threads/{id}/timeline", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), TimelineQuery),
    responses((status = 200, description = "A part of the timeline", body = Timeline)))]
async fn get_timeline(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<TimelineQuery>,
) -> Result<Json<Timeline>> {
    let limit = query::page(query.limit, None, 100, 500)?.limit;
    let after = parse_sequence("after", query.after)?.or(parse_sequence("cursor", query.cursor)?);
    let before = parse_sequence("before", query.before)?;
    find_thread(&api, &caller, &id).await?;
    let is_backwards = after.is_none() && before.is_some();
    let Part { gap, events, after, is_cut, next_cursor } = events::read_part(&api, &id, after, before, limit).await?;

    let mut parts = Parts::load(&api, &caller, &id).await?;
    let mut clock = RunClock::new(api.store.clone(), caller.project);
    let mut data = Vec::with_capacity(events.len());
    if after == 0 && limit > 0 {
        data.extend(parts.copied.drain(..).map(|message| of_message(message, 0)));
    }
    if let Some(gap) = gap {
        data.extend(parts.forgotten(gap));
        data.push(TimelineItem {
            id: format!("{id}:{}", gap.to),
            sequence: gap.to,
            created_at: gap.since.into(),
            what: What::Event { event: Box::new(events::view_gap(&id, gap)) },
        });
    }
    for recorded in &events {
        let number = recorded.sequence;
        if let (Event::RunQueued, Some(run)) = (&recorded.event, &recorded.run_id) {
            data.extend(parts.asked(run).into_iter().map(|message| of_message(message, number)));
            data.extend(parts.runs.remove(run).map(|run| of_run(run, number)));
        }
        let event = events::view(recorded, render(recorded, clock.started_at(recorded).await?));
        data.push(TimelineItem {
            id: format!("{id}:{number}"),
            sequence: number,
            created_at: recorded.created_at.into(),
            what: What::Event { event: Box::new(event) },
        });
        if let (Event::RunFinished { .. }, Some(run)) = (&recorded.event, &recorded.run_id) {
            data.extend(parts.answered(run).into_iter().map(|message| of_message(message, number)));
        }
    }
    let has_more = if is_backwards { after > 0 && gap.is_none() } else { is_cut };
    Ok(Json(Timeline { object: "list", data, has_more, next_cursor }))
}

fn of_message(message: Message, sequence: i64) -> TimelineItem {
    TimelineItem {
        id: message.id.to_string(),
        sequence,
        created_at: message.created_at.into(),
        what: What::Message { message: Box::new(message.into()) },
    }
}

fn of_run(run: Run, sequence: i64) -> TimelineItem {
    TimelineItem {
        id: run.id.to_string(),
        sequence,
        created_at: run.queued_at.into(),
        what: What::Run { run: Box::new(run.into()) },
    }
}

/// What events are about, to be placed among them.
struct Parts {
    runs: HashMap<RunId, Run>,
    messages: HashMap<RunId, Vec<Message>>,
    /// Messages that no run of this thread has to do with.
    copied: Vec<Message>,
}

impl Parts {
    async fn load(api: &Api, caller: &Caller, id: &ThreadId) -> Result<Self> {
        let runs = api.store.list_runs(&caller.project, id, None, Order::OldestFirst, Page::ALL).await?.items;
        let own: HashSet<RunId> = runs.iter().map(|run| run.id.clone()).collect();
        let mut messages: HashMap<RunId, Vec<Message>> = HashMap::new();
        let mut copied = Vec::new();
        for message in api.store.list_messages(id, Order::OldestFirst, Page::ALL).await?.items {
            match &message.run_id {
                Some(run) if own.contains(run) => messages.entry(run.clone()).or_default().push(message),
                Some(_) | None => copied.push(message),
            }
        }
        Ok(Self { runs: runs.into_iter().map(|run| (run.id.clone(), run)).collect(), messages, copied })
    }

    /// Takes the runs whose events are gone, each with its messages, in order.
    fn forgotten(&mut self, gap: Gap) -> Vec<TimelineItem> {
        let mut gone: Vec<(i64, RunId)> = self
            .runs
            .values()
            .filter(|run| (gap.from..=gap.to).contains(&run.first_sequence) && run.status.is_over())
            .map(|run| (run.first_sequence, run.id.clone()))
            .collect();
        gone.sort_unstable_by_key(|(first, _)| *first);
        let mut items = Vec::new();
        for (number, id) in gone {
            items.extend(self.asked(&id).into_iter().map(|message| of_message(message, number)));
            items.extend(self.runs.remove(&id).map(|run| of_run(run, number)));
            items.extend(self.answered(&id).into_iter().map(|message| of_message(message, number)));
        }
        items
    }

    /// Takes the messages that caused a run.
    fn asked(&mut self, run: &RunId) -> Vec<Message> {
        // The answer is the last one, if it is the assistant's; before it may stand what the assistant is said to have said.
        let Some(mut messages) = self.messages.remove(run) else { return Vec::new() };
        if messages.last().is_some_and(|message| message.role == Role::Assistant) {
            self.messages.insert(run.clone(), messages.split_off(messages.len() - 1));
        }
        messages
    }

    /// Takes the answer of a run.
    fn answered(&mut self, run: &RunId) -> Vec<Message> {
        let Some(mut messages) = self.messages.remove(run) else { return Vec::new() };
        let answer = messages.pop().filter(|message| message.role == Role::Assistant);
        answer.into_iter().collect()
    }
}
