//! What only the rows tell: how many runs there are of each kind, and what they came to. The page `/metrics` counts when it
//! is asked for; a collector asks for nothing, so it is counted from time to time and told what was found last.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::Meter};
use store::{Store, metrics::Totals};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// What was counted last.
#[derive(Clone, Default)]
pub(super) struct Counted(Arc<Mutex<Option<Totals>>>);

impl Counted {
    /// Has the collector told what was found.
    pub(super) fn tell(&self, meter: &Meter) {
        let counted = self.clone();
        meter
            .i64_observable_gauge("atelier_runs")
            .with_description("Runs by what they are at.")
            .with_callback(move |observer| {
                for (status, runs) in counted.last().iter().flat_map(Totals::by_status) {
                    observer.observe(runs, &[KeyValue::new("status", status)]);
                }
            })
            .build();
        let counted = self.clone();
        meter
            .u64_observable_counter("atelier_tokens_total")
            .with_description("Tokens of all runs.")
            .with_unit("{token}")
            .with_callback(move |observer| {
                if let Some(totals) = counted.last() {
                    observer.observe(u64::try_from(totals.tokens).unwrap_or_default(), &[]);
                }
            })
            .build();
        let counted = self.clone();
        meter
            .f64_observable_counter("atelier_cost_usd_total")
            .with_description("What all runs cost, in US dollars.")
            .with_unit("USD")
            .with_callback(move |observer| {
                if let Some(totals) = counted.last() {
                    observer.observe(totals.cost_usd(), &[]);
                }
            })
            .build();
    }

    /// Counts, until the server stops.
    pub(super) async fn keep(self, store: Store, every: Duration, stop: CancellationToken) {
        let mut ticks = interval(every);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            match store.totals().await {
                Ok(totals) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(totals),
                Err(err) => {
                    tracing::debug!(error = &err as &dyn std::error::Error, "cannot count the runs, trying again");
                }
            }
        }
    }

    fn last(&self) -> Option<Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
