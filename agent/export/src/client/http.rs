//! OTLP over HTTP with binary protobuf.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message as _;

use super::connect::Connector;
use super::outcome::{self, Fault, Outcome, printable, with_causes};
use super::{MAX_RESPONSE, StartError, USER_AGENT, tls};
use crate::config::{Signal, Target};

/// A client for HTTP and HTTPS.
pub(crate) type HttpClient = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// A client as a target wants it, and what its proxy wants to see in each request.
pub(crate) fn client(target: &Target) -> Result<(HttpClient, Option<HeaderValue>), StartError> {
    let connector = Connector::new(target, true)?;
    let credentials = connector.forwarding_credentials().cloned();
    // Loading the system's authorities costs milliseconds.
    let tls = if target.url.starts_with("https:") { tls::client_config(target)? } else { tls::never_used() };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    Ok((Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector), credentials))
}

/// A way to one URL.
pub(crate) struct HttpTransport {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    gzip: bool,
    signal: Signal,
}

impl HttpTransport {
    pub(super) fn open(target: &Target, signal: Signal) -> Result<Self, StartError> {
        let uri = target.url.parse().map_err(|error: http::uri::InvalidUri| StartError::Endpoint {
            variable: target.variable.clone(),
            reason: error.to_string(),
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        for (name, value) in target.headers.iter() {
            headers.insert(name, value.clone());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if target.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (client, credentials) = client(target)?;
        if let Some(credentials) = credentials {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        Ok(Self { client, uri, headers, timeout: target.timeout, gzip: target.gzip, signal })
    }

    /// Whether what it sends is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.gzip
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        let mut request =
            Request::post(self.uri.clone()).body(Full::new(body)).expect("the parts were checked at the start");
        *request.headers_mut() = self.headers.clone();
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Outcome::Retry { after: None, fault: Fault::Busy, why: format!("no answer within {:?}", self.timeout) }
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Outcome {
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let fault = if error.is_connect() { Fault::Unreachable } else { Fault::Closed };
                return Outcome::Retry { after: None, fault, why: with_causes(&error) };
            }
        };
        let (parts, body): (_, Incoming) = Response::into_parts(response);
        let body = match Limited::new(body, MAX_RESPONSE).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) if parts.status.is_success() => Bytes::new(),
            Err(error) => {
                return Outcome::Retry { after: None, fault: Fault::Closed, why: printable(&error.to_string()) };
            }
        };
        if parts.status.is_success() {
            return outcome::accepted(self.signal, &body);
        }
        let said = said(&parts.headers, &body);
        let mut why = format!("HTTP {}", parts.status.as_u16());
        if let Some(reason) = parts.status.canonical_reason() {
            why = format!("{why} {reason}");
        }
        if !said.is_empty() {
            why = format!("{why}: {said}");
        }
        if outcome::is_retryable_status(parts.status.as_u16()) {
            return Outcome::Retry { after: retry_after(&parts.headers), fault: Fault::Busy, why };
        }
        if parts.status.as_u16() == 404 {
            why.push_str("; is the path of the endpoint right?");
        }
        Outcome::Refused { why, divisible: outcome::may_be_about_a_point(parts.status.as_u16()) }
    }
}

/// What the receiver says about a refusal: a `google.rpc.Status` where it follows the specification, else its text.
fn said(headers: &HeaderMap, body: &Bytes) -> String {
    let is_protobuf = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"protobuf"));
    if is_protobuf && let Ok(status) = tonic_types::Status::decode(body.clone()) {
        return printable(&status.message);
    }
    printable(&String::from_utf8_lossy(body))
}

/// The wait that a receiver asks for, in seconds or as a date. A date is taken relative to the receiver's own `Date`, so
/// that it does not matter whose clock is right; without one it is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = |text: &str| -> Option<SystemTime> { httpdate::parse_http_date(text).ok() };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(date(asked)?.duration_since(date(text(header::DATE)?)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let date = (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT");
        let later = (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:28:45 GMT");
        let earlier = (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:00:00 GMT");
        for (given, expected) in [
            (headers(&[(header::RETRY_AFTER, " 12 ")]), Some(12)),
            (headers(&[date.clone(), later.clone()]), Some(45)),
            (headers(&[date, earlier]), Some(0)),
            (headers(&[later]), None),
            (headers(&[(header::RETRY_AFTER, "soon")]), None),
            (headers(&[]), None),
        ] {
            assert_eq!(retry_after(&given), expected.map(Duration::from_secs), "{given:?}");
        }
    }
}
