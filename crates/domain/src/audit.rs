//! Lines of the audit log: who did what.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{ApiKeyId, OrganizationId, ProjectId};

/// A request that may have changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    pub organization_id: OrganizationId,
    pub project_id: ProjectId,
    pub key_id: ApiKeyId,
    pub method: String,
    /// The path with names instead of values.
    pub route: String,
    /// The ids in the path, by name.
    pub subject: BTreeMap<String, String>,
    /// What it was answered with; `None` if nobody waited for the answer.
    pub status: Option<u16>,
    pub request_id: Option<String>,
    pub address: Option<String>,
}

/// A line as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLine {
    pub id: i64,
    pub at: DateTime<Utc>,
    /// Whose key it was then.
    pub user_id: Option<String>,
    pub line: AuditLine,
}
