//! `/schedules`: work that starts by itself, at the moments of a calendar.

use axum::{Json, extract::State, http::StatusCode};
use chrono::Utc;
use domain::{ScheduleId, schedule::Schedule};
use serde::Deserialize;
use store::schedules::{ExecutionFilter, ScheduleFilter};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets,
    deleted::Deleted,
    list::List,
    path::Path,
    query::{self, Query},
};

mod input;
mod view;

use input::{CreateSchedule, UpdateSchedule};
use view::{ExecutionView, ScheduleEnvelope, ScheduleView, TriggeredView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_schedules, create_schedule))
        .routes(routes!(list_executions))
        .routes(routes!(get_schedule, update_schedule, delete_schedule))
        .routes(routes!(trigger_schedule))
        .routes(routes!(enable_schedule))
        .routes(routes!(disable_schedule))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// Only those that are switched on, or off.
    #[serde(default, deserialize_with = "query::boolean")]
    enabled: Option<bool>,
    agent_id: Option<String>,
    environment_id: Option<String>,
    /// `recurring` or `one-time`.
    schedule_type: Option<String>,
    app_id: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ExecutionsQuery {
    schedule_id: Option<String>,
    app_id: Option<String>,
    context_id: Option<String>,
    /// Only moments from this one on (RFC 3339).
    range_start: Option<String>,
    /// Only moments up to this one (RFC 3339).
    range_end: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List schedules
///
/// Newest first.
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<ScheduleView>)))]
async fn list_schedules(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<ScheduleView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let is_recurring = match query.schedule_type.as_deref() {
        None | Some("") => None,
        Some("recurring") => Some(true),
        Some("one-time") => Some(false),
        Some(_) => return Err(Error::invalid_field("scheduleType", "must be recurring or one-time")),
    };
    let filter = ScheduleFilter {
        enabled: query.enabled,
        agent_id: query.agent_id,
        environment_id: query.environment_id,
        is_recurring,
        app_id: query.app_id,
    };
    let schedules = api.store.list_schedules(&caller.project, &filter, page).await?;
    let ids: Vec<_> = schedules.items.iter().map(|schedule| schedule.id.clone()).collect();
    let mut tallies = api.store.tally_schedules(&ids).await?;
    Ok(Json(List::new(schedules, page, |schedule| {
        let tally = tallies.remove(&schedule.id).unwrap_or_default();
        ScheduleView::new(schedule, tally)
    })))
}

/// Create a schedule
///
/// `recurring` with a `cronExpression` of five fields, or `one-time` with a `scheduledTime`. Times of day are those of
/// `timezone`: one that a day skips when clocks are set forward comes at the first moment after, one that a day has twice
/// comes once.
#[utoipa::path(post, path = "/schedules", tag = "schedules", request_body = CreateSchedule,
    responses(
        (status = 201, description = "The schedule", body = ScheduleEnvelope),
        (status = 404, description = "No such agent or environment", body = crate::error::ErrorBody),
    ))]
async fn create_schedule(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateSchedule>,
) -> Result<(StatusCode, Json<ScheduleEnvelope>)> {
    let new = body.into_new(Utc::now())?;
    if new.environment_id.is_none() {
        // Made where there is none yet, so that the schedule has one to work in.
        api.store.default_environment(&caller.project).await?;
    }
    let schedule = api.store.create_schedule(&caller.project, new).await?;
    Ok((StatusCode::CREATED, Json(envelope(&api, schedule).await?)))
}

/// List executions
///
/// What became of the moments that have come, newest first; those of deleted schedules too.
#[utoipa::path(get, path = "/schedules/executions", tag = "schedules", params(ExecutionsQuery),
    responses((status = 200, description = "A part of the list", body = List<ExecutionView>)))]
async fn list_executions(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ExecutionsQuery>,
) -> Result<Json<List<ExecutionView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let filter = ExecutionFilter {
        schedule_id: query.schedule_id,
        app_id: query.app_id,
        context_id: query.context_id,
        from: query::moment("rangeStart", query.range_start.as_deref())?,
        until: query::moment("rangeEnd", query.range_end.as_deref())?,
    };
    let executions = api.store.list_executions(&caller.project, &filter, page).await?;
    Ok(Json(List::new(executions, page, ExecutionView::from)))
}

