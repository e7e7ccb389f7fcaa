//! `/threads/{id}/activity/*`: where a text belongs, and sending it there.
//!
//! The platform has a model decide; here it is decided by rule, so that the same text always takes the same way: what its
//! sender says, and whether a run is under way. Source of the shapes: the platform's own web client.

use axum::{Json, extract::State};
use domain::{
    RunId, ThreadId,
    event::SteeringMode,
    run::{Run, RunOptions, RunStatus},
};
use serde::{Deserialize, Serialize};
use store::{
    Page,
    messages::Order,
    queue::{Accepted, IfBusy},
    runs::NewRun,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result, auth::Caller, body::Body, budgets, error::ErrorBody, history, path::Path, runs::RunView,
    threads::find_thread,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(classify_activity)).routes(routes!(send_activity_message))
}

/// How often a text is sent again whose run has just ended or begun.
const MAX_TRIES: usize = 5;

/// A text that is to go somewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"content": "Use the staging database", "mode": "checkpoint"}))]
struct ActivityMessage {
    #[serde(alias = "message", alias = "text")]
    content: Option<String>,
    /// `checkpoint` (if absent): the run under way follows it from its next turn on. `fyi`: the same, but the run does not
    /// go on for it. `interrupt`: the run is stopped and a new one works on it. Where no run is under way, a run begins.
    mode: Option<String>,
    /// `run`, where `targetId` is one.
    #[serde(alias = "target_type")]
    target_type: Option<String>,
    #[serde(alias = "target_id")]
    target_id: Option<String>,
    /// The run it is about; the one under way if absent.
    #[serde(alias = "reply_to_run_id")]
    reply_to_run_id: Option<String>,
}

/// Where a text would go.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Classified {
    thread_id: String,
    decision: Decision,
    target_run_id: Option<String>,
    target_run_status: Option<&'static str>,
    target_run_active: bool,
    /// `steering` (to `/threads/{id}/runs/{runId}/steering`) or `message` (to `/threads/{id}/messages`).
    suggested_transport: &'static str,
    /// Always true: `/threads/{id}/activity/messages` sends it there.
    should_persist_with_activity_endpoint: bool,
}

/// What was decided, and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RouteDecision)]
struct Decision {
    /// `worker_checkpoint`, `worker_interrupt`, `human_fyi` or `none`.
    route: &'static str,
    /// `steer`, `interrupt`, `inform` or `new_message`.
    intent: &'static str,
    reason: &'static str,
    /// Always 1: nothing is guessed.
    confidence: f64,
    control_action: Option<String>,
    #[serde(skip)]
    way: Way,
}

/// Where a text goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Note(RunId, SteeringMode),
    InPlaceOf(RunId),
    NewRun,
}

/// A text that was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Sent {
    message: SentMessage,
    delivery: Delivery,
    route_decision: Decision,
    /// The run that it went to, or that began with it.
    run: RunView,
    #[schema(value_type = Option<Object>)]
    communicator: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    control: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    event: Option<serde_json::Value>,
    /// Always empty: `/threads/{id}/events` has them.
    #[schema(value_type = Vec<Object>)]
    events: Vec<serde_json::Value>,
    accepted: bool,
    /// The model has read it already. It never has at once.
    delivered: bool,
    effect_applied: bool,
    /// A new run was made for it.
    execution_started: bool,
    /// Always false.
    coordinator_required: bool,
    limitation: Option<String>,
}

/// The text as it was taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SentMessage {
    /// The note's id, or the message's once it is the thread's.
    id: Option<String>,
    thread_id: String,
    /// Always `user`.
    role: &'static str,
    content: String,
    run_id: String,
}

/// How it gets to its run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    /// `steering` or `message`.
    transport: &'static str,
    run_id: String,
    /// Always `accepted`.
    status: &'static str,
}

/// Tell where a text would go
///
/// Decided by rule: to the run under way as its `mode` says (`checkpoint` if absent); where none is, a run begins with it.
/// Nothing is sent.
#[utoipa::path(post, path = "/threads/{id}/activity/classify", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = ActivityMessage,
    responses((status = 200, description = "Where it would go", body = Classified)))]
async fn classify_activity(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<ActivityMessage>,
) -> Result<Json<Classified>> {
    find_thread(&api, &caller, &id).await?;
    content(&body)?;
    let run = target(&api, &caller, &id, &body).await?;
    let decision = Decision::by_rule(body.mode.as_deref(), run.as_ref())?;
    let is_active = run.as_ref().is_some_and(is_under_way);
    Ok(Json(Classified {
        thread_id: id.to_string(),
        decision,
        target_run_id: run.as_ref().map(|run| run.id.to_string()),
        target_run_status: run.as_ref().map(|run| run.status.as_str()),
        target_run_active: is_active,
        suggested_transport: if is_active { "steering" } else { "message" },
        should_persist_with_activity_endpoint: true,
    }))
}

/// Send a text to where it belongs
///
/// As `/activity/classify` decides: a note for the run under way, a run in its place, or a new run. Follow it at
/// `GET /threads/{id}/events?stream=true`.
#[utoipa::path(post, path = "/threads/{id}/activity/messages", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = ActivityMessage,
    responses(
        (status = 200, description = "It was taken", body = Sent),
        (status = 400, description = "It is empty, or names what there is not", body = ErrorBody),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 404, description = "The run is not the thread's", body = ErrorBody),
    ))]
