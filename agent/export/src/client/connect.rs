//! The way to an endpoint: straight, or through a proxy.
//!
//! A plain HTTP request is forwarded by an HTTP proxy; everything else (TLS, gRPC) goes through a tunnel that the proxy
//! makes with CONNECT, and SOCKS proxies make nothing but tunnels.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{StartError, tls};
use crate::config::{Proxy, Target, without_query};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

/// What a proxy does for us.
#[derive(Clone, Debug)]
enum Way {
    Straight,
    Forwarded(Proxy),
    Tunnelled(Proxy),
}

/// Connects to one endpoint, whatever lies between.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    /// To a proxy, which may want TLS for itself.
    proxy: HttpsConnector<HttpConnector>,
    way: Way,
}

impl Connector {
    /// The way that a target asks for. `forwards` says that its requests can be handed to an HTTP proxy one by one.
    pub(crate) fn new(target: &Target, forwards: bool) -> Result<Self, StartError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(target.timeout));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        let proxied_tls = match &target.proxy {
            Some(proxy) if proxy.uri.scheme() == Some(&Scheme::HTTPS) => system_authorities(target)?,
            _ => tls::never_used(),
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(proxied_tls);
        let proxy = builder.https_or_http().enable_http1().wrap_connector(tcp.clone());
        let way = match &target.proxy {
            None => Way::Straight,
            Some(proxy) if forwards && is_http(proxy) && target.url.starts_with("http:") => {
                Way::Forwarded(proxy.clone())
            }
            Some(proxy) => Way::Tunnelled(proxy.clone()),
        };
        Ok(Self { tcp, proxy, way })
    }

    /// What a forwarding proxy wants to see in each request.
    pub(crate) fn forwarding_credentials(&self) -> Option<&http::HeaderValue> {
        match &self.way {
            Way::Forwarded(proxy) => proxy.basic.as_ref(),
            Way::Straight | Way::Tunnelled(_) => None,
        }
    }
}

fn is_http(proxy: &Proxy) -> bool {
    matches!(proxy.uri.scheme_str(), Some("http" | "https"))
}

fn system_authorities(target: &Target) -> Result<ClientConfig, StartError> {
    let failed = |reason: String| StartError::Tls { url: without_query(&target.url).to_owned(), reason };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    Ok(builder.with_native_roots().map_err(|error| failed(error.to_string()))?.with_no_client_auth())
}

/// The same place with its port spelt out: a tunnel's end has no scheme to guess it from.
fn with_port(uri: &Uri, scheme: &Scheme, default: u16) -> Result<Uri, http::Error> {
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default));
    Uri::builder().scheme(scheme.clone()).authority(format!("{host}:{port}")).path_and_query("/").build()
}

async fn tunnel(proxy: Proxy, through: HttpsConnector<HttpConnector>, end: Uri) -> Result<Tcp, Boxed> {
    let is_secure = end.scheme() == Some(&Scheme::HTTPS);
    let end = with_port(&end, &Scheme::HTTPS, if is_secure { 443 } else { 80 })?;
    let kind = proxy.uri.scheme_str().unwrap_or_default().to_owned();
    if is_http(&proxy) {
        let mut tunnel = Tunnel::new(proxy.uri, through);
        if let Some(basic) = proxy.basic {
            tunnel = tunnel.with_auth(basic);
        }
        return Ok(tunnel.call(end).await?);
    }
    let place = with_port(&proxy.uri, &Scheme::HTTP, 1080)?;
    // The `h` and the `a` say that the proxy is to look names up.
    let local_dns = matches!(kind.as_str(), "socks5" | "socks4");
    if kind.starts_with("socks4") {
        return Ok(SocksV4::new(place, through).local_dns(local_dns).call(end).await?);
    }
    let mut socks = SocksV5::new(place, through).local_dns(local_dns);
    if let Some((user, password)) = proxy.login {
        socks = socks.with_auth(user, password);
    }
    Ok(socks.call(end).await?)
}

type Tcp = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection, which knows whether what it is given is forwarded.
pub(crate) struct Stream {
    io: Tcp,
    forwarded: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Boxed>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        match self.tcp.poll_ready(context) {
            Poll::Ready(Ok(())) => self.proxy.poll_ready(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, end: Uri) -> Self::Future {
        match self.way.clone() {
            Way::Straight => {
                let connecting = self.tcp.call(end);
                Box::pin(async move { Ok(Stream { io: MaybeHttpsStream::Http(connecting.await?), forwarded: false }) })
            }
            Way::Forwarded(proxy) => {
                let connecting = self.proxy.call(proxy.uri);
                Box::pin(async move { Ok(Stream { io: connecting.await?, forwarded: true }) })
            }
            Way::Tunnelled(proxy) => {
                let (through, shown) = (self.proxy.clone(), proxy.uri.clone());
                Box::pin(async move {
                    let io = tunnel(proxy, through, end).await.map_err(|source| Gate { proxy: shown, source })?;
                    Ok(Stream { io, forwarded: false })
                })
            }
        }
    }
}

/// The proxy did not let us through.
#[derive(Debug, thiserror::Error)]
#[error("by the proxy {proxy}")]
struct Gate {
    proxy: Uri,
    source: Boxed,
}
