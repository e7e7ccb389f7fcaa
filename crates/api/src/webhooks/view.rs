//! Webhooks and their deliveries as clients see them.

use domain::webhook::{Delivery, DeliveryState, Webhook};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    id: String,
    project_id: String,
    #[schema(example = "https://example.com/hooks/atelier")]
    url: String,
    description: Option<String>,
    events: Vec<String>,
    enabled: bool,
    /// Why it was switched off by itself.
    disabled_reason: Option<String>,
    /// What is sent is signed with this. Shown where it is made and never again.
    secret: Option<String>,
    /// Until then what is sent is signed with the secret before too.
    old_secret_until: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.into(),
            project_id: webhook.project_id.into(),
            url: webhook.url,
            description: webhook.description,
            events: webhook.events,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason,
            secret: None,
            old_secret_until: webhook.old_secret_until.map(Into::into),
            created_at: webhook.created_at.into(),
            updated_at: webhook.updated_at.into(),
        }
    }
}

/// `{webhook: …}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookEnvelope {
    webhook: WebhookView,
}

impl From<Webhook> for WebhookEnvelope {
    fn from(webhook: Webhook) -> Self {
        Self { webhook: webhook.into() }
    }
}

impl WebhookEnvelope {
    /// The only time that the secret is shown.
    pub(super) fn with_secret(webhook: Webhook, secret: &SecretString) -> Self {
        let mut envelope = Self::from(webhook);
        envelope.webhook.secret = Some(secret.expose_secret().to_owned());
        envelope
    }
}

/// Something that a webhook was told, or is to be told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery)]
pub(super) struct DeliveryView {
    /// Sent as `webhook-id`, the same at each try.
    id: String,
    webhook_id: String,
    #[schema(example = "run.completed")]
    event: &'static str,
    /// The body.
    #[schema(value_type = Object)]
    payload: Value,
    /// `pending`, `delivered` or `failed` (nobody took it in time).
    status: &'static str,
    /// Tries begun.
    attempts: i32,
    next_attempt_at: Option<Timestamp>,
    /// What the last try was answered with.
    last_status: Option<i32>,
    /// Why the last try failed.
    last_error: Option<String>,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.into(),
            webhook_id: delivery.webhook_id.into(),
            event: delivery.event.as_str(),
            payload: serde_json::from_str(&delivery.payload).unwrap_or_default(),
            status: delivery.state.as_str(),
            attempts: delivery.attempts,
            next_attempt_at: (delivery.state == DeliveryState::Pending).then(|| delivery.next_attempt_at.into()),
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            created_at: delivery.created_at.into(),
            completed_at: delivery.completed_at.map(Into::into),
        }
    }
}

/// `{delivery: …}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryEnvelope {
    delivery: DeliveryView,
}

impl From<Delivery> for DeliveryEnvelope {
    fn from(delivery: Delivery) -> Self {
        Self { delivery: delivery.into() }
    }
}