async fn send_activity_message(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<ActivityMessage>,
) -> Result<Json<Sent>> {
    find_thread(&api, &caller, &id).await?;
    let content = content(&body)?;
    budgets::check_thread(&api, &caller, &id).await?;
    for _ in 0..MAX_TRIES {
        let run = target(&api, &caller, &id, &body).await?;
        let decision = Decision::by_rule(body.mode.as_deref(), run.as_ref())?;
        match send(&api, &caller, &id, &decision.way, &content).await {
            Ok((run, note)) => return Ok(Json(Sent::new(&api, &caller, &id, content, decision, run, note).await?)),
            // It ended between the two looks: the text takes the way that is right now.
            Err(store::Error::State(_)) if decision.way != Way::NewRun => {}
            Err(err) => return Err(err.into()),
        }
    }
    Err(store::Error::Busy.into())
}

/// Sends a text its way. Gives the run that has it, and the note that it became.
async fn send(
    api: &Api,
    caller: &Caller,
    thread: &ThreadId,
    way: &Way,
    content: &str,
) -> store::Result<(RunId, Option<String>)> {
    match way {
        Way::Note(run, mode) => {
            let (note, _) = api.store.steer_run(&caller.project, thread, run, *mode, content).await?;
            Ok((run.clone(), Some(note.id.to_string())))
        }
        Way::InPlaceOf(run) => {
            let started = api.store.interrupt_run(&caller.project, thread, run, content.to_owned()).await?;
            Ok((started.run_id, None))
        }
        Way::NewRun => {
            let options = RunOptions { key_id: Some(caller.key.clone()), ..RunOptions::default() };
            let new = NewRun { messages: vec![content.into()], options, ..NewRun::default() };
            // A run that has begun in the meantime reads it.
            match api.store.send(&caller.project, thread, new, IfBusy::Steer).await? {
                Accepted::Started(started) | Accepted::Held(started) => Ok((started.run_id, None)),
                Accepted::Steered(started, note) => Ok((started.run_id, Some(note.to_string()))),
            }
        }
    }
}

fn content(body: &ActivityMessage) -> Result<String> {
    match &body.content {
        None => Err(Error::missing_field("content")),
        Some(content) if content.trim().is_empty() => Err(Error::invalid_field("content", "must not be blank")),
        Some(content) => Ok(content.clone()),
    }
}

/// Finds the run that a text is about: the one it names, or the one under way.
async fn target(api: &Api, caller: &Caller, id: &ThreadId, body: &ActivityMessage) -> Result<Option<Run>> {
    let named = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let as_target = match body.target_type.as_deref() {
        Some("run") => named(&body.target_id),
        Some(_) | None => None,
    };
    if let Some(run) = named(&body.reply_to_run_id).or(as_target) {
        return Ok(Some(history::find_run(api, caller, id, &run).await?));
    }
    let page = Page { limit: 10, offset: 0 };
    // Held runs may be newer than the one under way.
    let runs = api.store.list_runs(&caller.project, id, None, Order::NewestFirst, page).await?.items;
    Ok(runs.into_iter().find(is_under_way))
}

fn is_under_way(run: &Run) -> bool {
    !run.status.is_over() && run.status != RunStatus::Held
}

impl Decision {
    /// Decides by what the sender says and whether the run is under way.
    fn by_rule(mode: Option<&str>, run: Option<&Run>) -> Result<Self> {
        let run = run.filter(|run| is_under_way(run));
        let (route, intent, reason, way) = match (mode.filter(|mode| !mode.is_empty()), run) {
            (None | Some("fyi" | "checkpoint" | "interrupt"), None) => {
                ("none", "new_message", "No run is under way; a message starts one.", Way::NewRun)
            }
            (None | Some("checkpoint"), Some(run)) => {
                let way = Way::Note(run.id.clone(), SteeringMode::Checkpoint);
                ("worker_checkpoint", "steer", "A run is under way and reads notes with its next turn.", way)
            }
            (Some("interrupt"), Some(run)) => {
                let way = Way::InPlaceOf(run.id.clone());
                ("worker_interrupt", "interrupt", "A run is under way and is to be interrupted.", way)
            }
            (Some("fyi"), Some(run)) => {
                let way = Way::Note(run.id.clone(), SteeringMode::Fyi);
                ("human_fyi", "inform", "It is for people to read and asks nothing of the run.", way)
            }
            (Some(_), _) => return Err(Error::invalid_field("mode", "must be fyi, checkpoint or interrupt")),
        };
        Ok(Self { route, intent, reason, confidence: 1.0, control_action: None, way })
    }
}

impl Sent {
    async fn new(
        api: &Api,
        caller: &Caller,
        thread: &ThreadId,
        content: String,
        decision: Decision,
        run: RunId,
        note: Option<String>,
    ) -> Result<Self> {
        let found = api.store.find_run(&caller.project, &run).await?;
        let found = found.ok_or_else(|| Error::not_found("Run", &run))?;
        let is_note = note.is_some();
        let id = note.or(found.message_id.as_ref().map(ToString::to_string));
        Ok(Self {
            message: SentMessage { id, thread_id: thread.to_string(), role: "user", content, run_id: run.to_string() },
            delivery: Delivery {
                transport: if is_note { "steering" } else { "message" },
                run_id: run.to_string(),
                status: "accepted",
            },
            route_decision: decision,
            run: found.into(),
            communicator: None,
            control: None,
            event: None,
            events: Vec::new(),
            accepted: true,
            delivered: false,
            effect_applied: false,
            execution_started: !is_note,
            coordinator_required: false,
            limitation: None,
        })
    }
}
