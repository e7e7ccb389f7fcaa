//! Spans for a collector of OpenTelemetry, sent as OTLP over HTTP where the settings name one.
//!
//! What is in them is `executor::spans`. They are sent in batches by a thread of the library; a collector that is away costs
//! spans and a line in the log, and nobody waits for it.

use std::collections::HashMap;

use anyhow::{Context, bail};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use secrecy::ExposeSecret;
use tracing_subscriber::{Layer, filter, registry::LookupSpan};

use crate::config;

/// Where spans of this version of OTLP are taken, below the endpoint.
const PATH: &str = "v1/traces";

const NAME: &str = "atelier";

pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Prepares for sending; `None` if nobody wants spans. No connection is made before there is one.
    ///
    /// # Errors
    /// Headers that are none.
    pub(crate) fn start(settings: &config::Telemetry) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let headers = match &settings.otlp_headers {
            Some(headers) => parse_headers(headers.expose_secret()).context("telemetry.otlp_headers")?,
            None => HashMap::new(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/{PATH}", endpoint.as_str().trim_end_matches('/')))
            .with_headers(headers)
            .build()
            .context("spans cannot be sent (telemetry.otlp_endpoint)")?;
        let resource = Resource::builder()
            .with_service_name(NAME)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self { provider }))
    }

    /// Takes the spans that are for others, and no other ones.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(NAME))
            // Of our source code nobody outside needs to know.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == executor::spans::TARGET
            }))
    }

    /// Sends what is left, for some seconds at most.
    pub(crate) async fn finish(self) {
        let done = tokio::task::spawn_blocking(move || self.provider.shutdown()).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!(error = &err as &dyn std::error::Error, "the last spans were not sent"),
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "the last spans were not sent"),
        }
    }
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
