//! Logs as JSON lines, traces to a collector when there is one, and the trace that a request is part of (W3C Trace
//! Context). Only this crate's own spans leave: no library's may carry a statement or a row.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState, TracerProvider};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Longer than this no collector is waited for.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// A place in a trace: what a `traceparent` says. Displayed it is hexadecimal digits and hyphens, whatever was sent.
#[derive(Clone, Debug)]
pub struct Trace(SpanContext);

impl Trace {
    /// The trace that a request continues, or a fresh one; `span` is the request's own and joins it.
    pub(crate) fn of_request(headers: &HeaderMap, span: &Span) -> Self {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let sent = parent.span().span_context().clone();
        if sent.is_valid() {
            // Refused where no traces are sent: then there is nothing to join.
            let _ = span.set_parent(parent);
        }
        Self::of_span(span).unwrap_or_else(|| Self::below(&sent))
    }

    /// Where `span` is, if traces are sent.
    pub(crate) fn of_span(span: &Span) -> Option<Self> {
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    fn below(parent: &SpanContext) -> Self {
        let ids = RandomIdGenerator::default();
        let (trace, flags) = if parent.is_valid() {
            (parent.trace_id(), parent.trace_flags() & TraceFlags::SAMPLED)
        } else {
            (ids.new_trace_id(), TraceFlags::default())
        };
        Self(SpanContext::new(trace, ids.new_span_id(), flags, false, TraceState::default()))
    }

    /// The trace's id.
    pub fn id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.0.trace_id(), self.0.span_id(), self.0.trace_flags())
    }
}

/// Begins to log what `filter` lets through, and to send traces to `collector` if there is one.
///
/// # Errors
/// A filter or a URL that cannot be read.
pub fn begin(filter: &str, collector: Option<&str>) -> anyhow::Result<Option<SdkTracerProvider>> {
    let filter = EnvFilter::try_new(filter).context("RUST_LOG names no filter")?;
    // The queue's library logs what jobs hold, and a job holds a tenant.
    let filter = filter.add_directive("graphile_worker=off".parse()?);
    let traces = collector.filter(|url| !url.is_empty()).map(provider).transpose()?;
    let sent = traces.as_ref().map(|provider| {
        let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer().with_location(false).with_threads(false);
        layer.with_tracer(provider.tracer("audit-api")).with_filter(own)
    });
    let logged = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(sent).with(logged).init();
    Ok(traces)
}

/// Sends the traces that still wait.
pub fn end(traces: Option<SdkTracerProvider>) {
    if let Some(Err(error)) = traces.map(|provider| provider.shutdown_with_timeout(EXPORT_MAX)) {
        tracing::warn!(%error, "the last traces could not be sent");
    }
}

fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    // The URL may hold a password: it is not quoted.
    let unreadable = "OTEL_EXPORTER_OTLP_ENDPOINT cannot be read: it begins with http:// or https://";
    ensure!(collector.starts_with("http://") || collector.starts_with("https://"), unreadable);
    // A second install is refused, and rightly: the first stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .timeout(EXPORT_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("no HTTP client")?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", collector.trim_end_matches('/')))
        .build()
        .map_err(|_| anyhow::anyhow!(unreadable))?;
    let resource = Resource::builder().with_service_name("audit-api").build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}
