//! The layer in a real axum application, and around a service that answers as gRPC servers do.

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Extension;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use perfwatch_sdk::tower::{Handle, Layer};
use perfwatch_sdk::{Server, Stage};
use support::{kinds, sum};
use tokio_stream::StreamExt as _;

/// Calls a service once.
async fn call<S, B>(service: &mut S, request: Request<Body>) -> Result<Response<B>, S::Error>
where
    S: tower_service::Service<Request<Body>, Response = Response<B>>,
{
    std::future::poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

fn request(method: &str, path: &str) -> Request<Body> {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::builder().method(method).uri(path).header("traceparent", traceparent);
    request.body(Body::empty()).expect("a valid request")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

#[test]
fn every_call_of_an_axum_server_is_a_request_that_ends_as_its_response_does() {
    let agent = support::Agent::start(|| ());
    let server = Server::builder("axum").socket(&agent.socket).start();
    let generate = |Extension(request): Extension<Handle>| async move {
        request.enter(Stage::Decode);
        let tokens = tokio_stream::iter((0..3).map(move |_| {
            request.token();
            Ok::<_, Infallible>(Bytes::from_static(b"token "))
        }));
        Body::from_stream(tokens)
    };
    let mut app = Router::new()
        .route("/", get(async || "hello"))
        .route("/missing", get(async || StatusCode::NOT_FOUND))
        .route("/broken", get(async || StatusCode::SERVICE_UNAVAILABLE))
        .route("/generate", post(generate))
        .layer(Layer::new(&server).stage(Stage::Compute));
    runtime().block_on(async {
        for (method, path, length) in [
            ("GET", "/", 5),
            ("GET", "/missing", 0),
            ("GET", "/broken", 0),
            ("POST", "/generate", 18),
            ("HEAD", "/", 0),
        ] {
            let response = call(&mut app, request(method, path)).await.expect("a router does not fail");
            let body = response.into_body().collect().await.expect("the body is whole").to_bytes();
            assert_eq!(body.len(), length, "{method} {path}");
        }
        let mut left = call(&mut app, request("POST", "/generate")).await.expect("a router does not fail").into_body();
        left.frame().await.expect("three come").expect("none fails");
        assert!(!left.is_end_stream());
        drop(left);
    });
    drop(app);
    assert!(server.close());
    let flushes = agent.flushes();
    assert_eq!(sum(&flushes, |f| f.requests_started), 6);
    assert_eq!(sum(&flushes, |f| f.requests_completed), 4, "a refusal of a bad request is an answer too");
    assert_eq!(kinds(&flushes), [("503".to_owned(), 1)]);
    assert_eq!((sum(&flushes, |f| f.requests_cancelled), sum(&flushes, |f| f.requests_abandoned)), (1, 0));
    assert_eq!(sum(&flushes, |f| f.generated_tokens), 3 + 1);
    let slow: Vec<_> = flushes.iter().flat_map(|flush| &flush.slow).collect();
    assert_eq!(slow.len(), 5, "all that ended, as they are few");
    assert!(slow.iter().all(|slow| slow.trace_id[..2] == [0x0a, 0xf7]));
    let streamed = slow.iter().find(|slow| slow.generated_tokens == 3).expect("the one that was read to its end");
    assert!(streamed.stages.iter().any(|entry| entry.stage as usize == Stage::Decode.index()));
}

#[test]
fn a_client_that_hangs_up_cancels_and_one_that_reads_to_the_end_finishes() {
    use std::io::{Read as _, Write as _};
    let agent = support::Agent::start(|| ());
    let server = Server::builder("http").socket(&agent.socket).start();
    let ended = std::sync::Arc::new(tokio::sync::Notify::new());
    let endless = {
        let ended = std::sync::Arc::clone(&ended);
        move |Extension(request): Extension<Handle>| {
            // Dropped with the body, when the server notices that nobody reads.
            let last = Ended(std::sync::Arc::clone(&ended));
            let tokens = tokio_stream::iter(0..).map(move |_| {
                let _ = &last;
                request.token();
                Ok::<_, Infallible>(Bytes::from_static(&CHUNK))
            });
            async { Body::from_stream(tokens) }
        }
    };
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/endless", get(endless))
        .layer(Layer::new(&server).stage(Stage::Compute));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let client = tokio::task::spawn_blocking(move || {
            let ask = |path: &str| {
                let mut stream = std::net::TcpStream::connect(address).expect("it listens");
                stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a valid timeout");
                write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").expect("it reads");
                stream
            };
            let mut text = String::new();
            ask("/").read_to_string(&mut text).expect("it answers");
            assert!(text.ends_with("hello"), "{text}");
            let mut first = [0; 1_024];
            ask("/endless").read_exact(&mut first).expect("it begins to answer");
        });
        client.await.expect("no panic");
        tokio::time::timeout(std::time::Duration::from_secs(20), ended.notified()).await.expect("it notices");
        serving.abort();
    });
    drop(runtime);
    assert!(server.close());
    let flushes = agent.flushes();
    assert_eq!(sum(&flushes, |f| f.requests_started), 2);
    assert_eq!((sum(&flushes, |f| f.requests_completed), sum(&flushes, |f| f.requests_cancelled)), (1, 1));
    assert!(sum(&flushes, |f| f.generated_tokens) >= 1);
}

