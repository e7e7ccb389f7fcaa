//! Writing down what changed since the last time.

use domain::{
    ChangeId, EnvironmentId, WorkspacePath,
    change::{Author, ChangedPath, Operation, Snapshot, SnapshotStats, Source},
};
use history::{Change, ChangeKind, Id, Stats};
use store::{changes::NewChange, snapshots::NewSnapshot};

use crate::{
    Error, Ledger, Writer,
    attribute::attribute,
    ledger::{Place, Turn},
};

/// How often a capture that another server was faster than is done anew.
const MAX_ATTEMPTS: usize = 5;
/// Paths of one change that become rows.
const MAX_PATHS: usize = 10_000;
/// Files of one change whose lines are counted.
const MAX_COUNTED: usize = 2_000;

/// A change to be written down.
struct Part {
    tree: Id,
    author: Author,
    shared_with: Vec<domain::RunId>,
    title: String,
    changes: Vec<Change>,
}

/// What a scan found.
struct Found {
    /// `None` where only a part was looked at.
    stats: Option<Stats>,
    parts: Vec<NewChange>,
}

impl Ledger {
    /// Writes down what changed in an environment since the last time, each change for whoever made it. Gives the changes.
    ///
    /// The first time there is nothing to compare with: what is there is the beginning, and nobody's change.
    pub async fn capture(&self, environment: &EnvironmentId) -> Result<Vec<ChangeId>, Error> {
        self.in_turn(environment, async |turn| self.capture_in(&turn).await).await
    }

    /// Gives the newest snapshot of an environment, which is made if there is none.
    pub async fn initialize(&self, environment: &EnvironmentId) -> Result<Snapshot, Error> {
        if let Some(snapshot) = self.store.latest_snapshot(environment).await? {
            return Ok(snapshot);
        }
        self.capture(environment).await?;
        let snapshot = self.store.latest_snapshot(environment).await?;
        snapshot
            .ok_or_else(|| Error::Store(store::Error::NotFound { kind: "Environment", id: environment.to_string() }))
    }

    pub(crate) async fn capture_in(&self, turn: &Turn<'_>) -> Result<Vec<ChangeId>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let done = turn.writers.done();
            let Some(parent) = self.store.latest_snapshot(turn.environment).await? else {
                let found = self.at(turn.environment, |place| place.history.snapshot(&place.workspace)).await?;
                let new = NewSnapshot { tree: found.id.to_string(), stats: to_stats(&found.stats) };
                self.store.first_snapshot(turn.environment, &new).await?;
                turn.writers.forget(&done);
                return Ok(Vec::new());
            };
            let tree = name(&parent)?;
            let writers = turn.writers.clone();
            let found = self
                .at(turn.environment, move |place| {
                    let snapshot = place.history.snapshot(&place.workspace)?;
                    if snapshot.id == tree {
                        return Ok(Found { stats: None, parts: Vec::new() });
                    }
                    let changes = place.history.diff(Some(&tree), &snapshot.id)?;
                    // After the scan: who began while it went on may have been seen by it.
                    let parts = split(place, tree, snapshot.id, changes, &writers.all())?;
                    let parts = parts.iter().map(|part| describe(place, part)).collect::<Result<_, _>>()?;
                    Ok(Found { stats: Some(snapshot.stats), parts })
                })
                .await?;
            match self.write(turn.environment, &parent, found).await {
                Err(Error::Store(store::Error::Conflict(_))) => {}
                written => {
                    let written = written?;
                    turn.writers.forget(&done);
                    return Ok(written);
                }
            }
        }
        Err(Error::Contended)
    }

    /// Writes down what somebody did to some paths, whatever else goes on in the environment.
    ///
    /// [`initialize`](Self::initialize) comes before they do it.
    pub async fn capture_paths(
        &self,
        environment: &EnvironmentId,
        author: Author,
        title: String,
        paths: &[WorkspacePath],
    ) -> Result<Vec<ChangeId>, Error> {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_str().as_bytes().to_vec()).collect();
        self.in_turn(environment, async |turn| {
            for _ in 0..MAX_ATTEMPTS {
                let Some(parent) = self.store.latest_snapshot(environment).await? else {
                    return self.capture_in(&turn).await;
                };
                let (tree, paths, author, title) = (name(&parent)?, paths.clone(), author.clone(), title.clone());
                let found = self
                    .at(environment, move |place| {
                        let after = match place.history.update(&tree, &place.workspace, &paths)? {
                            Some(after) => after,
                            // Through a link: only a look at everything tells what that changed.
                            None => place.history.snapshot(&place.workspace)?.id,
                        };
                        let changes = place.history.diff(Some(&tree), &after)?;
                        let part = Part { tree: after, author, shared_with: Vec::new(), title, changes };
                        let parts = if after == tree { Vec::new() } else { vec![describe(place, &part)?] };
                        Ok(Found { stats: None, parts })
                    })
                    .await?;
                match self.write(environment, &parent, found).await {
                    Err(Error::Store(store::Error::Conflict(_))) => {}
                    written => return written,
                }
            }
            Err(Error::Contended)
        })
        .await
    }

    async fn write(
        &self,
        environment: &EnvironmentId,
        parent: &Snapshot,
        found: Found,
    ) -> Result<Vec<ChangeId>, Error> {
        let Found { stats, mut parts } = found;
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        // The states between were never there as a whole; what they hold is nearly this.
        for part in &mut parts {
            part.snapshot.stats = stats.as_ref().map_or(parent.stats, to_stats);
        }
        let added = self.store.add_changes(environment, parent, &parts).await?;
        Ok(added.into_iter().map(|(_, change)| change).collect())
    }
}

