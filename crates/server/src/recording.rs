//! Where what is measured goes: to the page `/metrics`, and to a collector of OpenTelemetry where there is one.
//!
//! What measures knows neither: it speaks to the facade `metrics`. Both are told here what the figures are.

use std::time::Duration;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::layers::FanoutBuilder;
use tokio::time::interval;

use crate::{lifecycle::Lifecycle, telemetry::Telemetry};

/// How often old samples are folded away; without it histograms of an idle server grow with the scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// A figure with a distribution.
pub(crate) struct Histogram {
    pub(crate) name: &'static str,
    /// By the Unified Code for Units of Measure.
    pub(crate) unit: &'static str,
    pub(crate) text: &'static str,
    pub(crate) boundaries: &'static [f64],
}

/// Boundaries that the conventions of OpenTelemetry give, so that figures of several services can be laid over one another.
pub(crate) const HISTOGRAMS: [Histogram; 4] = [
    Histogram {
        name: claude::measure::DURATION,
        unit: "s",
        text: "Time that requests to the model, tool calls and runs took.",
        boundaries: &GEN_AI_SECONDS,
    },
    Histogram {
        name: claude::measure::FIRST_CHUNK,
        unit: "s",
        text: "Time until the first piece of the model's answer came.",
        boundaries: &GEN_AI_SECONDS,
    },
    Histogram {
        name: claude::measure::TOKENS,
        unit: "{token}",
        text: "Tokens that the model read and wrote in one reply.",
        boundaries: &[
            1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
            67108864.0,
        ],
    },
    Histogram {
        name: "atelier_http_response_seconds",
        unit: "s",
        text: "Time until the answer to a request began.",
        boundaries: &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    },
];

const GEN_AI_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Records from now on. Gives what renders the page.
///
/// # Errors
/// If something records already.
pub(crate) fn start(lifecycle: &Lifecycle, telemetry: Option<&Telemetry>) -> anyhow::Result<PrometheusHandle> {
    let page = prometheus().context("cannot record metrics")?.build_recorder();
    let handle = page.handle();
    let mut recorders = FanoutBuilder::default().add_recorder(page);
    if let Some(recorder) = telemetry.and_then(Telemetry::recorder) {
        recorders = recorders.add_recorder(recorder);
    }
    metrics::set_global_recorder(recorders.build()).map_err(|_| anyhow!("something records metrics already"))?;
    for histogram in &HISTOGRAMS {
        metrics::describe_histogram!(histogram.name, histogram.text);
    }
    metrics::describe_counter!("atelier_http_requests_total", "Requests to the API.");
    metrics::describe_counter!("atelier_webhook_deliveries_total", "Tries to tell a webhook of something.");

    let (upkeep, stop) = (handle.clone(), lifecycle.soft.clone());
    lifecycle.tracker.spawn(async move {
        let mut ticks = interval(UPKEEP);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

fn prometheus() -> Result<PrometheusBuilder, BuildError> {
    HISTOGRAMS.iter().try_fold(PrometheusBuilder::new(), |builder, histogram| {
        builder.set_buckets_for_metric(Matcher::Full(histogram.name.to_owned()), histogram.boundaries)
    })
}
