//! `/triggers`: work that starts when somebody else tells of an event.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    TriggerId,
    trigger::{Delivery, Trigger},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::triggers::TriggerFilter;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
};

mod inbound;
mod input;
mod view;

pub(crate) use inbound::open_routes;
use input::{CreateTrigger, NewSecret, UpdateTrigger};
use view::{ExecutionEnvelope, ExecutionView, TriggerEnvelope, TriggerView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_triggers, create_trigger))
        .routes(routes!(get_trigger, update_trigger, delete_trigger))
        .routes(routes!(enable_trigger))
        .routes(routes!(disable_trigger))
        .routes(routes!(rotate_trigger_secret))
        .routes(routes!(test_trigger))
        .routes(routes!(list_trigger_executions))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    environment_id: Option<String>,
    source: Option<String>,
    /// Only those that are switched on, or off.
    #[serde(default, deserialize_with = "query::boolean")]
    enabled: Option<bool>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// What is told to a trigger that is tried.
#[derive(Deserialize, ToSchema)]
struct TestBody {
    #[schema(value_type = Option<Object>)]
    payload: Option<Map<String, Value>>,
}

/// List triggers
///
/// Newest first.
#[utoipa::path(get, path = "/triggers", tag = "triggers", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<TriggerView>)))]
async fn list_triggers(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<TriggerView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let filter = TriggerFilter { environment_id: query.environment_id, source: query.source, enabled: query.enabled };
    let triggers = api.store.list_triggers(&caller.project, &filter, page).await?;
    Ok(Json(List::new(triggers, page, |trigger| TriggerView::new(&api, trigger))))
}

/// Create a trigger
///
/// The answer has the `webhookSecret` that events are signed with, this once, and the `webhookUrl` that they are sent to.
#[utoipa::path(post, path = "/triggers", tag = "triggers", request_body = CreateTrigger,
    responses(
        (status = 201, description = "The trigger, with its secret", body = TriggerEnvelope),
        (status = 404, description = "No such agent or environment", body = crate::error::ErrorBody),
        (status = 501, description = "The action is not one that this server does", body = crate::error::ErrorBody),
    ))]
async fn create_trigger(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateTrigger>,
) -> Result<(StatusCode, Json<TriggerEnvelope>)> {
    let (trigger, secret) = api.store.create_trigger(&caller.project, body.into_new()?).await?;
    Ok((StatusCode::CREATED, Json(TriggerEnvelope::with_secret(&api, trigger, &secret))))
}

/// Get a trigger
#[utoipa::path(get, path = "/triggers/{id}", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    responses((status = 200, description = "The trigger", body = TriggerEnvelope)))]
async fn get_trigger(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
) -> Result<Json<TriggerEnvelope>> {
    Ok(Json(TriggerEnvelope::new(&api, find(&api, &caller, &id).await?)))
}

/// Change a trigger
///
/// An absent field is left alone; `null` clears the agent and the filters.
#[utoipa::path(patch, path = "/triggers/{id}", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    request_body = UpdateTrigger,
    responses((status = 200, description = "The trigger after the change", body = TriggerEnvelope)))]
async fn update_trigger(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
    Body(body): Body<UpdateTrigger>,
) -> Result<Json<TriggerEnvelope>> {
    let trigger = api.store.update_trigger(&caller.project, &id, |trigger| body.apply(trigger)).await?;
    Ok(Json(TriggerEnvelope::new(&api, trigger)))
}

/// Delete a trigger
///
/// It fires no more. What it has started goes on.
#[utoipa::path(delete, path = "/triggers/{id}", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_trigger(State(api): State<Api>, caller: Caller, Path(id): Path<TriggerId>) -> Result<Json<Deleted>> {
    api.store.delete_trigger(&caller.project, &id).await?;
    Ok(Json(Deleted::new("triggerId", &id)))
}

/// Switch a trigger on
#[utoipa::path(patch, path = "/triggers/{id}/enable", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    responses((status = 200, description = "The trigger", body = TriggerEnvelope)))]
async fn enable_trigger(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
) -> Result<Json<TriggerEnvelope>> {
    switch(&api, &caller, &id, true).await
}

/// Switch a trigger off
///
/// Its events pass without anything; what it has started goes on.
#[utoipa::path(patch, path = "/triggers/{id}/disable", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    responses((status = 200, description = "The trigger", body = TriggerEnvelope)))]
async fn disable_trigger(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
) -> Result<Json<TriggerEnvelope>> {
    switch(&api, &caller, &id, false).await
}

/// Give a trigger another secret
///
/// What is signed with the one before is refused from now on. The answer has the new one, this once.
#[utoipa::path(post, path = "/triggers/{id}/rotate-secret", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    request_body = NewSecret,
    responses((status = 200, description = "The trigger, with its secret", body = TriggerEnvelope)))]
async fn rotate_trigger_secret(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
    Body(body): Body<NewSecret>,
) -> Result<Json<TriggerEnvelope>> {
    let secret = body.into_secret()?;
    let (trigger, secret) = api.store.set_trigger_secret(&caller.project, &id, secret).await?;
    Ok(Json(TriggerEnvelope::with_secret(&api, trigger, &secret)))
}

/// Try a trigger
///
/// As if its event had come with this payload, whatever its filters are and whether or not it is switched on.
#[utoipa::path(post, path = "/triggers/{id}/test", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id")),
    request_body = TestBody,
    responses((status = 200, description = "What was started, or why nothing could be", body = ExecutionEnvelope)))]
async fn test_trigger(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
    Body(body): Body<TestBody>,
) -> Result<Json<ExecutionEnvelope>> {
    let trigger = find(&api, &caller, &id).await?;
    let delivery = Delivery { id: None, event: Some(trigger.event), payload: body.payload.unwrap_or_default() };
    let execution = api.store.test_trigger(&caller.project, &id, &delivery).await?;
    Ok(Json(ExecutionEnvelope { execution: execution.into() }))
}

/// List a trigger's executions
///
/// The events that were taken, newest first. Those that the trigger does not wait for are not kept.
#[utoipa::path(get, path = "/triggers/{id}/executions", tag = "triggers",
    params(("id" = String, Path, description = "The trigger's id"), PageQuery),
    responses((status = 200, description = "A part of the list", body = List<ExecutionView>)))]
async fn list_trigger_executions(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<TriggerId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<ExecutionView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    find(&api, &caller, &id).await?;
    let executions = api.store.list_trigger_executions(&caller.project, &id, page).await?;
    Ok(Json(List::new(executions, page, ExecutionView::from)))
}

async fn find(api: &Api, caller: &Caller, id: &TriggerId) -> Result<Trigger> {
    api.store.find_trigger(&caller.project, id).await?.ok_or_else(|| Error::not_found("Trigger", id))
}

async fn switch(api: &Api, caller: &Caller, id: &TriggerId, enabled: bool) -> Result<Json<TriggerEnvelope>> {
    let change = |trigger: &mut Trigger| {
        trigger.enabled = enabled;
        Ok::<_, Error>(())
    };
    let trigger = api.store.update_trigger(&caller.project, id, change).await?;
    Ok(Json(TriggerEnvelope::new(api, trigger)))
}
