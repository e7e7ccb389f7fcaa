//! `/threads/{id}/queue`: messages that wait behind the run under way. These routes are an addition of this server.

use axum::{Json, extract::State};
use domain::{RunId, ThreadId};
use serde::{Deserialize, Serialize};
use store::queue::Held;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result, auth::Caller, body::Body, deleted::Deleted, error::ErrorBody, path::Path, runs::RunView,
    threads::find_thread,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_queue)).routes(routes!(update_queued, delete_queued))
}

/// A message that waits for its turn.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueuedMessage {
    /// The run that it will cause.
    run_id: String,
    content: String,
    /// 0 is next.
    position: usize,
    run: RunView,
}

/// The messages that wait, next one first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueList {
    /// Always `list`.
    object: &'static str,
    data: Vec<QueuedMessage>,
    /// Always false: this is the whole queue.
    has_more: bool,
    total_count: usize,
}

/// A change of a waiting message. An absent field is left alone.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"content": "Rather in Rust", "position": 0}))]
struct UpdateQueued {
    content: Option<String>,
    /// Its new place: 0 is next, anything beyond the end is last.
    position: Option<usize>,
}

/// List the messages that wait behind the run under way
///
/// They are not among the thread's messages yet. An addition of this server.
#[utoipa::path(get, path = "/threads/{id}/queue", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "The queue", body = QueueList)))]
async fn list_queue(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<QueueList>> {
    find_thread(&api, &caller, &id).await?;
    Ok(Json(api.store.list_held(&caller.project, &id).await?.into()))
}

/// Change a waiting message, or its place
///
/// Answers with the whole queue. An addition of this server.
#[utoipa::path(patch, path = "/threads/{id}/queue/{runId}", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("runId" = String, Path, description = "The id of the run that the message will cause"),
    ),
    request_body = UpdateQueued,
    responses(
        (status = 200, description = "The queue after the change", body = QueueList),
        (status = 404, description = "The message does not wait, or no longer", body = ErrorBody),
    ))]
async fn update_queued(
    State(api): State<Api>,
    caller: Caller,
    Path((id, run)): Path<(ThreadId, RunId)>,
    Body(body): Body<UpdateQueued>,
) -> Result<Json<QueueList>> {
    find_thread(&api, &caller, &id).await?;
    if body.content.as_deref().is_some_and(|content| content.trim().is_empty()) {
        return Err(Error::invalid_field("content", "must not be empty"));
    }
    let held = api.store.change_held(&caller.project, &id, &run, body.content.as_deref(), body.position).await?;
    Ok(Json(held.into()))
}

/// Take a waiting message out of the queue
///
/// Its run ends as cancelled, and so does its stream. An addition of this server.
#[utoipa::path(delete, path = "/threads/{id}/queue/{runId}", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("runId" = String, Path, description = "The id of the run that the message would have caused"),
    ),
    responses(
        (status = 200, description = "It waits no longer", body = Deleted),
        (status = 404, description = "The message does not wait, or no longer", body = ErrorBody),
    ))]
async fn delete_queued(
    State(api): State<Api>,
    caller: Caller,
    Path((id, run)): Path<(ThreadId, RunId)>,
) -> Result<Json<Deleted>> {
    api.store.drop_held(&caller.project, &id, &run).await?;
    Ok(Json(Deleted::new("runId", &run)))
}

impl From<Vec<Held>> for QueueList {
    fn from(held: Vec<Held>) -> Self {
        let data: Vec<_> = held
            .into_iter()
            .enumerate()
            .map(|(position, held)| QueuedMessage {
                run_id: held.run.id.to_string(),
                content: held.content,
                position,
                run: held.run.into(),
            })
            .collect();
        Self { object: "list", total_count: data.len(), data, has_more: false }
    }
}
