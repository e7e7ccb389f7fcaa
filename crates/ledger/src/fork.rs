//! An environment that begins as a snapshot of another.

use domain::{EnvironmentId, change::Snapshot};
use history::Applied;
use store::snapshots::NewSnapshot;

use crate::{Error, Ledger, capture::name, ledger::Place};

impl Ledger {
    /// Puts what `snapshot` of the environment `origin` holds into the new environment `target`, whose history begins with
    /// it. The content is shared; either can be deleted.
    pub async fn fork(
        &self,
        origin: &EnvironmentId,
        snapshot: &Snapshot,
        target: &EnvironmentId,
    ) -> Result<(Snapshot, Applied), Error> {
        let tree = name(snapshot)?;
        let new = self.at(target, |place| Ok(place.clone())).await?;
        let fork = move |place: &Place| place.history.fork(&tree, new.history.dir().to_owned(), &new.workspace);
        let (_, applied) = self.at(origin, fork).await?;
        let begun = NewSnapshot { tree: snapshot.tree.clone(), stats: snapshot.stats };
        Ok((self.store.first_snapshot(target, &begun).await?, applied))
    }
}
