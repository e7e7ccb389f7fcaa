//! Snapshots as clients see them.

use domain::change::{Change, ChangedPath, Snapshot};
use ledger::{
    FileDiffs,
    history::{Listing, Node},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{environments::EnvironmentView, timestamp::Timestamp};

/// A state of an environment's files, with what led to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnvironmentSnapshot)]
pub(crate) struct SnapshotView {
    #[schema(example = "snap_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    environment_id: String,
    /// The thread whose run led to it.
    source_thread_id: Option<String>,
    source_step_id: Option<String>,
    parent_snapshot_id: Option<String>,
    /// The hash of what it holds: equal for equal files.
    ledger_commit_sha: String,
    /// What changed since the snapshot before. Of very many, the first 1,000.
    changed_paths: Vec<String>,
    /// Lines.
    additions: i64,
    deletions: i64,
    /// `files`, `directories`, `bytes`, and `notKept`: files known by their size only.
    metadata: Value,
    created_at: Timestamp,
}

impl SnapshotView {
    pub(crate) fn new(snapshot: Snapshot, change: Option<&Change>, paths: Vec<ChangedPath>) -> Self {
        let stats = snapshot.stats;
        Self {
            id: snapshot.id.into(),
            environment_id: snapshot.environment_id.into(),
            source_thread_id: change.and_then(|change| change.author.thread_id.as_ref()).map(ToString::to_string),
            source_step_id: change.and_then(|change| change.step_id.as_ref()).map(ToString::to_string),
            parent_snapshot_id: snapshot.parent_id.map(Into::into),
            ledger_commit_sha: snapshot.tree,
            changed_paths: paths.into_iter().map(|path| path.path).collect(),
            additions: change.map_or(0, |change| change.additions),
            deletions: change.map_or(0, |change| change.deletions),
            metadata: json!({
                "files": stats.files,
                "directories": stats.directories,
                "bytes": stats.bytes,
                "notKept": stats.left_out,
                "changedPaths": change.map_or(0, |change| change.paths),
            }),
            created_at: snapshot.created_at.into(),
        }
    }
}

/// The newest snapshot of an environment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitializedView {
    pub environment_id: String,
    pub snapshot: SnapshotView,
}

/// What a snapshot holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotFiles)]
pub(crate) struct FilesView {
    /// Always `list`.
    object: &'static str,
    environment_id: String,
    snapshot_id: String,
    prefix: Option<String>,
    data: Vec<FileEntryView>,
    /// There is more than could be listed.
    #[serde(rename = "has_more")]
    has_more: bool,
}

/// Something in a snapshot.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotFileEntry)]
struct FileEntryView {
    path: String,
    name: String,
    /// `file` or `directory`; a link is a file.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Bytes.
    size: Option<u64>,
    is_symlink: bool,
    /// False: only its name and size are known.
    is_kept: bool,
}

impl FilesView {
    pub(crate) fn new(snapshot: &Snapshot, prefix: Option<String>, listing: Listing) -> Self {
        let entry = |entry: ledger::history::Listed| {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            FileEntryView {
                name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                path,
                kind: if entry.node.is_directory() { "directory" } else { "file" },
                size: entry.node.size(),
                is_symlink: matches!(entry.node, Node::Link { .. }),
                is_kept: !matches!(entry.node, Node::Left { .. }),
            }
        };
        Self {
            object: "list",
            environment_id: snapshot.environment_id.to_string(),
            snapshot_id: snapshot.id.to_string(),
            prefix,
            data: listing.entries.into_iter().map(entry).collect(),
            has_more: listing.is_truncated,
        }
    }
}

/// What changed from one snapshot to the next.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotDiff)]
pub(crate) struct SnapshotDiffView {
    environment_id: String,
    snapshot_id: String,
    parent_snapshot_id: Option<String>,
    from_commit_sha: Option<String>,
    to_commit_sha: String,
    path: Option<String>,
    /// Unified, as `git diff` writes it.
    diff: String,
    changed_paths: Vec<String>,
    /// Lines.
    additions: u64,
    deletions: u64,
    /// More files changed than are compared.
    truncated: bool,
}

/// The longest difference that is shown, in bytes.
const MAX_DIFF_BYTES: usize = 4 * 1024 * 1024;

impl SnapshotDiffView {
    pub(crate) fn new(snapshot: &Snapshot, parent: Option<&Snapshot>, path: Option<String>, diffs: FileDiffs) -> Self {
        let mut view = Self {
            environment_id: snapshot.environment_id.to_string(),
            snapshot_id: snapshot.id.to_string(),
            parent_snapshot_id: parent.map(|parent| parent.id.to_string()),
            from_commit_sha: parent.map(|parent| parent.tree.clone()),
            to_commit_sha: snapshot.tree.clone(),
            path,
            diff: String::new(),
            changed_paths: Vec::new(),
            additions: 0,
            deletions: 0,
            truncated: diffs.is_truncated,
        };
        for (change, file) in diffs.files {
            view.changed_paths.push(String::from_utf8_lossy(&change.path).into_owned());
            view.additions += file.additions;
            view.deletions += file.deletions;
            if view.diff.len() + file.text.len() <= MAX_DIFF_BYTES {
                view.diff.push_str(&file.text);
            } else {
                view.truncated = true;
            }
        }
        view
    }
}

/// A file of a snapshot.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotFile)]
pub(crate) struct FileView {
    pub path: String,
    pub snapshot_id: String,
    /// What is no text in it is replaced.
    pub content: String,
}

/// An environment that was made of a snapshot.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnvironmentFork)]
pub(crate) struct ForkView {
    pub environment: EnvironmentView,
    /// With which its own history begins.
    pub snapshot: Option<SnapshotView>,
    pub source_snapshot_id: String,
}
