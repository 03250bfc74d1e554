//! The alternatives, each set up as its documentation advises.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, ManualReader, SdkMeterProvider, Stream};

/// As precise as perfwatch's, over the same range.
pub(crate) fn hdr() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_bounds(1, 3_600_000_000_000, 2).expect("valid bounds")
}

/// 20 buckets, each twice as wide as the one before.
pub(crate) fn prometheus() -> prometheus_client::metrics::histogram::Histogram {
    let bounds = prometheus_client::metrics::histogram::exponential_buckets(1e-6, 2.0, 20);
    prometheus_client::metrics::histogram::Histogram::new(bounds)
}

/// Two, made once: what tells a model and a stage apart.
pub(crate) fn attributes() -> [KeyValue; 2] {
    [KeyValue::new("gen_ai.request.model", "llama-70b"), KeyValue::new("stage", "compute")]
}

/// OpenTelemetry's histogram with its default bounds.
pub(crate) fn explicit() -> Histogram<f64> {
    histogram(|_| None)
}

/// OpenTelemetry's histogram whose buckets follow the values.
pub(crate) fn exponential() -> Histogram<f64> {
    histogram(|_| {
        let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
        Stream::builder().with_aggregation(aggregation).build().ok()
    })
}

/// Read by nobody while it is measured.
fn histogram(view: impl Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static) -> Histogram<f64> {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::default()).with_view(view).build();
    let histogram = provider.meter("bench").f64_histogram("bench.duration").with_unit("s").build();
    // A provider that is dropped shuts its instruments down.
    std::mem::forget(provider);
    histogram
}
