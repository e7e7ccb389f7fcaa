//! Keys as clients see them: for users and for administrators the same.

use chrono::{NaiveDate, Utc};
use domain::key::ApiKey;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};
use store::keys::{DayUsage, KeyUsage, Usage};
use utoipa::ToSchema;

use crate::{list::List, timestamp::Timestamp};

/// An API key, without its text.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(crate) struct KeyView {
    pub id: String,
    project_id: String,
    name: String,
    description: Option<String>,
    /// The first characters of the key, to tell keys apart.
    #[schema(example = "tb_0a1b2c3d")]
    key_prefix: String,
    /// `standard`, or `internal`: budgets do not hold for it.
    #[schema(example = "standard")]
    key_type: &'static str,
    scopes: Vec<&'static str>,
    user_id: Option<String>,
    /// Neither revoked nor expired.
    is_active: bool,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The key that made it.
    created_by_key_id: Option<String>,
    created_at: Timestamp,
    /// To the minute.
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            is_active: key.is_active(Utc::now()),
            id: key.id.into(),
            project_id: key.project_id.into(),
            name: key.name,
            description: key.description,
            key_prefix: key.prefix,
            key_type: key.kind.as_str(),
            scopes: key.scopes.words(),
            user_id: key.user_id,
            metadata: key.metadata,
            created_by_key_id: key.created_by.map(Into::into),
            created_at: key.created_at.into(),
            last_used_at: key.last_used_at.map(Into::into),
            expires_at: key.expires_at.map(Into::into),
            revoked_at: key.revoked_at.map(Into::into),
        }
    }
}

/// A key, also under its name in an envelope.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyEnvelope {
    #[serde(flatten)]
    flat: KeyView,
    api_key: KeyView,
}

impl From<ApiKey> for KeyEnvelope {
    fn from(key: ApiKey) -> Self {
        let api_key = KeyView::from(key);
        Self { flat: api_key.clone(), api_key }
    }
}

/// A key that was just made. Its text is shown now and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    envelope: KeyEnvelope,
    /// The key itself.
    #[schema(example = "tb_…")]
    key: String,
    warning: &'static str,
}

impl CreatedKey {
    pub(crate) fn new(key: ApiKey, text: &SecretString) -> Self {
        Self {
            envelope: key.into(),
            key: text.expose_secret().to_owned(),
            warning: "Keep the key now: it is stored as a hash and cannot be shown again",
        }
    }
}

/// A key that was revoked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokedKey {
    /// Always true.
    success: bool,
    message: &'static str,
    id: String,
    api_key: KeyView,
}

impl From<ApiKey> for RevokedKey {
    fn from(key: ApiKey) -> Self {
        let api_key = KeyView::from(key);
        let message = "The key is refused from now on, on every server";
        Self { success: true, message, id: api_key.id.clone(), api_key }
    }
}

/// Keys, under both names that clients look for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyList {
    #[serde(flatten)]
    list: List<KeyView>,
    /// The same as `data`.
    api_keys: Vec<KeyView>,
}

impl From<List<KeyView>> for KeyList {
    fn from(list: List<KeyView>) -> Self {
        Self { api_keys: list.data.clone(), list }
    }
}

/// Requests, and how they went.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageView {
    total_requests: i64,
    /// Answered with 400 or above.
    failed_requests: i64,
    /// From 0 to 1; `null` without a request.
    success_rate: Option<f64>,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        let succeeded = (usage.requests - usage.failures) as f64;
        Self {
            total_requests: usage.requests,
            failed_requests: usage.failures,
            success_rate: (usage.requests > 0).then(|| succeeded / usage.requests as f64),
        }
    }
}

/// A day (UTC) of requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageDay {
    #[schema(value_type = String, example = "2026-01-15")]
    date: NaiveDate,
    #[serde(flatten)]
    usage: UsageView,
}

impl From<DayUsage> for UsageDay {
    fn from(day: DayUsage) -> Self {
        Self { date: day.day, usage: day.usage.into() }
    }
}

/// A key with its requests.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsedKey {
    id: String,
    name: String,
    key_prefix: String,
    is_active: bool,
    last_used_at: Option<Timestamp>,
    #[serde(flatten)]
    usage: UsageView,
}

impl From<KeyUsage> for UsedKey {
    fn from(key: KeyUsage) -> Self {
        Self {
            id: key.id.into(),
            name: key.name,
            key_prefix: key.prefix,
            is_active: key.is_active,
            last_used_at: key.last_used_at.map(Into::into),
            usage: key.usage.into(),
        }
    }
}

/// How the project's keys are used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyAnalytics {
    #[schema(example = "month")]
    pub period: &'static str,
    pub total_keys: usize,
    pub active_keys: usize,
    #[serde(flatten)]
    pub usage: UsageView,
    /// The most used first.
    pub by_key: Vec<UsedKey>,
    /// Oldest first; days without a request are left out.
    pub by_day: Vec<UsageDay>,
}
