//! `/environments/{id}/secrets`: one secret at a time. None of the answers has a value in it.

use axum::{Json, extract::State, http::StatusCode};
use domain::EnvironmentId;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use store::{Page, Paged};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::MASK;
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    check::{self, Fields},
    environments::find,
    list::List,
    path::Path,
};

pub(in crate::environments) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_secrets, set_secret)).routes(routes!(replace_secret, delete_secret))
}

/// A secret's name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SecretName {
    #[schema(example = "GITHUB_TOKEN")]
    key: String,
    /// Always true: there is no secret without a value.
    has_value: bool,
}

/// A secret that is set.
#[derive(Deserialize, ToSchema)]
struct NewSecret {
    /// The name of the environment variable it becomes.
    #[schema(example = "GITHUB_TOKEN")]
    key: String,
    value: String,
}

/// A secret's value.
#[derive(Deserialize, ToSchema)]
struct SecretValue {
    value: String,
}

/// What was done with a secret.
#[derive(Serialize, ToSchema)]
struct SecretDone {
    /// Always true.
    success: bool,
    key: String,
    message: &'static str,
}

impl SecretDone {
    fn new(key: String, message: &'static str) -> Json<Self> {
        Json(Self { success: true, key, message })
    }
}

/// List secrets
///
/// Their names, sorted. Values are never given back.
#[utoipa::path(get, path = "/environments/{id}/secrets", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "All of them", body = List<SecretName>)))]
async fn list_secrets(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<List<SecretName>>> {
    let keys = find(&api, &caller, &id).await?.secret_keys;
    let all = Paged { total: keys.len() as i64, items: keys };
    Ok(Json(List::new(all, Page::ALL, |key| SecretName { key, has_value: true })))
}

/// Set a secret
///
/// It is an environment variable of every command that is begun from now on; one of the same name is replaced. It is kept
/// encrypted, under a key that is not in the database.
#[utoipa::path(post, path = "/environments/{id}/secrets", tag = "environments", request_body = NewSecret,
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 201, description = "It is set", body = SecretDone)))]
async fn set_secret(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(NewSecret { key, value }): Body<NewSecret>,
) -> Result<(StatusCode, Json<SecretDone>)> {
    find(&api, &caller, &id).await?;
    let value = check(&key, value)?;
    api.store.set_secret(&caller.project, &id, &key, value).await?;
    Ok((StatusCode::CREATED, SecretDone::new(key, "The secret is set")))
}

/// Replace a secret
#[utoipa::path(put, path = "/environments/{id}/secrets/{key}", tag = "environments", request_body = SecretValue,
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("key" = String, Path, description = "The secret's name"),
    ),
    responses((status = 200, description = "It has the new value", body = SecretDone)))]
async fn replace_secret(
    State(api): State<Api>,
    caller: Caller,
    Path((id, key)): Path<(EnvironmentId, String)>,
    Body(SecretValue { value }): Body<SecretValue>,
) -> Result<Json<SecretDone>> {
    find(&api, &caller, &id).await?;
    let value = check(&key, value)?;
    api.store.replace_secret(&caller.project, &id, &key, value).await?;
    Ok(SecretDone::new(key, "The secret is replaced"))
}

/// Delete a secret
///
/// Commands that run keep the variable they were started with.
#[utoipa::path(delete, path = "/environments/{id}/secrets/{key}", tag = "environments",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("key" = String, Path, description = "The secret's name"),
    ),
    responses((status = 200, description = "It is gone", body = SecretDone)))]
async fn delete_secret(
    State(api): State<Api>,
    caller: Caller,
    Path((id, key)): Path<(EnvironmentId, String)>,
) -> Result<Json<SecretDone>> {
    find(&api, &caller, &id).await?;
    if !domain::environment::is_variable_name(&key) {
        return Err(Error::not_found("Secret", key));
    }
    api.store.delete_secret(&caller.project, &id, &key).await?;
    Ok(SecretDone::new(key, "The secret is deleted"))
}

/// Checks a name and its value as they are checked in a whole environment.
fn check(key: &str, value: String) -> Result<SecretString> {
    let mut fields = Fields::default();
    check::variables_at(&mut fields, "value", &[(key, value.len())], |_, part| part.to_owned());
    if value == MASK {
        // A client that sends back what it was shown would lose the secret.
        fields.refuse("value", "must be the value itself, not its mask");
    }
    fields.finish()?;
    Ok(value.into())
}
