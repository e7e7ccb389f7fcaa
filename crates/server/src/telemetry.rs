//! Spans and metrics for a collector of OpenTelemetry, sent as OTLP over HTTP where the settings name one.
//!
//! What is in the spans is `executor::spans`; the metrics are what the page `/metrics` has. Both are sent by threads of the
//! library, in batches and at an interval; a collector that is away costs what was to be sent and a line in the log, and
//! nobody waits for it.

mod totals;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, bail};
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use opentelemetry::{KeyValue, metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream},
    trace::SdkTracerProvider,
};
use secrecy::ExposeSecret;
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer, filter, registry::LookupSpan};
use uuid::Uuid;

use self::totals::Counted;
use crate::{config, recording::HISTOGRAMS};

/// Where spans and metrics of this version of OTLP are taken, below the endpoint.
const TRACES: &str = "v1/traces";
const METRICS: &str = "v1/metrics";

const NAME: &str = "atelier";

pub(crate) struct Telemetry {
    traces: SdkTracerProvider,
    metrics: Option<Metrics>,
}

struct Metrics {
    provider: SdkMeterProvider,
    interval: Duration,
    counted: Counted,
}

impl Telemetry {
    /// Prepares for sending; `None` if nobody wants anything. No connection is made before there is something to send.
    ///
    /// # Errors
    /// Headers that are none.
    pub(crate) fn start(settings: &config::Telemetry) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let endpoint = |path: &str| format!("{}/{path}", endpoint.as_str().trim_end_matches('/'));
        let headers = match &settings.otlp_headers {
            Some(headers) => parse_headers(headers.expose_secret()).context("telemetry.otlp_headers")?,
            None => HashMap::new(),
        };
        let resource = Resource::builder()
            .with_service_name(NAME)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            // Or the figures of several servers would be taken for those of one.
            .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
            .build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint(TRACES))
            .with_headers(headers.clone())
            .build()
            .context("spans cannot be sent (telemetry.otlp_endpoint)")?;
        let traces = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.clone()).build();
        let Some(interval) = settings.metrics_interval else { return Ok(Some(Self { traces, metrics: None })) };
        let exporter = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint(METRICS))
            .with_headers(headers)
            .build()
            .context("metrics cannot be sent (telemetry.otlp_endpoint)")?;
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .with_resource(resource)
            .with_view(as_known)
            .build();
        let counted = Counted::default();
        counted.tell(&provider.meter(NAME));
        Ok(Some(Self { traces, metrics: Some(Metrics { provider, interval, counted }) }))
    }

    /// Takes the spans that are for others, and no other ones.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer(NAME))
            // Of our source code nobody outside needs to know.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == executor::spans::TARGET
            }))
    }

    /// Takes what is measured, if somebody wants it.
    pub(crate) fn recorder(&self) -> Option<OpenTelemetryRecorder> {
        let metrics = self.metrics.as_ref()?;
        Some(OpenTelemetryRecorder::new(OpenTelemetryMetrics::new(metrics.provider.meter(NAME))))
    }

    /// Counts what is told of the rows, if somebody wants that, until the server stops.
    pub(crate) fn count(&self, store: Store, stop: CancellationToken) -> Option<impl Future<Output = ()> + use<>> {
        let metrics = self.metrics.as_ref()?;
        // Half of it: what is sent is then never older than that.
        Some(metrics.counted.clone().keep(store, metrics.interval / 2, stop))
    }

    /// Sends what is left, for some seconds at most.
    pub(crate) async fn finish(self) {
        let Self { traces, metrics } = self;
        let spans = tokio::task::spawn_blocking(move || traces.shutdown());
        let figures =
            tokio::task::spawn_blocking(move || metrics.map_or(Ok(()), |metrics| metrics.provider.shutdown()));
        for (what, done) in [("spans", spans.await), ("metrics", figures.await)] {
            if let Err(err) = done.map_err(anyhow::Error::from).and_then(|sent: OTelSdkResult| Ok(sent?)) {
                tracing::warn!(error = &*err as &dyn std::error::Error, "the last {what} were not sent");
            }
        }
    }
}

/// Gives a figure the unit and the boundaries that it has: the facade knows neither tokens nor buckets.
fn as_known(instrument: &Instrument) -> Option<Stream> {
    let histogram = HISTOGRAMS.iter().find(|histogram| histogram.name == instrument.name())?;
    let boundaries = histogram.boundaries.to_vec();
    Stream::builder()
        .with_unit(histogram.unit)
        .with_aggregation(Aggregation::ExplicitBucketHistogram { boundaries, record_min_max: true })
        .build()
        .ok()
}

/// Reads `name=value, name=value`.
fn parse_headers(text: &str) -> anyhow::Result<HashMap<String, String>> {
    let mut headers = HashMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        // Not quoted: what stands there is secret.
        let Some((name, value)) = pair.split_once('=') else { bail!("must be name=value, with commas between them") };
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(headers)
}
