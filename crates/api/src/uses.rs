//! How much keys are used: counted here in memory, written down about once a minute for each.
//!
//! A write per request would be a commit each. What a server has counted since it last wrote is lost when it is killed:
//! these figures are for looking at, nothing is decided by them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::ApiKeyId;
use store::{Store, keys::Usage};

use crate::Result;

const WRITE_EVERY: Duration = Duration::from_secs(60);

/// What this server has counted and not written yet. Bounded: keys are the ones that exist. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Uses(Arc<Mutex<HashMap<ApiKeyId, Pending>>>);

struct Pending {
    usage: Usage,
    written_at: Instant,
}

impl Uses {
    /// Counts a request, and sees to it that what is due is written.
    pub(crate) fn count(&self, store: &Store, key: &ApiKeyId, has_failed: bool) {
        if let Some(due) = self.add(key, Usage { requests: 1, failures: i64::from(has_failed) }, WRITE_EVERY) {
            let (uses, store, key) = (self.clone(), store.clone(), key.clone());
            tokio::spawn(async move {
                if let Err(err) = store.add_key_usage(&key, due).await {
                    tracing::warn!(error = &err as &dyn std::error::Error, "cannot write how much a key is used");
                    uses.add(&key, due, Duration::MAX);
                }
            });
        }
    }

    /// Writes what is pending, so that what is read next has it. Other servers' last minute is still theirs.
    pub(crate) async fn write(&self, store: &Store) -> Result<()> {
        let pending: Vec<_> = self.lock().iter_mut().map(|(key, pending)| (key.clone(), pending.take())).collect();
        for (key, usage) in pending.into_iter().filter(|(_, usage)| usage.requests > 0) {
            store.add_key_usage(&key, usage).await?;
        }
        Ok(())
    }

    /// Adds to what is pending, and gives it all if it has been so for `patience`.
    fn add(&self, key: &ApiKeyId, more: Usage, patience: Duration) -> Option<Usage> {
        let mut all = self.lock();
        let pending =
            all.entry(key.clone()).or_insert_with(|| Pending { usage: Usage::default(), written_at: Instant::now() });
        pending.usage.requests += more.requests;
        pending.usage.failures += more.failures;
        (pending.written_at.elapsed() >= patience).then(|| pending.take())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApiKeyId, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn take(&mut self) -> Usage {
        self.written_at = Instant::now();
        std::mem::take(&mut self.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_given_once_and_when_it_is_due() {
        let (uses, key) = (Uses::default(), ApiKeyId::generate());
        let one = Usage { requests: 1, failures: 0 };
        assert_eq!(uses.add(&key, one, Duration::MAX), None);
        let failed = Usage { requests: 1, failures: 1 };
        assert_eq!(uses.add(&key, failed, Duration::ZERO), Some(Usage { requests: 2, failures: 1 }));
        assert_eq!(uses.add(&key, one, Duration::ZERO), Some(one));
    }
}
