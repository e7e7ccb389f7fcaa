//! `/admin/keys`: the keys of all projects of an organization, for its administrators.

use axum::{Json, extract::State, http::StatusCode};
use chrono::Utc;
use domain::ApiKeyId;
use serde::{Deserialize, Serialize};
use store::keys::{DayUsage, KeyFilter, Owner};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use std::collections::BTreeMap;

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    deleted::Deleted,
    keys::{self, CreateKey, CreatedKey, KeyEnvelope, KeyList, KeyView, RevokedKey, UpdateKey, UsageView},
    list::List,
    path::Path,
    query::{self, Query},
    timestamp::Timestamp,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_all_keys, create_any_key))
        .routes(routes!(get_any_key, update_key, delete_key))
        .routes(routes!(revoke_any_key))
        .routes(routes!(key_usage))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// Only those that open something, or that do not.
    #[serde(default, deserialize_with = "query::boolean")]
    is_active: Option<bool>,
    user_id: Option<String>,
    /// How many at most: 0 to 1000, 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List the keys of all projects
///
/// Newest first; those that are revoked or expired too.
#[utoipa::path(get, path = "/admin/keys", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = KeyList)))]
async fn list_all_keys(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<KeyList>> {
    let page = query::page(query.limit, query.offset, 100, 1000)?;
    let filter = KeyFilter { is_active: query.is_active, user_id: query.user_id.filter(|id| !id.is_empty()) };
    let keys = api.store.list_keys_of(Owner::Organization(&caller.organization), &filter, page).await?;
    Ok(Json(List::new(keys, page, KeyView::from).into()))
}

/// Make a key for any project
///
/// The key is in the answer and shown only now. With the scope `admin` it is an administrator's itself.
#[utoipa::path(post, path = "/admin/keys", tag = "admin", request_body = CreateKey,
    responses((status = 201, description = "The key", body = CreatedKey)))]
async fn create_any_key(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>)> {
    Ok((StatusCode::CREATED, Json(keys::create(&api, &caller, body).await?)))
}

/// Get a key of any project
#[utoipa::path(get, path = "/admin/keys/{id}", tag = "admin", params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, description = "The key, without its text", body = KeyEnvelope)))]
async fn get_any_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<Json<KeyEnvelope>> {
    Ok(Json(keys::find(&api, Owner::Organization(&caller.organization), &id).await?.into()))
}

/// Change a key
///
/// An absent field is left alone. What its scopes are from now on holds with the next request, on every server.
#[utoipa::path(patch, path = "/admin/keys/{id}", tag = "admin",
    params(("id" = String, Path, description = "The key's id")), request_body = UpdateKey,
    responses((status = 200, description = "The key after the change", body = KeyEnvelope)))]
async fn update_key(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ApiKeyId>,
    Body(body): Body<UpdateKey>,
) -> Result<Json<KeyEnvelope>> {
    let owner = Owner::Organization(&caller.organization);
    let key = api.store.update_key(owner, &id, |key| body.apply(key, &caller, Utc::now())).await?;
    Ok(Json(key.into()))
}

/// Delete a key
///
/// It is revoked and no longer listed. The audit log still names it.
#[utoipa::path(delete, path = "/admin/keys/{id}", tag = "admin", params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<Json<Deleted>> {
    api.store.delete_key(Owner::Organization(&caller.organization), &id).await?;
    Ok(Json(Deleted::new("keyId", &id)))
}

/// Revoke a key of any project
///
/// It is refused from now on, on every server. Runs that it has started go on.
#[utoipa::path(post, path = "/admin/keys/{id}/revoke", tag = "admin",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, description = "It is revoked", body = RevokedKey)))]
async fn revoke_any_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<Json<RevokedKey>> {
    Ok(Json(api.store.revoke_key_of(Owner::Organization(&caller.organization), &id).await?.into()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// Days to look back, for example `1,30`.
    windows: Option<String>,
}

/// How a key is used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyUsage)]
struct KeyUsageView {
    key_id: String,
    last_used_at: Option<Timestamp>,
    lifetime: LifetimeUsage,
    /// By the days that were asked for; the day under way (UTC) is one of them.
    #[schema(value_type = Object)]
    windows: BTreeMap<i64, UsageView>,
}

/// All requests of a key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LifetimeUsage {
    #[serde(flatten)]
    usage: UsageView,
    last_used: Option<Timestamp>,
}

/// Tell how a key is used
///
/// Other servers of the installation may have counted a minute more.
#[utoipa::path(get, path = "/admin/keys/{id}/usage-stats", tag = "admin",
    params(("id" = String, Path, description = "The key's id"), UsageQuery),
    responses((status = 200, description = "Its requests", body = KeyUsageView)))]
async fn key_usage(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ApiKeyId>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<KeyUsageView>> {
    let mut windows = Vec::new();
    for text in query.windows.as_deref().unwrap_or("1,30").split(',').filter(|text| !text.is_empty()) {
        match text.trim().parse::<i64>() {
            Ok(days @ 1..=3660) => windows.push(days),
            Ok(_) | Err(_) => {
                return Err(Error::invalid_field("windows", "must be numbers of days like 1,30, each from 1 to 3660"));
            }
        }
    }
    let owner = Owner::Organization(&caller.organization);
    let key = keys::find(&api, owner, &id).await?;
    api.uses.write(&api.store).await?;
    let days = api.store.list_key_usage(owner, Some(&id), None).await?;
    let today = Utc::now().date_naive();
    let since = |window: i64| {
        let first = keys::days_before(today, window - 1);
        let within = |day: &&DayUsage| first.is_none_or(|first| day.day >= first);
        (window, keys::sum(days.iter().filter(within).map(|day| day.usage)).into())
    };
    let last_used = key.last_used_at.map(Timestamp::from);
    Ok(Json(KeyUsageView {
        key_id: id.into(),
        last_used_at: last_used,
        lifetime: LifetimeUsage { usage: keys::sum(days.iter().map(|day| day.usage)).into(), last_used },
        windows: windows.into_iter().map(since).collect(),
    }))
}
