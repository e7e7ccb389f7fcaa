//! Bringing files back. What is there is written down first, and going back is a change like any other.

use domain::{
    EnvironmentId,
    change::{Author, Snapshot},
};
use history::{Applied, Scope};

use crate::{Error, Ledger, Writer, capture::name};

/// What came of going back.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// The newest snapshot by now.
    pub snapshot: Snapshot,
    /// What was done, and what was left alone and why.
    pub applied: Applied,
}

impl Ledger {
    /// Makes the files of an environment what `snapshot`, one of its own, says: all of them, or those at `paths`. The
    /// change is `author`'s.
    ///
    /// Nothing is lost: what no snapshot held before is in one now, or left alone.
    pub async fn restore(
        &self,
        environment: &EnvironmentId,
        snapshot: &Snapshot,
        paths: Option<Vec<Vec<u8>>>,
        author: Author,
        title: String,
    ) -> Result<Reverted, Error> {
        let tree = name(snapshot)?;
        self.in_turn(environment, async |turn| {
            self.capture_in(&turn).await?;
            let writer = Writer { author, title, named: Default::default(), may_write_all: true };
            let working = turn.writers.begin(writer);
            let restored = self
                .at(environment, move |place| {
                    let scope = paths.as_deref().map_or(Scope::All, Scope::Paths);
                    place.history.restore(&place.workspace, &tree, scope)
                })
                .await;
            drop(working);
            // Also of what was done before it failed.
            self.capture_in(&turn).await?;
            let applied = restored?.changes;
            let snapshot = self.store.latest_snapshot(environment).await?.unwrap_or_else(|| snapshot.clone());
            Ok(Reverted { snapshot, applied })
        })
        .await
    }
}
