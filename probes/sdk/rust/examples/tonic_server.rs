//! A tonic model server. Its two methods are written by hand, so that no protoc is needed to run it; with generated code
//! the line with the layer is the same.
//!
//! ```text
//! cargo run -p perfwatch-sdk --features tower --example tonic_server 50051
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use perfwatch_sdk::tower::{Handle, Layer};
use perfwatch_sdk::{Server, Stage};
use tokio::time::sleep;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// `message Text { string text = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

/// The request that the layer made of this call.
fn handle<T>(call: &Request<T>) -> Result<Handle, Status> {
    call.extensions().get::<Handle>().cloned().ok_or_else(|| Status::internal("the layer is missing"))
}

/// `rpc Predict(Text) returns (Text)`
async fn predict(server: Server, call: Request<Text>) -> Result<Response<Text>, Status> {
    let request = handle(&call)?;
    request.enter(Stage::Preprocess);
    let text = call.into_inner().text;
    request.enter(Stage::Compute);
    server.dispatch(1, 1);
    sleep(Duration::from_millis(2)).await;
    match text.as_str() {
        "refuse" => Err(Status::unavailable("the model is not loaded")),
        "wrong" => Err(Status::invalid_argument("not a word")),
        "break" => Err(Status::new(Code::Internal, "a bug")),
        _ => Ok(Response::new(Text { text: text.to_uppercase() })),
    }
}

type Tokens = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

/// `rpc Generate(Text) returns (stream Text)`: a letter per token.
async fn generate(call: Request<Text>) -> Result<Response<Tokens>, Status> {
    let request = handle(&call)?;
    request.enter(Stage::Decode);
    let letters: Vec<char> = call.into_inner().text.chars().collect();
    let tokens = tokio_stream::iter(letters).then(move |letter| {
        let request = request.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            request.token();
            Ok(Text { text: letter.into() })
        }
    });
    Ok(Response::new(Box::pin(tokens)))
}

/// What code generated from a `.proto` file would bring.
#[derive(Clone)]
struct Model {
    server: Server,
}

impl NamedService for Model {
    const NAME: &'static str = "example.Model";
}

impl tower::Service<http::Request<Body>> for Model {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(match call.uri().path() {
                "/example.Model/Predict" => {
                    grpc.unary(service_fn(move |call| predict(server.clone(), call)), call).await
                }
                "/example.Model/Generate" => grpc.server_streaming(service_fn(generate), call).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(50051u16);
    let server = Server::builder("tonic-example").max_batch_size(1).start();

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    #[allow(clippy::print_stdout, reason = "an example says where it listens")]
    {
        println!("listening on {}", listener.local_addr()?);
    }
    tonic::transport::Server::builder()
        .layer(Layer::new(&server))
        .add_service(Model { server: server.clone() })
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // The last second's numbers leave too.
    server.close();
    Ok(())
}
