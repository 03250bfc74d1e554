//! Connections: so many at a time, and a failing `accept` is waited out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::authority::Corrected;

/// Connections of one listener; the next ones wait in its backlog.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// Something that accepts connections.
pub(super) trait Accept: Send + 'static {
    /// What it accepts.
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;
    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Accept for UnixListener {
    type Io = Corrected<UnixStream>;

    async fn next(&self) -> io::Result<Self::Io> {
        Ok(Corrected::new(self.accept().await?.0))
    }
}

/// A listener of which so many connections live at a time.
pub(super) struct Limited<A> {
    listener: A,
    places: Arc<Semaphore>,
}

impl<A: Accept> Limited<A> {
    pub(super) fn new(listener: A) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// The next connection, once there is a place for it.
    async fn next(&self) -> Held<A::Io> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the semaphore");
        loop {
            match self.listener.next().await {
                Ok(io) => return Held { io, _place: place },
                Err(error) => {
                    // Out of descriptors, most likely: waiting is all that helps.
                    tracing::warn!(%error, "otlp intake cannot accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl axum::serve::Listener for Limited<TcpListener> {
    type Io = Held<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let held = self.next().await;
        // Nothing asks for the address: a sender is known by its resource.
        let address = held.io.peer_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        (held, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connections of a listener, until the stream is dropped.
pub(super) fn accepted<A: Accept + Sync>(listener: A) -> impl Stream<Item = io::Result<Held<A::Io>>> {
    let (sender, receiver) = mpsc::channel(1);
    let listener = Limited::new(listener);
    tokio::spawn(async move {
        loop {
            let held = tokio::select! {
                held = listener.next() => held,
                () = sender.closed() => return,
            };
            if sender.send(Ok(held)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// A connection and its place among the connections.
#[derive(Debug)]
pub(super) struct Held<T> {
    io: T,
    _place: OwnedSemaphorePermit,
}

impl<T: Connected> Connected for Held<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