/// More than a socket holds, after a few.
static CHUNK: [u8; 65_536] = [b'x'; 65_536];

/// Tells that it is gone.
struct Ended(std::sync::Arc<tokio::sync::Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Answers with a gRPC status in its trailers, or the other way that gRPC knows: among the headers, without a body.
#[derive(Clone)]
struct Grpc;

impl tower_service::Service<Request<Body>> for Grpc {
    type Response = Response<Body>;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, &'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let status = request.uri().path().trim_start_matches('/').to_owned();
        Box::pin(async move {
            let Ok(value) = HeaderValue::from_str(&status) else { return Err("not a status") };
            match status.as_str() {
                "broken" => Err("broken"),
                "12" => Ok(Response::builder().header("grpc-status", value).body(Body::empty()).expect("valid")),
                _ => {
                    let trailers =
                        async move { Some(Ok(HeaderMap::from_iter([("grpc-status".parse().ok()?, value)]))) };
                    let body = http_body_util::Full::new(Bytes::from_static(b"reply")).with_trailers(trailers);
                    Ok(Response::new(Body::new(body)))
                }
            }
        })
    }
}

#[test]
fn a_grpc_status_decides_how_its_call_ended() {
    let agent = support::Agent::start(|| ());
    let server = Server::builder("tonic").socket(&agent.socket).start();
    let mut service = tower_layer::Layer::layer(&Layer::new(&server), Grpc);
    runtime().block_on(async {
        for status in ["0", "1", "5", "12", "13", "14"] {
            let response = call(&mut service, request("POST", &format!("/{status}"))).await.expect("an answer");
            response.into_body().collect().await.expect("the body is whole");
        }
        assert!(call(&mut service, request("POST", "/broken")).await.is_err());
    });
    drop(service);
    assert!(server.close());
    let flushes = agent.flushes();
    assert_eq!(sum(&flushes, |f| f.requests_completed), 2, "OK, and NOT_FOUND, which is the client's");
    assert_eq!(sum(&flushes, |f| f.requests_cancelled), 1);
    let kinds = kinds(&flushes);
    let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(names, ["INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "service"]);
}

/// Panics when it is called, not in what it returns.
struct Hasty;

impl tower_service::Service<Request<Body>> for Hasty {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        panic!("{} is too much", request.uri())
    }
}

#[test]
fn a_service_that_panics_when_it_is_called_failed() {
    let agent = support::Agent::start(|| ());
    let server = Server::builder("hasty").socket(&agent.socket).start();
    let mut service = tower_layer::Layer::layer(&Layer::new(&server), Hasty);
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(tower_service::Service::call(&mut service, request("GET", "/")));
    }));
    assert!(called.is_err());
    drop(service);
    assert!(server.close());
    let flushes = agent.flushes();
    assert_eq!((sum(&flushes, |f| f.requests_failed), sum(&flushes, |f| f.requests_abandoned)), (1, 0));
    assert_eq!(kinds(&flushes).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>(), ["panic"]);
}
