//! How often keys and projects may ask, counted over all servers of an installation.
//!
//! What is left stands in the database; a server takes a fiftieth of it at once and looks again when that is used up. So a
//! row is written once in many requests, and servers exceed a limit together by less than a fiftieth each.

use std::{collections::BTreeMap, time::Duration};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use dashmap::DashMap;
use store::{Store, rates::Rate};

use crate::{Error, Result, Settings, auth::Caller, error::whole_seconds};

/// Which part of a limit is taken at once.
const PARTS: u32 = 50;

/// Counts the requests of keys and of projects. Both are the ones that exist, so memory is bounded.
pub(crate) struct Rates {
    keys: Option<Shared>,
    projects: Option<Shared>,
    /// Of projects of tiers that have a limit of their own, also where that is none.
    tiers: BTreeMap<String, Option<Shared>>,
}

/// How a caller stands after a request that was let pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// Limit, what remains, and how long until all of it is there again; `None` without a limit.
    counted: Option<(u32, u32, Duration)>,
}

/// A caller that has no request left.
#[derive(Debug)]
pub(crate) struct Exhausted {
    who: &'static str,
    rate: Rate,
    wait: Duration,
}

impl Rates {
    pub(crate) fn new(settings: &Settings) -> Self {
        let of_project = |requests| Shared::new("a project", requests, settings.window);
        let tiers = settings.tiers.all_requests_per_window();
        Self {
            keys: Shared::new("a key", settings.requests_per_window, settings.window),
            projects: of_project(settings.requests_per_project),
            tiers: tiers.map(|(name, requests)| (name.to_owned(), of_project(requests))).collect(),
        }
    }

    /// Counts a request of a key and of its project.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn count(
        &self,
        store: &Store,
        caller: &Caller,
    ) -> Result<std::result::Result<Standing, Exhausted>> {
        let mut standing = Standing::default();
        let of_tier = caller.tier.as_ref().and_then(|tier| self.tiers.get(tier));
        let projects = of_tier.unwrap_or(&self.projects);
        for (shared, subject) in [(projects, caller.project.as_str()), (&self.keys, caller.key.as_str())] {
            let Some(shared) = shared else { continue };
            match shared.count(store, subject).await? {
                Ok(counted) => standing = standing.tighter(counted),
                Err(exhausted) => return Ok(Err(exhausted)),
            }
        }
        Ok(Ok(standing))
    }
}

/// One limit for many, by name.
struct Shared {
    who: &'static str,
    rate: Rate,
    portion: u32,
    held: DashMap<String, Held>,
}

/// What this server has taken and not used, and what was left for others then.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    requests: u32,
    left: f64,
}

impl Shared {
    fn new(who: &'static str, burst: u32, window: Duration) -> Option<Self> {
        let rate = Rate { burst, window };
        (burst > 0 && !window.is_zero()).then(|| Self {
            who,
            rate,
            portion: (burst / PARTS).max(1),
            held: DashMap::new(),
        })
    }

    async fn count(&self, store: &Store, subject: &str) -> Result<std::result::Result<Standing, Exhausted>> {
        if let Some(standing) = self.use_held(subject) {
            return Ok(Ok(standing));
        }
        // Not under the lock: others of this subject may come here too, and each takes its own.
        let taken = store.take_requests(subject, self.rate, self.portion).await?;
        if taken.requests == 0 {
            let wait = self.rate.time_for(1.0 - taken.left);
            return Ok(Err(Exhausted { who: self.who, rate: self.rate, wait }));
        }
        let mut held = self.held.entry(subject.to_owned()).or_default();
        held.requests += taken.requests - 1;
        held.left = taken.left;
        Ok(Ok(self.standing(*held)))
    }

    fn use_held(&self, subject: &str) -> Option<Standing> {
        let mut held = self.held.get_mut(subject)?;
        held.requests = held.requests.checked_sub(1)?;
        Some(self.standing(*held))
    }

    fn standing(&self, held: Held) -> Standing {
        let remaining = f64::from(held.requests) + held.left.max(0.0);
        let reset = self.rate.time_for(f64::from(self.rate.burst) - remaining);
        Standing { counted: Some((self.rate.burst, remaining as u32, reset)) }
    }
}

impl Standing {
    /// Gives the one of both that leaves less.
    fn tighter(self, other: Self) -> Self {
        match (self.counted, other.counted) {
            (Some((_, one, _)), Some((_, two, _))) if one < two => self,
            (_, Some(_)) => other,
            (_, None) => self,
        }
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some((limit, remaining, reset)) = self.counted {
            headers.insert("ratelimit-limit", HeaderValue::from(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from(remaining));
            headers.insert("ratelimit-reset", whole_seconds(reset));
        }
    }
}

impl Exhausted {
    pub(crate) fn error(&self) -> Error {
        let Self { who, rate, wait } = self;
        let message = format!("Too many requests: {who} may make {} in {} seconds", rate.burst, rate.window.as_secs());
        Error::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(*wait)
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        Standing { counted: Some((self.rate.burst, 0, self.wait)) }.write(headers);
    }
}
