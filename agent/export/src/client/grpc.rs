//! OTLP over gRPC. Requests travel as the bytes they were encoded to, so that every attempt sends the same.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, client::Grpc};
use tonic_types::StatusExt as _;

use super::connect::Connector;
use super::outcome::{self, Fault, Outcome, printable, with_causes};
use super::{MAX_RESPONSE, StartError, USER_AGENT, tls};
use crate::config::{Signal, Target, without_query};

/// A channel whose requests end after the target's timeout, for who does not see to that itself.
pub(crate) fn bounded_channel(target: &Target) -> Result<Channel, StartError> {
    open(target, |endpoint| endpoint.timeout(target.timeout))
}

/// A channel as a target wants it; connects at the first request. Must be called within a Tokio runtime.
fn open(target: &Target, more: impl FnOnce(Endpoint) -> Endpoint) -> Result<Channel, StartError> {
    let unusable = |error: tonic::transport::Error| StartError::Endpoint {
        variable: target.variable.clone(),
        reason: with_causes(&error),
    };
    let mut endpoint = Endpoint::from_shared(target.url.clone())
        .map_err(unusable)?
        .user_agent(USER_AGENT)
        .map_err(unusable)?
        .connect_timeout(target.timeout);
    if target.url.starts_with("https:") {
        let mut tls = ClientTlsConfig::new();
        tls = match &target.tls.certificate {
            Some(path) => tls.ca_certificate(Certificate::from_pem(tls::certificates_pem(path, target)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(chain), Some(key)) = (&target.tls.client_certificate, &target.tls.client_key) {
            let chain = tls::certificates_pem(chain, target)?;
            tls = tls.identity(Identity::from_pem(chain, tls::private_key_pem(key, target)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(|error| StartError::Tls {
            url: without_query(&target.url).to_owned(),
            reason: with_causes(&error),
        })?;
    }
    let endpoint = more(endpoint);
    if target.proxy.is_some() {
        return Ok(endpoint.connect_with_connector_lazy(Connector::new(target, false)?));
    }
    Ok(endpoint.connect_lazy())
}

/// A way to one service.
pub(crate) struct GrpcTransport {
    client: Grpc<Channel>,
    path: PathAndQuery,
    metadata: MetadataMap,
    timeout: Duration,
    signal: Signal,
}

impl GrpcTransport {
    pub(super) fn open(target: &Target, signal: Signal) -> Result<Self, StartError> {
        let mut client = Grpc::new(open(target, |endpoint| endpoint)?).max_decoding_message_size(MAX_RESPONSE);
        if target.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        }
        let headers = target.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Self {
            client,
            path: PathAndQuery::from_static(signal.grpc_path()),
            metadata: MetadataMap::from_headers(headers),
            timeout: target.timeout,
            signal,
        })
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Ok(Ok(body)) => outcome::accepted(self.signal, &body),
            Ok(Err(status)) => judge(&status),
            Err(_) => {
                Outcome::Retry { after: None, fault: Fault::Busy, why: format!("no answer within {:?}", self.timeout) }
            }
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<Bytes, Status> {
        let mut client = self.client.clone();
        client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = Request::new(body);
        for pair in self.metadata.iter() {
            match pair {
                KeyAndValueRef::Ascii(key, value) => {
                    request.metadata_mut().append(key, value.clone());
                }
                KeyAndValueRef::Binary(key, value) => {
                    request.metadata_mut().append_bin(key, value.clone());
                }
            }
        }
        Ok(client.unary(request, self.path.clone(), BytesCodec).await?.into_inner())
    }
}

/// What a status means for the request.
fn judge(status: &Status) -> Outcome {
    // A status with a source was made on this side: nothing came back.
    if let Some(source) = status.source() {
        let mut cause = Some(source);
        let mut fault = Fault::Closed;
        while let Some(error) = cause {
            if error.is::<tonic::ConnectError>() {
                fault = Fault::Unreachable;
            }
            cause = error.source();
        }
        return Outcome::Retry { after: None, fault, why: with_causes(source) };
    }
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let why = match printable(status.message()) {
        said if said.is_empty() => format!("gRPC {:?}", status.code()),
        said => format!("gRPC {:?}: {said}", status.code()),
    };
    if outcome::is_retryable_code(status.code(), after.is_some()) {
        Outcome::Retry { after, fault: Fault::Busy, why }
    } else {
        Outcome::Refused { why, divisible: outcome::may_be_about_a_point_of_grpc(status.code()) }
    }
}

/// Passes encoded messages through.
#[derive(Clone, Copy, Debug)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
