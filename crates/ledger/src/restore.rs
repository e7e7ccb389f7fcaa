//! Bringing files back. What is there is written down first, and going back is a change like any other.

use domain::{
    ChangeId, EnvironmentId, WorkspacePath,
    change::{Author, Snapshot},
};
use history::Applied;

use crate::{
    Error, Ledger, Writer,
    capture::name,
    ledger::{Place, Turn},
};

/// What is brought back.
#[derive(Debug, Clone)]
pub enum Extent {
    /// Everything: what the snapshot does not hold goes. Not while a run works in the environment.
    All,
    /// What the snapshot holds at these paths, or that it holds nothing there.
    Paths(Vec<WorkspacePath>),
    /// What it holds of these files (`None`: all files), over what is there. Nothing goes.
    Over(Option<Vec<WorkspacePath>>),
}

/// What came of going back.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// The newest snapshot by now.
    pub snapshot: Snapshot,
    /// What was changed by it; nothing if all was so already.
    pub changes: Vec<ChangeId>,
    /// What was done, and what was left alone and why.
    pub applied: Applied,
}

impl Ledger {
    /// Makes the files of an environment what `snapshot` says, as far as `extent` goes. The change is `author`'s.
    ///
    /// Nothing is lost: what no snapshot held before is in one now, or left alone.
    ///
    /// # Errors
    /// `InUse` for all files while a run is under way; `Elsewhere` for a snapshot of an environment with another past.
    pub async fn restore(
        &self,
        environment: &EnvironmentId,
        snapshot: &Snapshot,
        extent: Extent,
        author: Author,
        title: String,
    ) -> Result<Reverted, Error> {
        let tree = name(snapshot)?;
        self.in_turn(environment, async |turn| {
            // In our turn: a run that begins from here on has its first calls wait for it.
            if let (Extent::All, Some(run)) = (&extent, self.store.find_active_run(environment).await?) {
                return Err(Error::InUse(run));
            }
            if !self.at(environment, move |place| place.history.holds(&tree)).await? {
                return Err(Error::Elsewhere);
            }
            self.bring(turn, snapshot, extent, author, title).await
        })
        .await
    }

    /// Puts what `snapshot` of any environment holds, of these files or of all, over what is in `environment`.
    pub async fn put(
        &self,
        environment: &EnvironmentId,
        snapshot: &Snapshot,
        files: Option<Vec<WorkspacePath>>,
        author: Author,
        title: String,
    ) -> Result<Reverted, Error> {
        let target = self.at(environment, |place| Ok(place.clone())).await?;
        self.at(&snapshot.environment_id, move |place| place.history.share_with(&target.history)).await?;
        self.in_turn(environment, async |turn| self.bring(turn, snapshot, Extent::Over(files), author, title).await)
            .await
    }

    async fn bring(
        &self,
        turn: Turn<'_>,
        snapshot: &Snapshot,
        extent: Extent,
        author: Author,
        title: String,
    ) -> Result<Reverted, Error> {
        let (environment, tree) = (turn.environment, name(snapshot)?);
        self.capture_in(&turn).await?;
        let named = match &extent {
            Extent::Paths(paths) => paths.iter().cloned().collect(),
            Extent::All | Extent::Over(_) => Default::default(),
        };
        let may_write_all = !matches!(extent, Extent::Paths(_));
        let working = turn.writers.begin(Writer { author, title, named, may_write_all });
        let restored = self
            .at(environment, move |place| {
                let paths = match extent {
                    Extent::All => None,
                    Extent::Paths(paths) => Some(paths.iter().map(bytes).collect()),
                    Extent::Over(files) => Some(files_of(place, &tree, files)?),
                };
                let scope = paths.as_deref().map_or(history::Scope::All, history::Scope::Paths);
                place.history.restore(&place.workspace, &tree, scope)
            })
            .await;
        drop(working);
        // Also of what was done before it failed.
        let changes = self.capture_in(&turn).await?;
        let applied = restored?.changes;
        let snapshot = self.store.latest_snapshot(environment).await?.unwrap_or_else(|| snapshot.clone());
        Ok(Reverted { snapshot, changes, applied })
    }
}

fn bytes(path: &WorkspacePath) -> Vec<u8> {
    path.as_str().as_bytes().to_vec()
}

/// Names the files and links of a snapshot, and its empty directories; or those of `wanted` that it holds.
fn files_of(
    place: &Place,
    tree: &history::Id,
    wanted: Option<Vec<WorkspacePath>>,
) -> Result<Vec<Vec<u8>>, history::Error> {
    if let Some(wanted) = wanted {
        let mut held = Vec::new();
        for path in wanted.iter().map(bytes) {
            if place.history.find(tree, &path)?.is_some_and(|node| !node.is_directory()) {
                held.push(path);
            }
        }
        return Ok(held);
    }
    let listed = place.history.list(tree, b"", usize::MAX)?.entries;
    let mut paths = Vec::with_capacity(listed.len());
    for (n, entry) in listed.iter().enumerate() {
        // What is in a directory comes right behind it.
        let is_filled = listed.get(n + 1).is_some_and(|next| {
            next.path.strip_prefix(entry.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        });
        if !entry.node.is_directory() || !is_filled {
            paths.push(entry.path.clone());
        }
    }
    Ok(paths)
}
