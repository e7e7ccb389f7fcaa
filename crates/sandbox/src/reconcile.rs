//! Brings what runs back to what is wanted: crashes leave containers, and idle ones cost memory.

use std::{collections::HashSet, time::Duration};

use domain::EnvironmentId;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::{
    Error, Sandboxes,
    containers::{Listed, REMOVALS},
    guest::Guest,
    place::Place,
    slot::Slot,
};

/// A container whose commands left something running stays up longer than an unused one, by this factor.
const BACKGROUND_FACTOR: u32 = 8;

/// An environment opened this recently may be newer than the caller's list of what is wanted.
const TOO_NEW: Duration = Duration::from_secs(60);

/// What a pass of the reconciler did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Engine ids of containers of this installation that nobody wants.
    pub removed: Vec<String>,
    /// Environments of containers that were stopped because nobody used them.
    pub stopped: Vec<EnvironmentId>,
}

impl Sandboxes {
    /// Removes the containers of this installation that `wanted` does not name, and stops the idle.
    ///
    /// Touches nothing without this installation's label, and no files. A container with a running foreground command, or
    /// with an open connection to one of its ports, is never idle; one in which only background commands or left-over processes run is idle after eight times
    /// [`idle_stop`](crate::Options::idle_stop). Firewall rules that somebody flushed are set again.
    pub async fn reconcile(&self, wanted: &HashSet<EnvironmentId>) -> Result<Reconciled, Error> {
        let began = Instant::now();
        let (mut done, mut unwanted) = (Reconciled::default(), Vec::new());
        // Before the containers are listed: a bay that is made or given away meanwhile is not taken for left over.
        let bays = self.inner.pool.unheld();
        let listed = self.inner.list().await?;
        let mut used: HashSet<String> = listed.iter().filter_map(|listed| listed.bay.clone()).collect();
        for Listed { id, place, bay, mark, is_running } in listed {
            let Some(place) = place else {
                if !self.inner.pool.is_waiting(bay.as_deref(), mark.as_deref()) {
                    self.inner.delete(&id).await?;
                    used.retain(|used| Some(used) != bay.as_ref());
                    done.removed.push(id);
                }
                continue;
            };
            if !wanted.contains(&place.environment) {
                let is_new = self.known(&place).is_some_and(|slot| slot.uses.idle() < TOO_NEW + began.elapsed());
                if !is_new {
                    unwanted.push((id, place));
                }
                continue;
            }
            let slot = self.slot(&place);
            if is_running && self.is_idle(&place, &slot).await {
                let _changing = slot.changing.lock().await;
                // Opened while we looked.
                if slot.uses.idle() >= self.inner.options.idle_stop {
                    slot.set_running(None);
                    self.inner.halt(&id).await?;
                    done.stopped.push(place.environment);
                }
            }
        }
        let removing = unwanted.into_iter().map(|(id, place)| self.remove_unwanted(id, place));
        let removed: Vec<_> = futures::stream::iter(removing).buffer_unordered(REMOVALS).try_collect().await?;
        done.removed.extend(removed);
        crate::warm::clear(&bays, &used);
        if let Err(err) = self.inner.bridge.refresh(&self.inner.engine).await {
            tracing::warn!(error = &err as &dyn std::error::Error, "cannot renew the firewall rules");
        }
        Ok(done)
    }

    /// Removes a container at once: there is nobody for whom what runs in it could come to a good end.
    async fn remove_unwanted(&self, id: String, place: Place) -> Result<String, Error> {
        let slot = self.slot(&place);
        let _changing = slot.changing.lock().await;
        slot.set_running(None);
        self.inner.delete(&id).await?;
        self.inner.slots.remove(&place);
        Ok(id)
    }

    async fn is_idle(&self, place: &Place, slot: &Slot) -> bool {
        let (idle, limit) = (slot.uses.idle(), self.inner.options.idle_stop);
        if idle < limit {
            return false;
        }
        let Ok(guest) = Guest::new(&self.inner.directories(place).run) else { return true };
        match guest.ping(Duration::from_secs(3)).await {
            // Another server's commands and connections: it shares the engine and counts for itself.
            Ok(pong) if pong.foreground + pong.forwards > 0 => false,
            Ok(pong) if pong.background + pong.lingering > 0 => idle >= limit * BACKGROUND_FACTOR,
            Ok(_) | Err(_) => true,
        }
    }
}