/// Makes a change of what each writer did, and the states between them.
fn split(
    place: &Place,
    before: Id,
    after: Id,
    changes: Vec<Change>,
    writers: &[Writer],
) -> Result<Vec<Part>, history::Error> {
    let paths: Vec<String> = changes.iter().map(|change| shown(&change.path)).collect();
    let groups = attribute(&paths, writers);
    let mut changes: Vec<Option<Change>> = changes.into_iter().map(Some).collect();
    let last = groups.len().saturating_sub(1);
    let mut tree = before;
    let mut parts = Vec::with_capacity(groups.len());
    for (n, (owners, indices)) in groups.into_iter().enumerate() {
        let changes: Vec<Change> = indices.into_iter().filter_map(|at| changes[at].take()).collect();
        tree = if n == last {
            after
        } else {
            let paths: Vec<Vec<u8>> = changes.iter().map(|change| change.path.clone()).collect();
            place.history.pick(&tree, &after, &paths)?
        };
        let owner = owners.first().map(|owner| &writers[*owner]);
        let others = owners.iter().skip(1).filter_map(|owner| writers[*owner].author.run_id.clone());
        parts.push(Part {
            tree,
            author: owner.map_or(Author::OUTSIDE, |owner| owner.author.clone()),
            shared_with: others.collect(),
            title: owner.map_or_else(|| "Changed outside of runs".to_owned(), |owner| owner.title.clone()),
            changes,
        });
    }
    Ok(parts)
}

/// Counts lines, and makes rows of paths.
fn describe(place: &Place, part: &Part) -> Result<NewChange, history::Error> {
    let counted = &part.changes[..part.changes.len().min(MAX_COUNTED)];
    let diffs = place.history.texts(counted)?;
    let counts = diffs.iter().map(|diff| (to_i64(diff.additions), to_i64(diff.deletions)));
    let mut counts = counts.chain(std::iter::repeat((0, 0)));
    let (mut additions, mut deletions) = (0, 0);
    let mut first_paths = Vec::new();
    for change in part.changes.iter().take(MAX_PATHS) {
        let (added, deleted) = counts.next().unwrap_or_default();
        additions += added;
        deletions += deleted;
        first_paths.push(ChangedPath {
            path: shown(&change.path),
            operation: operation(change, part.author.source),
            is_directory: change.is_directory(),
            previous_path: change.previous_path.as_deref().map(shown),
            additions: added,
            deletions: deleted,
            size: change.after.as_ref().and_then(history::Node::size).map(to_i64),
        });
    }
    Ok(NewChange {
        snapshot: NewSnapshot { tree: part.tree.to_string(), stats: SnapshotStats::default() },
        author: part.author.clone(),
        shared_with: part.shared_with.clone(),
        title: part.title.clone(),
        additions,
        deletions,
        paths: to_i64(part.changes.len() as u64),
        first_paths,
    })
}

fn operation(change: &Change, source: Source) -> Operation {
    match change.kind() {
        ChangeKind::Created if source == Source::Upload => Operation::Uploaded,
        ChangeKind::Created => Operation::Created,
        ChangeKind::Modified => Operation::Modified,
        ChangeKind::Deleted => Operation::Deleted,
    }
}

/// Gives the name of a snapshot's root.
pub(crate) fn name(snapshot: &Snapshot) -> Result<Id, Error> {
    snapshot.tree.parse().map_err(Error::Name)
}

pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn to_stats(stats: &Stats) -> SnapshotStats {
    SnapshotStats {
        files: to_i64(stats.files),
        directories: to_i64(stats.directories),
        bytes: to_i64(stats.bytes),
        left_out: to_i64(stats.left),
    }
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
