//! Projects, the owners of everything, and what there is in them.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{MicroUsd, OrganizationId, ProjectId, word::words};

words! {
    /// Where a project's files are, as clients say it. Here all of them are on the server.
    #[derive(Default)]
    ProjectKind {
        #[default]
        Cloud = "cloud",
        Local = "local",
        Synced = "synced",
    }
}

/// A stored project.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    pub id: ProjectId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub description: Option<String>,
    pub kind: ProjectKind,
    /// What it may have that is not the same for all; see [`crate::tier`].
    pub tier: Option<String>,
    /// What clients keep with it and nobody here reads.
    pub stored: Map<String, Value>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// How much there is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectStats {
    pub environments: i64,
    pub threads: i64,
    /// Those with a run under way.
    pub active_threads: i64,
    pub runs: i64,
    pub tokens: i64,
    pub cost: MicroUsd,
}