/// Get a schedule
#[utoipa::path(get, path = "/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, description = "The schedule", body = ScheduleEnvelope)))]
async fn get_schedule(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<Json<ScheduleEnvelope>> {
    let schedule = api.store.find_schedule(&caller.project, &id).await?;
    let schedule = schedule.ok_or_else(|| Error::not_found("Schedule", &id))?;
    Ok(Json(envelope(&api, schedule).await?))
}

/// Change a schedule
///
/// An absent field is left alone, `null` clears it. The next moment is found anew, and failures before the change no
/// longer count towards switching the schedule off.
#[utoipa::path(patch, path = "/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    request_body = UpdateSchedule,
    responses((status = 200, description = "The schedule after the change", body = ScheduleEnvelope)))]
async fn update_schedule(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
    Body(body): Body<UpdateSchedule>,
) -> Result<Json<ScheduleEnvelope>> {
    let schedule = api.store.update_schedule(&caller.project, &id, |schedule| body.apply(schedule, Utc::now())).await?;
    Ok(Json(envelope(&api, schedule).await?))
}

/// Delete a schedule
///
/// It fires no more. What it has started goes on.
#[utoipa::path(delete, path = "/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_schedule(State(api): State<Api>, caller: Caller, Path(id): Path<ScheduleId>) -> Result<Json<Deleted>> {
    api.store.delete_schedule(&caller.project, &id).await?;
    Ok(Json(Deleted::new("scheduleId", &id)))
}

/// Fire a schedule now
///
/// Whatever its moments are, and whether or not it is switched on. Its moments stay as they are.
#[utoipa::path(post, path = "/schedules/{id}/trigger", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses(
        (status = 200, description = "What was started", body = TriggeredView),
        (status = 402, description = "A budget is used up", body = crate::error::ErrorBody),
        (status = 409, description = "It cannot start: its agent or its environment is gone", body = crate::error::ErrorBody),
    ))]
async fn trigger_schedule(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<Json<TriggeredView>> {
    let schedule = api.store.find_schedule(&caller.project, &id).await?;
    let schedule = schedule.ok_or_else(|| Error::not_found("Schedule", &id))?;
    budgets::check(&api, &caller, schedule.agent_id.as_ref()).await?;
    let triggered = api.store.trigger_schedule(&caller.project, &id).await?;
    match triggered.thread {
        Some(thread) => Ok(Json(TriggeredView::new(thread, triggered.execution))),
        None => {
            let why = triggered.execution.error.unwrap_or_default();
            Err(Error::new(StatusCode::CONFLICT, format!("The schedule cannot start: {why}")))
        }
    }
}

/// Switch a schedule on
#[utoipa::path(patch, path = "/schedules/{id}/enable", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, description = "The schedule", body = ScheduleEnvelope)))]
async fn enable_schedule(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<Json<ScheduleEnvelope>> {
    switch(&api, &caller, &id, true).await
}

/// Switch a schedule off
///
/// Its moments pass without anything; what it has started goes on.
#[utoipa::path(patch, path = "/schedules/{id}/disable", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, description = "The schedule", body = ScheduleEnvelope)))]
async fn disable_schedule(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ScheduleId>,
) -> Result<Json<ScheduleEnvelope>> {
    switch(&api, &caller, &id, false).await
}

async fn switch(api: &Api, caller: &Caller, id: &ScheduleId, enabled: bool) -> Result<Json<ScheduleEnvelope>> {
    let change = |schedule: &mut Schedule| {
        schedule.enabled = enabled;
        Ok::<_, Error>(())
    };
    let schedule = api.store.update_schedule(&caller.project, id, change).await?;
    Ok(Json(envelope(api, schedule).await?))
}

async fn envelope(api: &Api, schedule: Schedule) -> Result<ScheduleEnvelope> {
    let tally = api.store.tally_schedules(std::slice::from_ref(&schedule.id)).await?.remove(&schedule.id);
    Ok(ScheduleEnvelope::new(schedule, tally.unwrap_or_default()))
}
