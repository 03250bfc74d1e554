//! Sends encoded requests and reads what the other side makes of them.

pub(crate) mod backoff;
mod connect;
mod grpc;
pub(crate) mod http;
pub(crate) mod lane;
pub(crate) mod outcome;
pub(crate) mod tls;

use std::path::PathBuf;

use bytes::Bytes;

use crate::config::{Protocol, Signal, Target};
use crate::gzip;
use outcome::Outcome;

/// Why a destination cannot even be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file for TLS is missing or is not what it should be.
    #[error("cannot use {path} for TLS to {url}: {reason}; it must be a PEM file that perfwatch may read")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Where it was to be used.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's certificate authorities cannot be loaded, or the files do not fit together.
    #[error("cannot set up TLS to {url}: {reason}; name the authorities in OTEL_EXPORTER_OTLP_CERTIFICATE")]
    Tls {
        /// Where it was to be used.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The URL cannot be used after all.
    #[error("cannot use {variable} as an endpoint: {reason}; give a URL such as http://localhost:4318")]
    Endpoint {
        /// The variable it came from.
        variable: String,
        /// What is wrong.
        reason: String,
    },
}

/// A way to one endpoint. Connects when something is to be sent, not before.
pub(crate) enum Transport {
    Http(Box<http::HttpTransport>),
    Grpc(Box<grpc::GrpcTransport>),
}

impl Transport {
    /// Must be called within a Tokio runtime.
    pub(crate) fn open(target: &Target, signal: Signal) -> Result<Self, StartError> {
        Ok(match target.protocol {
            Protocol::HttpProtobuf => Self::Http(Box::new(http::HttpTransport::open(target, signal)?)),
            Protocol::Grpc => Self::Grpc(Box::new(grpc::GrpcTransport::open(target, signal)?)),
        })
    }

    /// What goes over the wire for a request as it is kept, compressed; made once and used for every attempt. `None` when
    /// it cannot be read.
    pub(crate) fn prepare(&self, kept: Bytes) -> Option<Bytes> {
        match self {
            Self::Http(http) if http.is_compressed() => Some(kept),
            // gRPC compresses by itself.
            Self::Http(_) | Self::Grpc(_) => gzip::unpack(&kept).ok().map(Bytes::from),
        }
    }

    /// One attempt.
    pub(crate) async fn send(&self, body: Bytes) -> Outcome {
        match self {
            Self::Http(http) => http.send(body).await,
            Self::Grpc(grpc) => grpc.send(body).await,
        }
    }
}

pub(crate) use grpc::bounded_channel;

/// Who asks, as the specification wants to be told.
pub(crate) const USER_AGENT: &str = concat!("perfwatch/", env!("CARGO_PKG_VERSION"));
/// Most bytes read of an answer; the specification's cap.
pub(crate) const MAX_RESPONSE: usize = 4 << 20;
