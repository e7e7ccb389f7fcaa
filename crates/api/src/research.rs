//! `/threads/{id}/research`: sessions of deep research, what they came to and what they have read.

mod view;

use axum::{Json, extract::State};
use domain::{ResearchId, ThreadId};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::SessionView;
use crate::{Api, Error, Result, auth::Caller, deleted::Deleted, path::Path};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_research)).routes(routes!(get_research, delete_research))
}

/// The sessions of a thread. `data` and `sessions` are the same list, since clients read one or the other.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResearchList)]
struct SessionList {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<SessionView>,
    sessions: Vec<SessionView>,
    has_more: bool,
    total_count: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OneResearch)]
struct OneSession {
    session: SessionView,
}

/// List a thread's research
///
/// The newest first, a hundred at most. What a session has read is in the session itself.
#[utoipa::path(get, path = "/threads/{id}/research", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "The sessions", body = SessionList)))]
async fn list_research(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<SessionList>> {
    let (sessions, total_count) = api.store.list_research(&caller.project, &id).await?;
    let data: Vec<_> = sessions.into_iter().map(|session| SessionView::new(session, None)).collect();
    let has_more = data.len() < usize::try_from(total_count).unwrap_or(0);
    Ok(Json(SessionList { object: "list", sessions: data.clone(), data, has_more, total_count }))
}

/// Get a session of research
#[utoipa::path(get, path = "/threads/{id}/research/{session_id}", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"),
        ("session_id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session, with the pages it has read", body = OneSession)))]
async fn get_research(
    State(api): State<Api>,
    caller: Caller,
    Path((id, session)): Path<(ThreadId, ResearchId)>,
) -> Result<Json<OneSession>> {
    let found = api.store.find_research(&caller.project, &id, &session).await?;
    let found = found.ok_or_else(|| Error::not_found("Research session", &session))?;
    let sources = api.store.list_research_sources(&session).await?;
    Ok(Json(OneSession { session: SessionView::new(found, Some(sources)) }))
}

/// Delete a session of research
///
/// One that is under way is stopped, and its run goes on without it. A report that was written stays in the workspace.
#[utoipa::path(delete, path = "/threads/{id}/research/{session_id}", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"),
        ("session_id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "It is gone", body = Deleted)))]
async fn delete_research(
    State(api): State<Api>,
    caller: Caller,
    Path((id, session)): Path<(ThreadId, ResearchId)>,
) -> Result<Json<Deleted>> {
    api.store.delete_research(&caller.project, &id, &session).await?;
    Ok(Json(Deleted::new("sessionId", session)))
}
