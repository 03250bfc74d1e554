//! The agent's own spans and log, through the OpenTelemetry SDK.
//!
//! Only spans and events of perfwatch's own crates leave, and none about exporting: what that does would otherwise be
//! exported, for ever.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::client::http::HttpClient;
use crate::client::{MAX_RESPONSE, StartError, USER_AGENT, bounded_channel};
use crate::config::{OtlpConfig, Protocol, Target};

/// The providers behind the layers; keep it until the end, then [`OwnTelemetry::shutdown`].
pub struct OwnTelemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl OwnTelemetry {
    /// Providers for the endpoints of `config`; `None` when there is neither one for traces nor one for logs.
    ///
    /// # Errors
    ///
    /// When a file for TLS cannot be used.
    pub fn start(config: &OtlpConfig, runtime: &Handle) -> Result<Option<Self>, StartError> {
        let _within = runtime.enter();
        let resource = Resource::builder_empty()
            .with_attributes(config.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
            .build();
        let traces = match &config.traces {
            Some(target) => {
                let exporter = span_exporter(target, runtime)?;
                let builder = SdkTracerProvider::builder().with_resource(resource.clone());
                Some(builder.with_batch_exporter(exporter).build())
            }
            None => None,
        };
        let logs = match &config.logs {
            Some(target) => {
                let exporter = log_exporter(target, runtime)?;
                Some(SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
            }
            None => None,
        };
        Ok((traces.is_some() || logs.is_some()).then_some(Self { traces, logs }))
    }

    /// A layer for the agent's subscriber, which sends spans and events of level info and above.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let mut layers: Vec<Box<dyn Layer<S> + Send + Sync>> = Vec::new();
        if let Some(provider) = &self.traces {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("perfwatch"));
            layers.push(layer.with_filter(FilterFn::new(leaves)).boxed());
        }
        if let Some(provider) = &self.logs {
            let layer = OpenTelemetryTracingBridge::new(provider);
            layers.push(layer.with_filter(FilterFn::new(leaves)).boxed());
        }
        layers
    }

    /// Sends what waits, at most `within`. Blocks; call it off the runtime's threads.
    pub fn shutdown(&self, within: Duration) {
        // What cannot be delivered at the end is lost; there is nobody left to tell.
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown_with_timeout(within);
        }
        if let Some(logs) = &self.logs {
            let _ = logs.shutdown_with_timeout(within);
        }
    }
}

/// True for what is perfwatch's own and not about exporting.
fn leaves(metadata: &Metadata<'_>) -> bool {
    const ABOUT_EXPORT: [&str; 2] = ["perfwatch_export", "perfwatch_agent::ship"];
    let target = metadata.target();
    let is_about_export = ABOUT_EXPORT.iter().any(|about| target.starts_with(about));
    *metadata.level() <= Level::INFO && target.starts_with("perfwatch") && !is_about_export
}

fn failed(target: &Target, error: &ExporterBuildError) -> StartError {
    StartError::Endpoint { variable: target.variable.clone(), reason: error.to_string() }
}

fn metadata(target: &Target) -> MetadataMap {
    MetadataMap::from_headers(target.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Makes an SDK's exporter as a target wants it. Its builders share no trait that could be named.
macro_rules! exporter {
    ($builder:expr, $target:expr, $runtime:expr) => {{
        // Told `none`, the SDK reads the same variable, and finds the same.
        let gzip = $target.gzip.then_some(Compression::Gzip);
        let exporter = match $target.protocol {
            Protocol::HttpProtobuf => {
                let builder = $builder.with_http().with_http_client(OnRuntime::open($target, $runtime)?);
                let builder = builder.with_endpoint(&$target.url).with_timeout($target.timeout);
                match gzip {
                    Some(gzip) => builder.with_compression(gzip).build(),
                    None => builder.build(),
                }
            }
            Protocol::Grpc => {
                let builder = $builder.with_tonic().with_channel(bounded_channel($target)?);
                let builder = builder.with_metadata(metadata($target)).with_timeout($target.timeout);
                match gzip {
                    Some(gzip) => builder.with_compression(gzip).build(),
                    None => builder.build(),
                }
            }
        };
        exporter.map_err(|error| failed($target, &error))
    }};
}

fn span_exporter(target: &Target, runtime: &Handle) -> Result<SpanExporter, StartError> {
    exporter!(SpanExporter::builder(), target, runtime)
}

fn log_exporter(target: &Target, runtime: &Handle) -> Result<LogExporter, StartError> {
    exporter!(LogExporter::builder(), target, runtime)
}

/// Our HTTP client for the SDK, whose threads know no runtime: requests run on the agent's.
#[derive(Clone)]
struct OnRuntime {
    client: HttpClient,
    headers: HeaderMap,
    timeout: Duration,
    runtime: Handle,
}

impl std::fmt::Debug for OnRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnRuntime").finish_non_exhaustive()
    }
}

impl OnRuntime {
    fn open(target: &Target, runtime: &Handle) -> Result<Self, StartError> {
        let mut headers: HeaderMap = target.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.insert(header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT));
        let (client, credentials) = crate::client::http::client(target)?;
        if let Some(credentials) = credentials {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        Ok(Self { client, headers, timeout: target.timeout, runtime: runtime.clone() })
    }
}

#[tonic::async_trait]
impl opentelemetry_http::HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        request.headers_mut().extend(self.headers.clone());
        let client = self.client.clone();
        let exchange = async move {
            let (parts, body) = client.request(request).await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        // The SDK's own limit is for its retries: it waits for an answer for ever, and its queue overflows meanwhile.
        let within = self.timeout;
        self.runtime.spawn(async move { tokio::time::timeout(within, exchange).await? }).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Notes the targets of events that the filter lets through.
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.lock().expect("no test panics holding it").push(event.metadata().target().to_owned());
        }
    }

    #[test]
    fn nothing_about_exporting_is_exported() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let layer = Seen(Arc::clone(&seen)).with_filter(FilterFn::new(leaves));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: "perfwatch_agent::schedule", "kept");
            tracing::debug!(target: "perfwatch_agent::schedule", "too fine");
            tracing::warn!(target: "perfwatch_export::client::lane", "about exporting");
            tracing::warn!(target: "perfwatch_agent::ship::line", "about exporting");
            tracing::error!(target: "hyper::client", "not ours");
            tracing::error!(target: "opentelemetry_sdk", "not ours");
        });
        assert_eq!(*seen.lock().expect("no test panics holding it"), ["perfwatch_agent::schedule"]);
    }
}
