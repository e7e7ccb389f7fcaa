//! `/threads/{id}/context`: how full the model's window is, and making room in it.
//!
//! The numbers come from rows: what the newest reply counted, and the size of what was written since. Everything that
//! asks a model is written down as a row that a worker claims.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{ThreadId, run::Outcome, thread::Thread};
use serde::{Deserialize, Serialize};
use store::copies::NewCopy;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets,
    error::ErrorBody,
    path::Path,
    threads::{ThreadView, check_title, find_thread},
    wire_event::WireEvent,
};

mod estimate;
mod side_question;

use estimate::{ContextDetails, ContextView};

/// How long an action is waited for: clients give up after a minute.
const MAX_WAIT: Duration = Duration::from_secs(50);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get_context))
        .routes(routes!(get_context_details))
        .routes(routes!(act))
        .routes(routes!(stream_side_question))
}

/// `{context}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContextEnvelope {
    context: ContextView,
}

/// What fills the window, and what can be done about it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContextDetailsEnvelope {
    context: ContextDetails,
    available_actions: AvailableActions,
    /// Always null.
    native_error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContextActions)]
pub(crate) struct AvailableActions {
    compact: bool,
    clear: bool,
    btw: bool,
    fork: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ContextActionKind)]
pub(crate) enum ActionKind {
    /// Summarise the conversation so far, and go on from the summary.
    Compact,
    /// Have the model forget the conversation so far. Messages, log and files stay.
    Clear,
    /// Copy the thread with its history; the answer's `thread` is the copy.
    Fork,
    /// Ask a side question about the thread.
    Btw,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ContextActionRequest)]
struct ActionRequest {
    action: ActionKind,
    /// For `btw` the question; for `compact` what the summary shall look at.
    prompt: Option<String>,
    /// The title of a fork.
    title: Option<String>,
}

/// `{action}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContextActionResult)]
pub(crate) struct ActionEnvelope {
    action: ActionView,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ContextAction)]
pub(crate) struct ActionView {
    #[serde(rename = "type")]
    kind: ActionKind,
    thread_id: String,
    /// Always null.
    session_id: Option<String>,
    /// A sentence for people.
    message: Option<String>,
    /// The answer to a side question.
    response_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<ThreadView>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = SideQuestion)]
struct SideQuestionRequest {
    prompt: Option<String>,
}

/// Tell how full the context window is
#[utoipa::path(get, path = "/threads/{id}/context", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "How full it is", body = ContextEnvelope)))]
async fn get_context(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
) -> Result<Json<ContextEnvelope>> {
    let thread = find_thread(&api, &caller, &id).await?;
    Ok(Json(ContextEnvelope { context: ContextView::of(&api, &caller, &thread).await? }))
}

/// Tell what fills the context window
#[utoipa::path(get, path = "/threads/{id}/context/details", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "What fills it, by category", body = ContextDetailsEnvelope)))]
async fn get_context_details(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
) -> Result<Json<ContextDetailsEnvelope>> {
    let thread = find_thread(&api, &caller, &id).await?;
    let details = ContextDetails::of(&api, &caller, &thread).await?;
    let is_used = details.has_entries();
    let is_idle = !thread.status.is_busy();
    Ok(Json(ContextDetailsEnvelope {
        context: details,
        available_actions: AvailableActions {
            compact: is_used && is_idle,
            clear: is_used && is_idle,
            btw: is_used,
            fork: is_used && is_idle,
        },
        native_error: None,
    }))
}

/// Compact, clear or fork a thread's context, or ask a side question
///
/// Waits up to 50 seconds for the outcome. What takes longer goes on, and the thread's events tell its end.
#[utoipa::path(post, path = "/threads/{id}/context/actions", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    request_body = ActionRequest,
    responses(
        (status = 200, description = "It is done", body = ActionEnvelope),
        (status = 202, description = "It goes on", body = ActionEnvelope),
        (status = 402, description = "A budget is used up", body = ErrorBody),
        (status = 409, description = "A run of the thread is under way", body = ErrorBody),
        (status = 502, description = "The model could not do it", body = ErrorBody),
    ))]
