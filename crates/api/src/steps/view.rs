//! Steps as clients see them.

use domain::{
    RunId,
    change::{ChangedPath, Operation, Source, Step},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    list::List,
    snapshots::view::{FileView, FilesView, SnapshotDiffView},
    timestamp::Timestamp,
};

/// What a thread's run did to files in one turn, or what was brought back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStep)]
pub(super) struct StepView {
    #[schema(example = "step_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    thread_id: String,
    /// Where the files are. Of a copied thread's older steps that is the original's environment.
    environment_id: String,
    /// Counted from 1.
    sequence: i64,
    /// The message that caused the run; null where something was brought back.
    source_message_id: Option<String>,
    /// Always `file_change`.
    step_kind: &'static str,
    /// `revert` and `reapply` where something was brought back.
    event_type: Option<&'static str>,
    title: String,
    snapshot_before_id: String,
    snapshot_after_id: String,
    /// `changedPaths` (the first 100), `fileCount`, `additions`, `deletions`, `runId`, `agentId`, and `sharedWithRunIds`:
    /// runs that worked at the same time, where it cannot be told which of them did it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    created_at: Timestamp,
}

impl StepView {
    pub(super) fn with_metadata(step: Step, paths: Vec<String>) -> Self {
        let change = &step.change;
        let metadata = json!({
            "changedPaths": paths,
            "fileCount": change.paths,
            "additions": change.additions,
            "deletions": change.deletions,
            "runId": change.author.run_id.as_ref().map(RunId::as_str),
            "agentId": change.author.agent_id.as_ref().map(ToString::to_string),
            "sharedWithRunIds": change.shared_with.iter().map(RunId::as_str).collect::<Vec<_>>(),
        });
        Self { metadata: Some(metadata), ..step.into() }
    }
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let change = step.change;
        Self {
            id: step.id.into(),
            thread_id: step.thread_id.into(),
            environment_id: change.environment_id.into(),
            sequence: step.sequence,
            source_message_id: step.message_id.map(Into::into),
            step_kind: "file_change",
            event_type: event_type(change.author.source),
            title: change.title,
            snapshot_before_id: change.before_id.into(),
            snapshot_after_id: change.snapshot_id.into(),
            metadata: None,
            created_at: step.created_at.into(),
        }
    }
}

fn event_type(source: Source) -> Option<&'static str> {
    match source {
        Source::Revert | Source::Reapply => Some(source.as_str()),
        Source::Run
        | Source::Outside
        | Source::Upload
        | Source::MakeDirectory
        | Source::Move
        | Source::Delete
        | Source::Git => None,
    }
}

/// What there was after a step.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepFiles)]
pub(super) struct StepFilesView {
    pub thread_id: String,
    pub step_id: String,
    #[serde(flatten)]
    pub files: FilesView,
}

/// What a step changed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepDiff)]
pub(super) struct StepDiffView {
    thread_id: String,
    step_id: String,
    sequence: i64,
    snapshot_before_id: String,
    snapshot_after_id: String,
    #[serde(flatten)]
    diff: SnapshotDiffView,
}

impl StepDiffView {
    pub(super) fn new(step: Step, diff: SnapshotDiffView) -> Self {
        Self {
            thread_id: step.thread_id.into(),
            step_id: step.id.into(),
            sequence: step.sequence,
            snapshot_before_id: step.change.before_id.into(),
            snapshot_after_id: step.change.snapshot_id.into(),
            diff,
        }
    }
}

/// A file as it was after a step.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadStepFile)]
pub(super) struct StepFileView {
    pub step_id: String,
    #[serde(flatten)]
    pub file: FileView,
}

/// The steps that changed a file.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadFileHistory)]
pub(super) struct FileHistoryView {
    pub thread_id: String,
    pub path: String,
    #[serde(flatten)]
    pub list: List<FileStepView>,
}

/// What a step did to a file.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadFileHistoryEntry)]
pub(super) struct FileStepView {
    thread_id: String,
    path: String,
    changed_path: String,
    /// Where the same content was before.
    previous_path: Option<String>,
    step_id: String,
    sequence: i64,
    title: String,
    /// `revert` and `reapply` where something was brought back.
    event_type: Option<&'static str>,
    snapshot_before_id: String,
    snapshot_after_id: String,
    /// `created`, `modified` or `deleted`.
    change_kind: &'static str,
    /// Lines.
    additions: i64,
    deletions: i64,
    created_at: Timestamp,
}

impl FileStepView {
    pub(super) fn new(path: &str, step: Step, changed: ChangedPath) -> Self {
        Self {
            thread_id: step.thread_id.into(),
            path: path.to_owned(),
            changed_path: changed.path,
            previous_path: changed.previous_path,
            step_id: step.id.into(),
            sequence: step.sequence,
            title: step.change.title,
            event_type: event_type(step.change.author.source),
            snapshot_before_id: step.change.before_id.into(),
            snapshot_after_id: step.change.snapshot_id.into(),
            change_kind: match changed.operation {
                Operation::Created | Operation::Uploaded => "created",
                Operation::Modified => "modified",
                Operation::Deleted => "deleted",
            },
            additions: changed.additions,
            deletions: changed.deletions,
            created_at: step.created_at.into(),
        }
    }
}
