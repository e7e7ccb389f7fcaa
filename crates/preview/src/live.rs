//! The previews in use on this server, and whether they still may be.
//!
//! A page is many requests, so who was let in is remembered; and what was let in may stay open for hours. So the rows are
//! asked for all of them together, twice a second, and what is no longer there is ended: revocation needs no word between
//! servers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use domain::{PreviewId, preview::Preview};
use sandbox::{Forward, Sandbox, Sandboxes};
use secrecy::{ExposeSecret, SecretString};
use store::Store;
use subtle::ConstantTimeEq;
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_millis(400);
/// What was seen this recently is believed without asking again.
const FRESH: Duration = Duration::from_millis(900);
/// What nobody used for so long is forgotten; the next request asks.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// All previews in use.
pub(crate) struct Live {
    store: Store,
    sandboxes: Sandboxes,
    places: usize,
    stopping: CancellationToken,
    entries: DashMap<PreviewId, Arc<Opened>>,
}

/// A preview that somebody was let in to.
pub(crate) struct Opened {
    pub(crate) preview: Preview,
    token: SecretString,
    /// Cancelled when it is over: revoked, expired, or the server stops.
    pub(crate) ended: CancellationToken,
    /// For the requests under way.
    pub(crate) places: Arc<Semaphore>,
    times: Mutex<Times>,
    /// The environment's containers as they were found last.
    containers: Mutex<Vec<Sandbox>>,
}

struct Times {
    seen: Instant,
    used: Instant,
}

impl Live {
    pub(crate) fn new(store: Store, sandboxes: Sandboxes, places: usize, stopping: CancellationToken) -> Self {
        Self { store, sandboxes, places, stopping, entries: DashMap::new() }
    }

    /// Gives the preview that the token opens; `None` if there is none.
    pub(crate) async fn open(&self, id: &PreviewId, token: &SecretString) -> store::Result<Option<Arc<Opened>>> {
        let known = self.entries.get(id).map(|entry| Arc::clone(&entry));
        if let Some(known) = known.filter(|known| !known.ended.is_cancelled() && known.is_fresh()) {
            let is_right = bool::from(known.token.expose_secret().as_bytes().ct_eq(token.expose_secret().as_bytes()));
            known.times().used = Instant::now();
            return Ok(is_right.then_some(known));
        }
        let asked = Instant::now();
        let Some(preview) = self.store.find_preview(id, token).await? else { return Ok(None) };
        let opened = match self.entries.entry(id.clone()) {
            Entry::Occupied(entry) if !entry.get().ended.is_cancelled() => Arc::clone(entry.get()),
            entry => {
                let opened = Arc::new(Opened {
                    preview,
                    token: token.clone(),
                    ended: self.stopping.child_token(),
                    places: Arc::new(Semaphore::new(self.places)),
                    times: Mutex::new(Times { seen: asked, used: asked }),
                    containers: Mutex::default(),
                });
                entry.insert(Arc::clone(&opened));
                opened
            }
        };
        let mut times = opened.times();
        times.seen = times.seen.max(asked);
        times.used = times.used.max(asked);
        drop(times);
        Ok(Some(opened))
    }

    /// Connects to the port of a preview, in the first container of the environment where something listens on it.
    ///
    /// # Errors
    /// `Gone` when no container runs, `NotListening`, `NoEngine`, `Other`.
    pub(crate) async fn connect(&self, opened: &Opened) -> Result<Forward, sandbox::Error> {
        let known = opened.containers().clone();
        if let Ok(forward) = connect(&known, opened.preview.port).await {
            return Ok(forward);
        }
        // What is remembered may have ended, and another may have started.
        let found = self.sandboxes.running(&opened.preview.environment_id).await?;
        opened.containers().clone_from(&found);
        connect(&found, opened.preview.port).await
    }

    /// Ends what may no longer be open, until the server stops.
    pub(crate) async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let entries = self.entries.iter();
            let ids: Vec<PreviewId> = entries.map(|entry| entry.key().clone()).collect();
            if ids.is_empty() {
                continue;
            }
            let asked = Instant::now();
            match self.store.live_previews(&ids).await {
                Ok(live) => {
                    for id in ids {
                        self.entries.remove_if(&id, |_, opened| self.is_over(opened, live.contains(&id), asked));
                    }
                }
                // What is open stays open; what is new is refused by then.
                Err(err) => {
                    tracing::debug!(error = &err as &dyn std::error::Error, "cannot look which previews are live");
                }
            }
        }
    }

    /// Notes what was seen of a preview, and tells whether there is nothing left to remember of it.
    fn is_over(&self, opened: &Opened, is_live: bool, asked: Instant) -> bool {
        if !is_live {
            opened.ended.cancel();
            return true;
        }
        let mut times = opened.times();
        times.seen = times.seen.max(asked);
        times.used.elapsed() > FORGET_AFTER && opened.places.available_permits() == self.places
    }
}

impl Opened {
    fn is_fresh(&self) -> bool {
        self.times().seen.elapsed() < FRESH
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers(&self) -> MutexGuard<'_, Vec<Sandbox>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(containers: &[Sandbox], port: u16) -> Result<Forward, sandbox::Error> {
    let mut failed = sandbox::Error::Gone;
    for container in containers {
        match container.connect(port).await {
            Ok(forward) => return Ok(forward),
            // Of two containers, the one that runs says more.
            Err(sandbox::Error::Gone) => {}
            Err(err) => failed = err,
        }
    }
    Err(failed)
}