async fn act(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(request): Body<ActionRequest>,
) -> Result<Response> {
    let thread = find_thread(&api, &caller, &id).await?;
    let mut fork = None;
    let (status, message, response_text) = match request.action {
        ActionKind::Compact => compact(&api, &caller, &thread, request.prompt).await?,
        ActionKind::Clear => {
            let used = ContextView::of(&api, &caller, &thread).await?.used_tokens;
            api.store.clear_context(&caller.project, &id, used).await?;
            (StatusCode::OK, "The model starts afresh; messages, log and files are as they were.", None)
        }
        ActionKind::Fork => {
            if thread.status.is_busy() {
                return Err(store::Error::Busy.into());
            }
            let title = request.title.filter(|title| !title.trim().is_empty());
            check_title(title.as_deref().unwrap_or_default())
                .map_err(|message| Error::invalid_field("title", message))?;
            let copied = api.store.copy_thread(&caller.project, &id, &NewCopy { title, ..NewCopy::default() }).await?;
            fork = Some(copied.thread);
            (StatusCode::OK, "The thread was copied with its history.", None)
        }
        ActionKind::Btw => {
            let prompt = question(request.prompt)?;
            match side_question::answer(&api, &caller, &id, &prompt, MAX_WAIT).await? {
                Some(text) => (StatusCode::OK, "The side question is answered.", Some(text)),
                None => (StatusCode::ACCEPTED, "The answer takes longer.", None),
            }
        }
    };
    let thread = match fork {
        Some(fork) => fork,
        None => find_thread(&api, &caller, &id).await?,
    };
    let action = ActionView {
        kind: request.action,
        thread_id: id.to_string(),
        session_id: None,
        message: Some(message.to_owned()),
        response_text,
        thread: Some(thread.into()),
    };
    Ok((status, Json(ActionEnvelope { action })).into_response())
}

/// Ask a side question while the thread's run goes on
///
/// The answer knows the conversation so far and becomes no part of it. It comes as events (`text/event-stream`) and ends
/// with `stream.completed`, like a run's.
#[utoipa::path(post, path = "/threads/{id}/context/actions/btw/stream", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    request_body = SideQuestionRequest,
    responses(
        (status = 200, description = "The answer", content_type = "text/event-stream", body = WireEvent),
        (status = 402, description = "A budget is used up", body = ErrorBody),
    ))]
async fn stream_side_question(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(request): Body<SideQuestionRequest>,
) -> Result<Response> {
    let prompt = question(request.prompt)?;
    side_question::stream(&api, &caller, &id, &prompt).await
}

fn question(prompt: Option<String>) -> Result<String> {
    prompt.filter(|prompt| !prompt.trim().is_empty()).ok_or_else(|| Error::missing_field("prompt"))
}

/// Has the conversation summarised and waits for it.
async fn compact(
    api: &Api,
    caller: &Caller,
    thread: &Thread,
    wishes: Option<String>,
) -> Result<(StatusCode, &'static str, Option<String>)> {
    budgets::check(api, caller, thread.agent_id.as_ref()).await?;
    let key = Some(caller.key.clone());
    let started = api.store.start_compaction(&caller.project, &thread.id, wishes, key).await?;
    let deadline = tokio::time::Instant::now() + MAX_WAIT;
    let tail = api.store.tail(
        started.thread_id.clone(),
        started.after_sequence,
        store::tail::Until::RunFinished(started.run_id.clone()),
    );
    let mut tail = std::pin::pin!(tail);
    // The tail ends with the run; what it gives is not needed. When it fails, the rows below say what is true.
    while let Ok(Some(Ok(_))) = tokio::time::timeout_at(deadline, futures::StreamExt::next(&mut tail)).await {}
    let run = api.store.find_run(&caller.project, &started.run_id).await?;
    match run.and_then(|run| run.outcome) {
        Some(Outcome::Completed { .. }) => Ok((StatusCode::OK, "The conversation so far is summarised.", None)),
        Some(Outcome::Failed { message, .. }) => Err(Error::new(StatusCode::BAD_GATEWAY, message)),
        Some(_) => Err(Error::new(StatusCode::CONFLICT, "The summary was cancelled")),
        None => Ok((StatusCode::ACCEPTED, "The conversation is still being summarised.", None)),
    }
}
