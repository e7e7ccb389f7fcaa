//! Changes as clients see them.

use domain::{
    ProjectId, RunId,
    change::{ChangedPath, Operation, Source},
};
use serde::Serialize;
use store::{Page, changes::NamedChange};
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A part of a list of changes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnvironmentChangeList)]
pub(super) struct ChangeList {
    /// Always `list`.
    object: &'static str,
    data: Vec<ChangeView>,
    limit: i64,
    offset: i64,
    total: i64,
    has_more: bool,
}

/// What one writer changed between two snapshots.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnvironmentChange)]
pub(super) struct ChangeView {
    #[schema(example = "change_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    /// To which it led.
    snapshot_id: String,
    environment_id: String,
    created_at: Timestamp,
    title: String,
    /// `run`, `outside`, `upload`, `mkdir`, `move`, `delete`, `git`, `revert` or
    /// `reapply`.
    route_source: &'static str,
    /// `thread` or `manual`.
    source_kind: &'static str,
    source_thread_id: Option<String>,
    source_run_id: Option<String>,
    source_step_id: Option<String>,
    /// The key of who used the API.
    source_key_id: Option<String>,
    /// Runs that worked at the same time; which of them it was cannot be told.
    shared_with_run_ids: Vec<String>,
    thread_title: Option<String>,
    step_title: Option<String>,
    project_id: String,
    project_name: String,
    agent_id: Option<String>,
    agent_name: Option<String>,
    /// Lines.
    additions: i64,
    deletions: i64,
    /// How many paths changed.
    file_count: i64,
    files: Vec<ChangeFileView>,
}

/// A path that changed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnvironmentChangeFile)]
struct ChangeFileView {
    path: String,
    name: String,
    /// `created`, `modified` or `deleted`.
    change_kind: &'static str,
    /// The same, or `uploaded`.
    operation: &'static str,
    /// `file` or `directory`.
    entry_type: &'static str,
    /// Where the same content was before.
    previous_path: Option<String>,
    /// Lines.
    additions: i64,
    deletions: i64,
    /// Bytes, after the change.
    size: Option<i64>,
    /// Null: the route of the change's diff has it.
    diff: Option<String>,
    /// Null: the route of the change's file has it.
    file_content: Option<String>,
}

impl ChangeList {
    pub(super) fn new(data: Vec<ChangeView>, page: Page, total: i64) -> Self {
        let end = page.offset.saturating_add(data.len() as i64);
        Self { object: "list", data, limit: page.limit, offset: page.offset, total, has_more: end < total }
    }
}

impl ChangeView {
    pub(super) fn new(project: &ProjectId, named: NamedChange, paths: Vec<ChangedPath>) -> Self {
        let NamedChange { change, thread_title, agent_name, project_name } = named;
        let author = change.author;
        Self {
            id: change.id.into(),
            snapshot_id: change.snapshot_id.into(),
            environment_id: change.environment_id.into(),
            created_at: change.created_at.into(),
            step_title: change.step_id.is_some().then(|| change.title.clone()),
            title: change.title,
            route_source: author.source.as_str(),
            source_kind: if author.source == Source::Run { "thread" } else { "manual" },
            source_thread_id: author.thread_id.map(Into::into),
            source_run_id: author.run_id.map(Into::into),
            source_step_id: change.step_id.map(Into::into),
            source_key_id: author.key_id.map(Into::into),
            shared_with_run_ids: change.shared_with.into_iter().map(RunId::into).collect(),
            thread_title,
            project_id: project.to_string(),
            project_name,
            agent_id: author.agent_id.map(Into::into),
            agent_name,
            additions: change.additions,
            deletions: change.deletions,
            file_count: change.paths,
            files: paths.into_iter().map(ChangeFileView::from).collect(),
        }
    }
}

impl From<ChangedPath> for ChangeFileView {
    fn from(path: ChangedPath) -> Self {
        let change_kind = match path.operation {
            Operation::Created | Operation::Uploaded => "created",
            Operation::Modified => "modified",
            Operation::Deleted => "deleted",
        };
        Self {
            name: path.path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: path.path,
            change_kind,
            operation: path.operation.as_str(),
            entry_type: if path.is_directory { "directory" } else { "file" },
            previous_path: path.previous_path,
            additions: path.additions,
            deletions: path.deletions,
            size: path.size,
            diff: None,
            file_content: None,
        }
    }
}
