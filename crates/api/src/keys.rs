//! `/api-keys`: the keys of the caller's project.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{Duration, NaiveDate, Utc};
use domain::{ApiKeyId, key::ApiKey};
use serde::Deserialize;
use store::{
    Page,
    keys::{KeyFilter, Owner, Usage},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    error::ErrorBody,
    list::List,
    path::Path,
    query::{self, Query},
};

mod input;
mod view;

pub(crate) use input::{CreateKey, UpdateKey};
use view::KeyAnalytics;
pub(crate) use view::{CreatedKey, KeyEnvelope, KeyList, KeyView, RevokedKey, UsageView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(key_analytics))
        .routes(routes!(get_key))
        .routes(routes!(reveal_key))
        .routes(routes!(revoke_key))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// Only those that open something, or that do not.
    #[serde(default, deserialize_with = "query::boolean")]
    is_active: Option<bool>,
    /// How many at most: 0 to 100; all if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List keys
///
/// Newest first; those that are revoked or expired too. The keys themselves are not kept.
#[utoipa::path(get, path = "/api-keys", tag = "keys", params(ListQuery),
    responses((status = 200, description = "The project's keys", body = KeyList)))]
async fn list_keys(State(api): State<Api>, caller: Caller, Query(query): Query<ListQuery>) -> Result<Json<KeyList>> {
    let page = match query.limit {
        Some(_) => query::page(query.limit, query.offset, 50, 100)?,
        None => Page { offset: query::page(None, query.offset, 0, 0)?.offset, ..Page::ALL },
    };
    let filter = KeyFilter { is_active: query.is_active, ..KeyFilter::default() };
    let keys = api.store.list_keys_of(Owner::Project(&caller.project), &filter, page).await?;
    Ok(Json(List::new(keys, page, KeyView::from).into()))
}

/// Make a key
///
/// The key is in the answer and shown only now. It cannot have a scope that the key which makes it does not have.
#[utoipa::path(post, path = "/api-keys", tag = "keys", request_body = CreateKey,
    responses((status = 201, description = "The key", body = CreatedKey)))]
async fn create_key(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>)> {
    Ok((StatusCode::CREATED, Json(create(&api, &caller, body).await?)))
}

/// Makes a key as the body says.
pub(crate) async fn create(api: &Api, caller: &Caller, body: CreateKey) -> Result<CreatedKey> {
    let (new, project) = body.into_new(caller, Utc::now())?;
    let project = match project {
        None => caller.project.clone(),
        Some(named) => {
            let found = api.store.find_project(&caller.organization, &named).await?;
            found.ok_or_else(|| Error::not_found("Project", &named))?.id
        }
    };
    let (key, text) = api.store.create_key_with(&project, new).await?;
    Ok(CreatedKey::new(key, &text))
}

/// Get a key
#[utoipa::path(get, path = "/api-keys/{id}", tag = "keys", params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, description = "The key, without its text", body = KeyEnvelope)))]
async fn get_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<Json<KeyEnvelope>> {
    Ok(Json(find(&api, Owner::Project(&caller.project), &id).await?.into()))
}

/// Finds a key of `owner`.
pub(crate) async fn find(api: &Api, owner: Owner<'_>, id: &ApiKeyId) -> Result<ApiKey> {
    api.store.find_key(owner, id).await?.ok_or_else(|| Error::not_found("API key", id))
}

/// Show a key again
///
/// Not possible: a key is kept as a hash.
#[utoipa::path(get, path = "/api-keys/{id}/reveal", tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 410, description = "The key was shown when it was made", body = ErrorBody)))]
async fn reveal_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<()> {
    find(&api, Owner::Project(&caller.project), &id).await?;
    let message = "A key is shown once, when it is made, and kept as a hash: revoke this one and make another";
    Err(Error::new(StatusCode::GONE, message).with_code("not_kept"))
}

/// Revoke a key
///
/// It is refused from now on, on every server. Runs that it has started go on. A key with more scopes than the caller's own
/// is left to those who have them.
#[utoipa::path(post, path = "/api-keys/{id}/revoke", tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, description = "It is revoked", body = RevokedKey)))]
async fn revoke_key(State(api): State<Api>, caller: Caller, Path(id): Path<ApiKeyId>) -> Result<Json<RevokedKey>> {
    let key = find(&api, Owner::Project(&caller.project), &id).await?;
    input::check_given(&caller, &key.scopes)?;
    Ok(Json(api.store.revoke_key_of(Owner::Project(&caller.project), &id).await?.into()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct AnalyticsQuery {
    /// `day`, `week`, `month` (if absent), `year` or `all`.
    period: Option<String>,
}

/// Tell how keys are used
///
/// Other servers of the installation may have counted a minute more.
#[utoipa::path(get, path = "/api-keys/analytics/overview", tag = "keys", params(AnalyticsQuery),
    responses((status = 200, description = "Requests by key and by day", body = KeyAnalytics)))]
async fn key_analytics(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<AnalyticsQuery>,
) -> Result<Json<KeyAnalytics>> {
    let today = Utc::now().date_naive();
    let (period, since) = match query.period.as_deref() {
        Some("day") => ("day", days_before(today, 0)),
        Some("week") => ("week", days_before(today, 6)),
        None | Some("" | "month") => ("month", days_before(today, 29)),
        Some("year") => ("year", days_before(today, 364)),
        Some("all") => ("all", None),
        Some(_) => return Err(Error::invalid_field("period", "must be day, week, month, year or all")),
    };
    api.uses.write(&api.store).await?;
    let owner = Owner::Project(&caller.project);
    let by_key = api.store.sum_key_usage(owner, since).await?;
    let by_day = api.store.list_key_usage(owner, None, since).await?;
    Ok(Json(KeyAnalytics {
        period,
        total_keys: by_key.len(),
        active_keys: by_key.iter().filter(|key| key.is_active).count(),
        usage: sum(by_day.iter().map(|day| day.usage)).into(),
        by_key: by_key.into_iter().map(Into::into).collect(),
        by_day: by_day.into_iter().map(Into::into).collect(),
    }))
}

/// Gives the first of so many days up to `today`.
pub(crate) fn days_before(today: NaiveDate, days: i64) -> Option<NaiveDate> {
    today.checked_sub_signed(Duration::days(days))
}

pub(crate) fn sum(usage: impl Iterator<Item = Usage>) -> Usage {
    usage.fold(Usage::default(), |sum, more| Usage {
        requests: sum.requests + more.requests,
        failures: sum.failures + more.failures,
    })
}
