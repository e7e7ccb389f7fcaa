//! Files as clients see them.

use domain::{EnvironmentId, WorkspacePath};
use sandbox::workspace::{Entry, Kind, Listing};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// What is below a directory.
#[derive(Serialize, ToSchema)]
pub(super) struct FileList {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    #[serde(rename = "environmentId")]
    environment_id: String,
    /// The directory, empty for the whole workspace.
    path: String,
    /// -1 for all levels.
    depth: i64,
    files: Vec<FileEntry>,
    /// The same as `files`.
    data: Vec<FileEntry>,
    count: usize,
    /// There are more than could be listed.
    has_more: bool,
    total_count: usize,
}

/// A file or directory.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileEntry {
    /// Relative to the workspace.
    #[schema(example = "src/app.py")]
    path: String,
    #[schema(example = "app.py")]
    name: String,
    /// `file` or `directory`; a link is what it points to.
    #[serde(rename = "type")]
    #[schema(example = "file")]
    kind: &'static str,
    /// Bytes; 0 for a directory.
    size: u64,
    last_modified: Timestamp,
    modified_at: Timestamp,
    mime_type: Option<String>,
    /// Whether a directory has anything in it; null for a file.
    has_children: Option<bool>,
    is_symlink: bool,
}

impl FileList {
    pub(super) fn new(id: EnvironmentId, path: &WorkspacePath, depth: Option<u32>, listing: Listing) -> Self {
        let files: Vec<_> = listing.entries.into_iter().map(FileEntry::from).collect();
        Self {
            object: "list",
            environment_id: id.into(),
            path: path.as_str().to_owned(),
            depth: depth.map_or(-1, i64::from),
            data: files.clone(),
            count: files.len(),
            has_more: listing.truncated,
            total_count: files.len(),
            files,
        }
    }
}

impl From<Entry> for FileEntry {
    fn from(entry: Entry) -> Self {
        let is_file = entry.kind == Kind::File;
        let mime = mime_guess::from_path(&entry.name).first_or_octet_stream().essence_str().to_owned();
        Self {
            kind: if is_file { "file" } else { "directory" },
            size: if is_file { entry.size } else { 0 },
            last_modified: entry.modified.into(),
            modified_at: entry.modified.into(),
            mime_type: is_file.then_some(mime),
            has_children: (!is_file).then_some(entry.has_children),
            is_symlink: entry.is_symlink,
            path: entry.path,
            name: entry.name,
        }
    }
}
