//! How often an address may be wrong, and how many events a trigger takes. How often keys ask is counted in `rates`.
//!
//! Both are leaky buckets (GCRA) in memory of this process: a full bucket drains evenly over its window, so a client that
//! was refused can go on after a moment, not after the whole window. Memory is bounded: triggers are the ones that exist,
//! addresses are forgotten when their bucket is empty.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use domain::TriggerId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};

use crate::{Error, Result, Settings};

/// How many addresses are remembered at once.
const MAX_ADDRESSES: usize = 65_536;

const SWEEP_EVERY: Duration = Duration::from_secs(1);

type Buckets<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

pub(crate) struct Limits {
    failures: Option<Buckets<IpAddr>>,
    events: Option<Buckets<TriggerId>>,
    /// When addresses were last forgotten, which looks at all of them.
    swept_at: Mutex<Option<Instant>>,
}

impl Limits {
    pub(crate) fn new(settings: &Settings) -> Self {
        // One request comes back every `window / burst`, so a whole window gives them all back.
        let buckets = |burst: u32, window: Duration| {
            Some(Quota::with_period(window.checked_div(burst)?)?.allow_burst(NonZeroU32::new(burst)?))
        };
        Self {
            failures: buckets(settings.failed_logins_per_minute, Duration::from_secs(60))
                .map(|quota| RateLimiter::dashmap(quota).with_middleware()),
            events: buckets(settings.events_per_minute, Duration::from_secs(60))
                .map(|quota| RateLimiter::dashmap(quota).with_middleware()),
            swept_at: Mutex::default(),
        }
    }

    /// Tells whether a sweep is due, and notes that it is done.
    fn must_sweep(&self) -> bool {
        let mut swept_at = self.swept_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        if is_due {
            *swept_at = Some(Instant::now());
        }
        is_due
    }

    /// Counts an event that a trigger is told of. An error if there were too many.
    pub(crate) fn count_event(&self, trigger: &TriggerId) -> Result<()> {
        let Some(buckets) = &self.events else { return Ok(()) };
        buckets.check_key(trigger).map(|_| ()).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            Error::new(StatusCode::TOO_MANY_REQUESTS, "Too many events for this trigger").with_retry_after(wait)
        })
    }

    /// Counts a wrong key. An error if there were too many from this address.
    pub(crate) fn count_failure(&self, address: IpAddr) -> Result<()> {
        let Some(buckets) = &self.failures else { return Ok(()) };
        let too_many = |wait| {
            let message = "Too many requests with a wrong API key from this address";
            Error::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(wait)
        };
        if buckets.len() >= MAX_ADDRESSES {
            if self.must_sweep() {
                buckets.retain_recent();
            }
            if buckets.len() >= MAX_ADDRESSES {
                return Err(too_many(Duration::from_secs(60)));
            }
        }
        match buckets.check_key(&network(address)) {
            Ok(_) => Ok(()),
            Err(not_until) => Err(too_many(not_until.wait_time_from(DefaultClock::default().now()))),
        }
    }
}

/// Gives what counts as one address: a whole /64 of IPv6, since that is what one client is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}
