//! `/threads/{id}/actions`, `/activity-groups` and `/trace-clusters`: what was done, call by call, run by run and by kind.
//! Where a text goes (`/activity/*`) is `route`.
//!
//! All of it is made from the event log. An action is a tool call; a group is a run with its calls; a cluster is all calls
//! of one tool that ended alike. Nothing here is guessed by a model.

use std::{collections::HashMap, ops::ControlFlow};

use axum::{Json, extract::State};
use domain::{RunId, ThreadId};
use serde::Deserialize;
use store::{Page, events::Gap, messages::Order};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    events::parse_sequence,
    history::{self, Call, Calls},
    path::Path,
    query::{self, Query},
    threads::find_thread,
};

mod route;
mod view;

use view::{ActionList, ActionView, ClusterList, GroupList, GroupView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_actions))
        .routes(routes!(list_activity_groups))
        .routes(routes!(list_trace_clusters))
        .merge(route::routes())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ActionsQuery {
    /// Only calls of this run.
    run_id: Option<String>,
    /// Only calls of this activity group.
    group_id: Option<String>,
    /// Only calls after the event with this number.
    after: Option<String>,
    /// The same as `after`: the `nextCursor` of the page before.
    cursor: Option<String>,
    /// How many at most: 0 to 1000, 100 if absent.
    limit: Option<i64>,
}

/// List a thread's tool calls
///
/// Oldest first.
#[utoipa::path(get, path = "/threads/{id}/actions", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), ActionsQuery),
    responses((status = 200, description = "A part of the calls", body = ActionList)))]
async fn list_actions(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<ActionsQuery>,
) -> Result<Json<ActionList>> {
    let limit = query::page(query.limit, None, 100, 1000)?.limit;
    let after = parse_sequence("after", query.after)?.or(parse_sequence("cursor", query.cursor)?).unwrap_or(0);
    find_thread(&api, &caller, &id).await?;
    let group = query.group_id.filter(|id| !id.is_empty());
    let run = query.run_id.filter(|id| !id.is_empty());
    let group = match group {
        Some(group) => Some(group.strip_prefix("group_").ok_or_else(|| Error::not_found("Group", &group))?.to_owned()),
        None => None,
    };
    let mut only: Option<RunId> = None;
    for named in [group, run].into_iter().flatten() {
        let found = history::find_run(&api, &caller, &id, &named).await?.id;
        if only.as_ref().is_some_and(|only| *only != found) {
            return Ok(Json(ActionList::new(Vec::new(), limit, None)));
        }
        only = Some(found);
    }
    // One more than asked for tells whether there is more.
    let (calls, gap) = read_calls(&api, &id, after, only.as_ref(), limit + 1).await?;
    Ok(Json(ActionList::new(calls.iter().map(|call| ActionView::new(&id, call)).collect(), limit, gap)))
}

/// Reads the first calls after a number, each to its end, and tells what is gone of the log they are read from.
async fn read_calls(
    api: &Api,
    id: &ThreadId,
    after: i64,
    run: Option<&RunId>,
    limit: i64,
) -> Result<(Vec<Call>, Option<Gap>)> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut calls = Calls::default();
    let gap = history::read(&api.store, id, after, |recorded| {
        calls.see(recorded, |recorded, count| {
            count < limit && run.is_none_or(|run| recorded.run_id.as_ref() == Some(run))
        });
        match calls.calls.len() >= limit && calls.is_settled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .await?;
    Ok((calls.calls, gap))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct GroupsQuery {
    /// Only the group of this run.
    run_id: Option<String>,
    /// `open` (its run is under way) or `sealed`.
    status: Option<String>,
    /// Only groups that begin after the event with this number.
    after: Option<String>,
    /// Only groups that begin before the event with this number.
    before: Option<String>,
    /// The same as `after`: the `nextCursor` of the page before.
    cursor: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
}

/// List a thread's activity groups
///
/// A group is a run with its tool calls. Oldest first.
#[utoipa::path(get, path = "/threads/{id}/activity-groups", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), GroupsQuery),
    responses((status = 200, description = "A part of the groups", body = GroupList)))]
async fn list_activity_groups(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<GroupsQuery>,
) -> Result<Json<GroupList>> {
    let limit = query::page(query.limit, None, 50, 100)?.limit;
    let after = parse_sequence("after", query.after)?.or(parse_sequence("cursor", query.cursor)?).unwrap_or(0);
    let before = parse_sequence("before", query.before)?.unwrap_or(i64::MAX);
    let is_open = match query.status.as_deref() {
        None | Some("") => None,
        Some("open") => Some(true),
        Some("sealed") => Some(false),
        Some(_) => return Err(Error::invalid_field("status", "must be open or sealed")),
    };
    find_thread(&api, &caller, &id).await?;
    let runs = api.store.list_runs(&caller.project, &id, None, Order::OldestFirst, Page::ALL).await?;
    let run_id = query.run_id.filter(|id| !id.is_empty());
    let mut groups: Vec<GroupView> = runs
        .items
        .iter()
        .filter(|run| run.first_sequence > after && run.first_sequence < before)
        .filter(|run| is_open.is_none_or(|is_open| is_open != run.status.is_over()))
        .filter(|run| run_id.as_ref().is_none_or(|id| run.id.as_str() == id))
        // One more than asked for tells whether there is more.
        .take(usize::try_from(limit + 1).unwrap_or(usize::MAX))
        .map(GroupView::new)
        .collect();
    let mut gap = None;
    if let Some(first) = groups.iter().map(GroupView::first_sequence).min() {
        let places: HashMap<String, usize> =
            groups.iter().enumerate().map(|(n, group)| (group.run_id().to_owned(), n)).collect();
        gap = history::read(&api.store, &id, first - 1, |recorded| {
            let place = recorded.run_id.as_ref().and_then(|run| places.get(run.as_str()));
            if let Some(&n) = place {
                groups[n].see(&recorded);
            }
            ControlFlow::Continue(())
        })
        .await?;
    }
    Ok(Json(GroupList::new(groups, limit, gap)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ClustersQuery {
    /// How many clusters at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many calls are named of each: 0 to 500, 20 if absent.
    step_limit: Option<i64>,
}

/// List a thread's tool calls by kind
///
/// A cluster is all calls of one tool that ended alike, the largest first.
#[utoipa::path(get, path = "/threads/{id}/trace-clusters", tag = "threads",
    params(("id" = String, Path, description = "The thread's id"), ClustersQuery),
    responses((status = 200, description = "The clusters", body = ClusterList)))]
async fn list_trace_clusters(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(query): Query<ClustersQuery>,
) -> Result<Json<ClusterList>> {
    let limit = query::page(query.limit, None, 50, 100)?.limit;
    let steps = query::page(query.step_limit, None, 20, 500)?.limit;
    find_thread(&api, &caller, &id).await?;
    let (calls, gap) = read_calls(&api, &id, 0, None, i64::MAX).await?;
    Ok(Json(ClusterList::new(&id, &calls, limit, steps, gap)))
}
