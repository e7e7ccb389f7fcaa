//! `/agents`: stored instructions, a model and skills.

use axum::{Json, extract::State, http::StatusCode};
use domain::{AgentId, agent::Agent};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
    skills,
};

mod input;
mod versions;
mod view;

use input::{CreateAgent, UpdateAgent};
use view::{AgentEnvelope, AgentView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_agents, create_agent))
        .routes(routes!(get_agent, update_agent, delete_agent))
        .merge(versions::routes())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Deletes for good, so that the id can be used again.
    #[serde(default, deserialize_with = "query::boolean")]
    hard: Option<bool>,
}

/// List agents
///
/// Newest first.
#[utoipa::path(get, path = "/agents", tag = "agents", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<AgentView>)))]
async fn list_agents(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<AgentView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let agents = api.store.list_agents(&caller.project, page).await?;
    Ok(Json(List::new(agents, page, AgentView::from)))
}

/// Create an agent
///
/// Any model name is accepted; a model that does not exist fails when a run asks for it.
#[utoipa::path(post, path = "/agents", tag = "agents", request_body = CreateAgent,
    responses(
        (status = 201, description = "The agent", body = AgentEnvelope),
        (status = 409, description = "The chosen id is taken", body = crate::error::ErrorBody),
    ))]
async fn create_agent(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateAgent>,
) -> Result<(StatusCode, Json<AgentEnvelope>)> {
    let new = body.into_new()?;
    skills::check_enabled(&api, &caller.project, &new.settings.enabled_skills).await?;
    let agent = api.store.create_agent(&caller.project, new).await?;
    Ok((StatusCode::CREATED, Json(AgentEnvelope::from(agent))))
}

/// Get an agent
#[utoipa::path(get, path = "/agents/{id}", tag = "agents", params(("id" = String, Path, description = "The agent's id")),
    responses((status = 200, description = "The agent", body = AgentEnvelope)))]
async fn get_agent(State(api): State<Api>, caller: Caller, Path(id): Path<AgentId>) -> Result<Json<AgentEnvelope>> {
    Ok(Json(AgentEnvelope::from(find(&api, &caller, &id).await?)))
}

async fn find(api: &Api, caller: &Caller, id: &AgentId) -> Result<Agent> {
    api.store.find_agent(&caller.project, id).await?.ok_or_else(|| Error::not_found("Agent", id))
}

/// Change an agent
///
/// An absent field is left alone, `null` clears it. What is changed is kept as a new version.
#[utoipa::path(patch, path = "/agents/{id}", tag = "agents", params(("id" = String, Path, description = "The agent's id")),
    request_body = UpdateAgent,
    responses((status = 200, description = "The agent after the change", body = AgentEnvelope)))]
async fn update_agent(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Body(body): Body<UpdateAgent>,
) -> Result<Json<AgentEnvelope>> {
    body.check()?;
    skills::check_enabled(&api, &caller.project, body.enabled_skills()).await?;
    let agent = api.store.update_agent(&caller.project, &id, |agent| body.apply(agent)).await?;
    Ok(Json(AgentEnvelope::from(agent)))
}

/// Delete an agent
///
/// It is no longer found; threads that named it stay readable.
#[utoipa::path(delete, path = "/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent's id"), DeleteQuery),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_agent(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<AgentId>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<Deleted>> {
    api.store.delete_agent(&caller.project, &id, query.hard.unwrap_or(false)).await?;
    Ok(Json(Deleted::new("agentId", &id)))
}
