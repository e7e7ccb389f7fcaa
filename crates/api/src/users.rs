//! `/admin/users`: the people of an organization, for its administrators.

use axum::{Json, extract::State, http::StatusCode};
use chrono::Utc;
use domain::user::User;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{
    keys::Owner,
    users::{KnownUser, NewUser},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::{Body, Patch},
    check::{self, Fields, Verdict},
    deleted::Deleted,
    error::ErrorBody,
    list::List,
    path::Path,
    query::{self, Query},
    timestamp::Timestamp,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_users, create_user)).routes(routes!(get_user, update_user, delete_user))
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"id": "ann", "name": "Ann", "email": "ann@example.com"}))]
struct CreateUser {
    /// An id of your choice: what keys have as `userId`.
    id: Option<String>,
    name: String,
    email: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A change of a user. An absent field is left alone, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpdateUser {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    email: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
    /// `false` revokes all of their keys and lets them have no others; `true` lets them have new ones.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    is_active: Patch<bool>,
}

/// A user.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
struct UserView {
    #[schema(example = "ann")]
    id: String,
    organization_id: String,
    name: String,
    email: Option<String>,
    is_active: bool,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// How many of their keys open something.
    active_keys: i64,
    /// When one of their keys was last used, to the minute.
    last_login_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    deactivated_at: Option<Timestamp>,
}

impl From<KnownUser> for UserView {
    fn from(known: KnownUser) -> Self {
        let User { organization_id, id, name, email, metadata, created_at, updated_at, deactivated_at } = known.user;
        Self {
            id,
            organization_id: organization_id.into(),
            name,
            email,
            is_active: deactivated_at.is_none(),
            metadata,
            active_keys: known.active_keys,
            last_login_at: known.last_used_at.map(Into::into),
            created_at: created_at.into(),
            updated_at: updated_at.into(),
            deactivated_at: deactivated_at.map(Into::into),
        }
    }
}

/// `{user}`.
#[derive(Debug, Serialize, ToSchema)]
struct UserEnvelope {
    user: UserView,
}

impl From<KnownUser> for UserEnvelope {
    fn from(known: KnownUser) -> Self {
        Self { user: known.into() }
    }
}

/// A part of an organization's users. `users` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
struct UserList {
    #[serde(flatten)]
    list: List<UserView>,
    users: Vec<UserView>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    /// Only those who may have keys, or who may not.
    #[serde(default, deserialize_with = "query::boolean")]
    is_active: Option<bool>,
    /// How many at most: 0 to 1000, 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List users
///
/// By their names.
#[utoipa::path(get, path = "/admin/users", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = UserList)))]
async fn list_users(State(api): State<Api>, caller: Caller, Query(query): Query<ListQuery>) -> Result<Json<UserList>> {
    let page = query::page(query.limit, query.offset, 100, 1000)?;
    let users = api.store.list_users(&caller.organization, query.is_active, page).await?;
    let list = List::new(users, page, UserView::from);
    Ok(Json(UserList { users: list.data.clone(), list }))
}

/// Make a user
///
/// Not needed to make a key for somebody: a `userId` that nobody has is a new user.
#[utoipa::path(post, path = "/admin/users", tag = "admin", request_body = CreateUser,
    responses(
        (status = 201, description = "The user", body = UserEnvelope),
        (status = 409, description = "The id is taken", body = ErrorBody),
    ))]
async fn create_user(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateUser>,
) -> Result<(StatusCode, Json<UserEnvelope>)> {
    let mut fields = Fields::default();
    fields.check("name", check::name(&body.name));
    if let Some(id) = &body.id {
        fields.check("id", check::name(id));
    }
    if let Some(email) = &body.email {
        fields.check("email", check_email(email));
    }
    fields.finish()?;
    let new = NewUser { id: body.id, name: body.name, email: body.email, metadata: body.metadata };
    Ok((StatusCode::CREATED, Json(api.store.create_user(&caller.organization, new).await?.into())))
}

/// Get a user
#[utoipa::path(get, path = "/admin/users/{userId}", tag = "admin",
    params(("userId" = String, Path, description = "The user's id")),
    responses((status = 200, description = "The user", body = UserEnvelope)))]
async fn get_user(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Json<UserEnvelope>> {
    check_id(&id)?;
    let user = api.store.find_user(&caller.organization, &id).await?;
    Ok(Json(user.ok_or_else(|| Error::not_found("User", &id))?.into()))
}

/// Change a user, or deactivate one
///
/// Keys of a user who is deactivated are revoked: they are refused from the next request on, on every server. Runs that they
/// have started go on.
#[utoipa::path(patch, path = "/admin/users/{userId}", tag = "admin",
    params(("userId" = String, Path, description = "The user's id")), request_body = UpdateUser,
    responses((status = 200, description = "The user after the change", body = UserEnvelope)))]
async fn update_user(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<UpdateUser>,
) -> Result<Json<UserEnvelope>> {
    check_id(&id)?;
    let mut fields = Fields::default();
    fields.check_patch("name", &body.name, |name| check::name(name));
    fields.check_patch("isActive", &body.is_active, |_| Ok(()));
    if let Patch::Value(email) = &body.email {
        fields.check("email", check_email(email));
    }
    fields.finish()?;
    if body.is_active == Patch::Value(false) {
        refuse_own(&api, &caller, &id).await?;
    }
    let user = api.store.update_user(&caller.organization, &id, |user| body.apply(user)).await?;
    Ok(Json(user.into()))
}

/// Delete a user
///
/// Their name and address are forgotten and their keys revoked. Costs and the audit log keep their id.
#[utoipa::path(delete, path = "/admin/users/{userId}", tag = "admin",
    params(("userId" = String, Path, description = "The user's id")),
    responses((status = 200, description = "The user is deleted", body = Deleted)))]
async fn delete_user(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Json<Deleted>> {
    check_id(&id)?;
    refuse_own(&api, &caller, &id).await?;
    api.store.delete_user(&caller.organization, &id).await?;
    Ok(Json(Deleted::new("userId", &id)))
}

impl UpdateUser {
    fn apply(self, user: &mut User) {
        if let Patch::Value(name) = self.name {
            user.name = name;
        }
        self.email.apply(&mut user.email);
        self.metadata.apply(&mut user.metadata);
        match self.is_active {
            Patch::Value(true) => user.deactivated_at = None,
            Patch::Value(false) => drop(user.deactivated_at.get_or_insert_with(Utc::now)),
            Patch::Absent | Patch::Null => {}
        }
    }
}

/// No text of the database has the character NUL, so nobody has such an id.
fn check_id(id: &str) -> Result<()> {
    if id.contains('\0') { Err(Error::not_found("User", id.escape_default())) } else { Ok(()) }
}

/// Nobody takes away the key that they do it with.
async fn refuse_own(api: &Api, caller: &Caller, id: &str) -> Result<()> {
    let own = api.store.find_key(Owner::Organization(&caller.organization), &caller.key).await?;
    if own.is_some_and(|key| key.user_id.as_deref() == Some(id)) {
        return Err(Error::bad_request("The key that asks for it is this user's: use somebody else's"));
    }
    Ok(())
}

fn check_email(email: &str) -> Verdict {
    let (name, host) = email.rsplit_once('@').unwrap_or_default();
    if name.is_empty() || host.is_empty() || email.len() > 254 || email.contains(char::is_whitespace) {
        return Err("must be an address such as ann@example.com".into());
    }
    Ok(())
}
