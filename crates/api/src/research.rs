//! `/threads/{id}/research`: sessions of deep research, which this server does not do yet. It says so, instead of showing an
//! empty list to whoever waits for one; so there is none that could be read or deleted by its id.

use axum::extract::State;
use domain::ThreadId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, auth::Caller, error::ErrorBody, path::Path, threads::find_thread};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_research))
}

/// List a thread's research
///
/// Not supported: this version of the server does no deep research.
#[utoipa::path(get, path = "/threads/{id}/research", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 501, description = "There is no research", body = ErrorBody)))]
async fn list_research(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<()> {
    find_thread(&api, &caller, &id).await?;
    let message =
        "This version of the server does no deep research: agents with web_search that call others come closest";
    Err(Error::not_implemented(message))
}
