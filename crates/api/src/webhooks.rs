//! `/webhooks`: what others are told of, by requests to URLs of theirs.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    DeliveryId, WebhookId,
    webhook::{DeliveryState, Webhook},
};
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
};

mod input;
mod view;

use input::{CreateWebhook, Rotation, UpdateWebhook};
use view::{DeliveryEnvelope, DeliveryView, WebhookEnvelope, WebhookView};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_webhooks, create_webhook))
        .routes(routes!(get_webhook, update_webhook, delete_webhook))
        .routes(routes!(rotate_webhook_secret))
        .routes(routes!(test_webhook))
        .routes(routes!(list_webhook_deliveries))
        .routes(routes!(resend_webhook_delivery))
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
struct DeliveriesQuery {
    /// `pending`, `delivered` or `failed`.
    status: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// List webhooks
///
/// Newest first.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", params(ListQuery),
    responses((status = 200, description = "A part of the list", body = List<WebhookView>)))]
async fn list_webhooks(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<WebhookView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let webhooks = api.store.list_webhooks(&caller.project, page).await?;
    Ok(Json(List::new(webhooks, page, WebhookView::from)))
}

/// Create a webhook
///
/// What happens in the project from now on is sent to `url`, signed as Standard Webhooks say it, until it is answered with
/// a status of 200 to 299. The answer to this has the `secret` that it is signed with, this once.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", request_body = CreateWebhook,
    responses((status = 201, description = "The webhook, with its secret", body = WebhookEnvelope)))]
async fn create_webhook(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateWebhook>,
) -> Result<(StatusCode, Json<WebhookEnvelope>)> {
    let (webhook, secret) = api.store.create_webhook(&caller.project, body.into_new()?).await?;
    Ok((StatusCode::CREATED, Json(WebhookEnvelope::with_secret(webhook, &secret))))
}

/// Get a webhook
#[utoipa::path(get, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook", body = WebhookEnvelope)))]
async fn get_webhook(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<Json<WebhookEnvelope>> {
    Ok(Json(find(&api, &caller, &id).await?.into()))
}

/// Change a webhook
///
/// An absent field is left alone. One that was switched off by itself is switched on with `enabled`.
#[utoipa::path(patch, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    request_body = UpdateWebhook,
    responses((status = 200, description = "The webhook after the change", body = WebhookEnvelope)))]
async fn update_webhook(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Body(body): Body<UpdateWebhook>,
) -> Result<Json<WebhookEnvelope>> {
    let webhook = api.store.update_webhook(&caller.project, &id, |webhook| body.apply(webhook)).await?;
    Ok(Json(webhook.into()))
}

/// Delete a webhook
///
/// It is told nothing more, also nothing of what waits.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, description = "It is deleted", body = Deleted)))]
async fn delete_webhook(State(api): State<Api>, caller: Caller, Path(id): Path<WebhookId>) -> Result<Json<Deleted>> {
    api.store.delete_webhook(&caller.project, &id).await?;
    Ok(Json(Deleted::new("webhookId", &id)))
}

/// Give a webhook another secret
///
/// For a while (a day if absent) what is sent has two signatures, of the new secret and of the one before. The answer has
/// the new one, this once.
#[utoipa::path(post, path = "/webhooks/{id}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    request_body = Rotation,
    responses((status = 200, description = "The webhook, with its new secret", body = WebhookEnvelope)))]
async fn rotate_webhook_secret(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Body(body): Body<Rotation>,
) -> Result<Json<WebhookEnvelope>> {
    let overlap: Duration = body.overlap()?;
    let (webhook, secret) = api.store.rotate_webhook_secret(&caller.project, &id, overlap).await?;
    Ok(Json(WebhookEnvelope::with_secret(webhook, &secret)))
}

/// Try a webhook
///
/// Sends it a `webhook.test`, whatever it wants to be told and whether or not it is switched on.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, description = "What will be sent in a moment", body = DeliveryEnvelope)))]
async fn test_webhook(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<WebhookId>,
) -> Result<Json<DeliveryEnvelope>> {
    Ok(Json(api.store.test_webhook(&caller.project, &id).await?.into()))
}

/// List a webhook's deliveries
///
/// What it was told and what it is to be told, newest first. What is over is forgotten after a time that the operator sets.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id"), DeliveriesQuery),
    responses((status = 200, description = "A part of the list", body = List<DeliveryView>)))]
async fn list_webhook_deliveries(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<List<DeliveryView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let state = query.status.as_deref().filter(|word| !word.is_empty()).map(str::parse::<DeliveryState>).transpose();
    let state = state.map_err(|_| Error::invalid_field("status", "must be pending, delivered or failed"))?;
    find(&api, &caller, &id).await?;
    let deliveries = api.store.list_deliveries(&caller.project, &id, state.map(DeliveryState::as_str), page).await?;
    Ok(Json(List::new(deliveries, page, DeliveryView::from)))
}

/// Send a delivery again
///
/// Under its old id and with the same body, whether it was taken or given up.
#[utoipa::path(post, path = "/webhooks/{id}/deliveries/{deliveryId}/resend", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The webhook's id"),
        ("deliveryId" = String, Path, description = "The delivery's id"),
    ),
    responses((status = 200, description = "It will be sent in a moment", body = DeliveryEnvelope)))]
async fn resend_webhook_delivery(
    State(api): State<Api>,
    caller: Caller,
    Path((id, delivery)): Path<(WebhookId, DeliveryId)>,
) -> Result<Json<DeliveryEnvelope>> {
    Ok(Json(api.store.resend_delivery(&caller.project, &id, &delivery).await?.into()))
}

async fn find(api: &Api, caller: &Caller, id: &WebhookId) -> Result<Webhook> {
    api.store.find_webhook(&caller.project, id).await?.ok_or_else(|| Error::not_found("Webhook", id))
}
