//! People: whose keys are whose.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::OrganizationId;

/// A person, or a program, of an organization.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub organization_id: OrganizationId,
    /// By whatever name those who made it have for people: 1 to 255 characters.
    pub id: String,
    pub name: String,
    pub email: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// None of their keys opens anything, and they get no others.
    pub deactivated_at: Option<DateTime<Utc>>,
}
