//! Reading the past.

use bytes::Bytes;
use domain::change::Snapshot;
use futures::{Stream, stream};
use history::{Change, FileDiff, Listing};
use tokio::sync::mpsc;

use crate::{Error, Ledger, capture::name};

/// Entries of one listing.
const MAX_LISTED: usize = 100_000;
/// Files that are compared for one answer.
const MAX_COMPARED: usize = 2_000;

/// What lies between two snapshots, file by file.
#[derive(Debug, Clone, Default)]
pub struct FileDiffs {
    pub files: Vec<(Change, FileDiff)>,
    /// Whether more files changed than are compared.
    pub is_truncated: bool,
}

impl Ledger {
    /// Lists what a snapshot holds at and below a path.
    pub async fn list(&self, snapshot: &Snapshot, prefix: &str) -> Result<Listing, Error> {
        let (tree, prefix) = (name(snapshot)?, prefix.as_bytes().to_vec());
        self.at(&snapshot.environment_id, move |place| place.history.list(&tree, &prefix, MAX_LISTED)).await
    }

    /// Tells what changed from one snapshot to another of the same environment (`None`: from nothing), at and below `path`
    /// if one is given.
    pub async fn diff(
        &self,
        before: Option<&Snapshot>,
        after: &Snapshot,
        path: Option<&str>,
    ) -> Result<FileDiffs, Error> {
        let (before, tree) = (before.map(name).transpose()?, name(after)?);
        let path = path.filter(|path| !path.is_empty()).map(|path| path.as_bytes().to_vec());
        self.at(&after.environment_id, move |place| {
            let mut changes = place.history.diff(before.as_ref(), &tree)?;
            if let Some(path) = &path {
                changes.retain(|change| is_at_or_below(&change.path, path));
            }
            let is_truncated = changes.len() > MAX_COMPARED;
            changes.truncate(MAX_COMPARED);
            let diffs = place.history.texts(&changes)?;
            Ok(FileDiffs { files: changes.into_iter().zip(diffs).collect(), is_truncated })
        })
        .await
    }

    /// Reads a file of a snapshot: its size, and its bytes as a stream that holds little of it in memory.
    pub async fn read(
        &self,
        snapshot: &Snapshot,
        path: &str,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, history::Error>> + Send + use<>), Error> {
        let (tree, path) = (name(snapshot)?, path.as_bytes().to_vec());
        let content = self.at(&snapshot.environment_id, move |place| place.history.read(&tree, &path)).await?;
        let size = content.size;
        let (sender, receiver) = mpsc::channel(2);
        // It ends when the file does, or when nobody listens any more.
        tokio::task::spawn_blocking(move || {
            for part in content {
                if sender.blocking_send(part.map(Bytes::from)).is_err() {
                    return;
                }
            }
        });
        let parts = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        Ok((size, parts))
    }
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
