//! API keys, without their text: that is shown once and kept by nobody.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{ApiKeyId, ProjectId, scope::Scopes, word::words};

words! {
    /// What a key is for.
    KeyKind {
        Standard = "standard",
        /// The installation's own work: budgets do not hold for it.
        Internal = "internal",
    }
}

/// A stored key.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub project_id: ProjectId,
    pub name: String,
    /// The first characters of the key, to tell keys apart.
    pub prefix: String,
    pub description: Option<String>,
    pub kind: KeyKind,
    pub scopes: Scopes,
    /// Whose it is: a user's id.
    pub user_id: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    /// The key that made it; `None` for those made on the server.
    pub created_by: Option<ApiKeyId>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// Tells whether the key opens anything.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}
