//! A `tower` layer: every HTTP or gRPC call of an axum or tonic server becomes a request.
//!
//! ```no_run
//! # use perfwatch_sdk::{Server, Stage, tower::Layer};
//! let server = Server::builder("my-model").start();
//! let layer = Layer::new(&server).stage(Stage::Compute);
//! // axum: `Router::new().route(…).layer(layer)`; tonic: `tonic::transport::Server::builder().layer(layer)`
//! ```
//!
//! A call begins when it reaches the layer and ends with the last byte of its response. A handler finds its [`Handle`] among
//! the call's extensions (in axum: `Extension<Handle>`) and says through it which stage it is in and what it generates.
//!
//! How a call ends: a status of 500 and above fails it with the status as the kind of error; a gRPC status that is the
//! server's fault fails it with the status' name, `CANCELLED` cancels it; an error of the service or of the body fails it with
//! `service` or `body`, a panic with `panic`; a call that is dropped before its response is complete was cancelled by its
//! client. Everything else, a refusal of a bad request included, finishes it.

mod body;
mod outcome;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use perfwatch_model::Stage;
use pin_project_lite::pin_project;

use crate::histogram::lock;
use crate::request::Request;
use crate::server::Server;

pub use body::Body;
use outcome::Outcome;

/// The layer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Layer {
    server: Server,
    stage: Stage,
}

impl Layer {
    /// A layer whose calls are requests of this server.
    pub fn new(server: &Server) -> Self {
        Self { server: server.clone(), stage: Stage::Other }
    }

    /// The stage that a call is in until its handler enters another; default `other`.
    #[must_use]
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Service<S> {
        Service { inner, layer: self.clone() }
    }
}

/// What the layer makes of a service.
#[derive(Clone, Debug)]
pub struct Service<S> {
    inner: S,
    layer: Layer,
}

impl<S, I, O> tower_service::Service<http::Request<I>> for Service<S>
where
    S: tower_service::Service<http::Request<I>, Response = http::Response<O>>,
    O: http_body::Body,
{
    type Response = http::Response<Body<O>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: http::Request<I>) -> Self::Future {
        let mut request = self.layer.server.request();
        request.enter(self.layer.stage);
        if let Some(parent) = call.headers().get("traceparent").and_then(|value| value.to_str().ok()) {
            request.traceparent(parent);
        }
        // Before the service is called: it may panic.
        let life = Life(Handle(Arc::new(Mutex::new(Some(request)))));
        call.extensions_mut().insert(life.0.clone());
        let bodiless = call.method() == http::Method::HEAD;
        ResponseFuture { inner: self.inner.call(call), life: Some(life), bodiless }
    }
}

/// A call's request, as its handler sees it: among the call's extensions. Does nothing once the call has ended.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Mutex<Option<Request>>>);

impl Handle {
    /// Goes to another stage.
    pub fn enter(&self, stage: Stage) {
        self.with(|request| request.enter(stage));
    }

    /// One more token was generated; see [`Request::token`].
    pub fn token(&self) {
        self.with(Request::token);
    }

    /// Does anything else with the request.
    pub fn with(&self, work: impl FnOnce(&mut Request)) {
        if let Some(request) = lock(&self.0).as_mut() {
            work(request);
        }
    }
}

/// Ends a call exactly once: as it was told, or as cancelled when it is dropped before.
#[derive(Debug)]
struct Life(Handle);

impl Life {
    fn end(self, outcome: &Outcome) {
        if let Some(request) = lock(&self.0.0).take() {
            outcome.end(request);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { Outcome::Failed("panic".into()) } else { Outcome::Cancelled };
        if let Some(request) = lock(&self.0.0).take() {
            outcome.end(request);
        }
    }
}

pin_project! {
    /// The future of a response.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        life: Option<Life>,
        bodiless: bool,
    }
}

impl<F, O, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<http::Response<O>, E>>,
    O: http_body::Body,
{
    type Output = Result<http::Response<Body<O>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context));
        let mut life = this.life.take();
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                if let Some(life) = life {
                    life.end(&Outcome::Failed("service".into()));
                }
                return Poll::Ready(Err(error));
            }
        };
        let outcome = Outcome::of(&response);
        let body = response.body();
        if *this.bodiless || body.is_end_stream() {
            // Nobody will ask for a body.
            if let Some(life) = life.take() {
                life.end(&outcome);
            }
        } else if body.size_hint().exact().is_some()
            && let Some(life) = &life
        {
            // It is complete. A body of unknown length is still being made, in the stage that its handler left it in.
            life.0.enter(Stage::Send);
        }
        Poll::Ready(Ok(response.map(|inner| Body::new(inner, life, outcome))))
    }
}
