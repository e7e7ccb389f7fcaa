//! Projects as clients see them: the union of what all of them read.

use domain::project::{Project, ProjectStats};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::stored_names;
use crate::{environments::EnvironmentView, list::List, threads::ThreadView, timestamp::Timestamp};

/// A project: the owner of everything, and what an API key opens.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Project)]
pub(crate) struct ProjectView {
    /// `project`
    #[schema(example = "project")]
    object: &'static str,
    id: String,
    organization_id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    name: String,
    description: Option<String>,
    /// `cloud`, `local` or `synced`. The files of all are on the server.
    #[serde(rename = "type")]
    #[schema(example = "cloud")]
    kind: &'static str,
    /// By which it may have other than the general settings say.
    tier: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    stored: Map<String, Value>,
    is_overview_record: bool,
    is_shared: bool,
    shared_with_me: bool,
    team_shared: bool,
    can_transfer_ownership: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<SummaryView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<StatsView>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Project> for ProjectView {
    fn from(project: Project) -> Self {
        let mut stored: Map<String, Value> = stored_names().map(|(name, empty)| (name.to_owned(), empty)).collect();
        stored.extend(project.stored);
        Self {
            object: "project",
            user_id: project.id.to_string(),
            id: project.id.into(),
            organization_id: project.organization_id.into(),
            name: project.name,
            description: project.description,
            kind: project.kind.as_str(),
            tier: project.tier,
            stored,
            is_overview_record: false,
            is_shared: false,
            shared_with_me: false,
            team_shared: false,
            can_transfer_ownership: false,
            summary: None,
            stats: None,
            created_at: project.created_at.into(),
            updated_at: project.updated_at.into(),
        }
    }
}

impl ProjectView {
    pub(super) fn with(self, stats: ProjectStats, storage_bytes: u64) -> Self {
        Self { summary: Some(stats.into()), stats: Some(StatsView::new(stats, storage_bytes)), ..self }
    }
}

/// How much there is in a project.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProjectSummary)]
pub(crate) struct SummaryView {
    environments_count: i64,
    threads_count: i64,
    /// Those with a run under way.
    active_threads_count: i64,
    tasks_count: i64,
    open_tasks_count: i64,
    sprint_count: i64,
    active_sprint_count: i64,
    release_count: i64,
    active_release_count: i64,
}

impl From<ProjectStats> for SummaryView {
    fn from(stats: ProjectStats) -> Self {
        Self {
            environments_count: stats.environments,
            threads_count: stats.threads,
            active_threads_count: stats.active_threads,
            tasks_count: 0,
            open_tasks_count: 0,
            sprint_count: 0,
            active_sprint_count: 0,
            release_count: 0,
            active_release_count: 0,
        }
    }
}

/// What a project has used.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProjectStats)]
pub(crate) struct StatsView {
    thread_count: i64,
    run_count: i64,
    total_tokens: i64,
    /// US dollars.
    total_cost: f64,
    /// What the files in its environments add up to.
    storage_bytes: u64,
}

impl StatsView {
    fn new(stats: ProjectStats, storage_bytes: u64) -> Self {
        Self {
            thread_count: stats.threads,
            run_count: stats.runs,
            total_tokens: stats.tokens,
            total_cost: stats.cost.as_usd(),
            storage_bytes,
        }
    }
}

/// `{project}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectEnvelope {
    pub project: ProjectView,
}

/// A project with what is newest in it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProjectDetail {
    pub project: ProjectView,
    pub summary: SummaryView,
    pub stats: StatsView,
    /// The default first, then the newest.
    pub environments: Vec<EnvironmentView>,
    /// The newest ten.
    pub recent_threads: Vec<ThreadView>,
}

impl ProjectDetail {
    pub(super) fn new(
        project: ProjectView,
        stats: ProjectStats,
        storage_bytes: u64,
        environments: Vec<EnvironmentView>,
        recent_threads: Vec<ThreadView>,
    ) -> Self {
        Self {
            project: project.with(stats, storage_bytes),
            summary: stats.into(),
            stats: StatsView::new(stats, storage_bytes),
            environments,
            recent_threads,
        }
    }
}

/// Projects, under both names that clients look for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectList {
    #[serde(flatten)]
    list: List<ProjectView>,
    /// The same as `data`.
    projects: Vec<ProjectView>,
    count: usize,
}

impl From<List<ProjectView>> for ProjectList {
    fn from(list: List<ProjectView>) -> Self {
        Self { count: list.data.len(), projects: list.data.clone(), list }
    }
}

/// Whether the files here are those that the client means.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Synced {
    pub synced: bool,
    /// Files in the project's environments.
    pub file_count: u64,
}
