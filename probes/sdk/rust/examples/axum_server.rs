//! An axum model server.
//!
//! ```text
//! cargo run -p perfwatch-sdk --features tower --example axum_server 8000
//!
//! curl localhost:8000/predict/cat
//! ```

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use perfwatch_sdk::tower::{Handle, Layer};
use perfwatch_sdk::{Server, Stage};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

/// The layer makes a request of each call, and hands it to its handler as a [`Handle`].
async fn predict(
    State(server): State<Server>,
    Extension(request): Extension<Handle>,
    Path(text): Path<String>,
) -> String {
    request.enter(Stage::Preprocess);
    sleep(Duration::from_millis(1)).await;
    request.enter(Stage::Compute);
    server.dispatch(1, 1);
    sleep(Duration::from_millis(2)).await;
    text.to_uppercase()
}

/// A stream of tokens; its request lasts until the client has read the last one.
async fn generate(Extension(request): Extension<Handle>, Path(count): Path<u32>) -> Body {
    request.enter(Stage::Decode);
    Body::from_stream(tokio_stream::iter(0..count).then(move |number| {
        let request = request.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            request.token();
            Ok::<_, Infallible>(format!("{number} "))
        }
    }))
}

async fn refuse() -> (StatusCode, &'static str) {
    (StatusCode::SERVICE_UNAVAILABLE, "the model is not loaded")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8000u16);
    let server = Server::builder("axum-example").max_batch_size(1).start();
    let app = Router::new()
        .route("/predict/{text}", get(predict))
        .route("/stream/{count}", get(generate))
        .route("/refuse", get(refuse))
        .layer(Layer::new(&server))
        .with_state(server.clone());

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    #[allow(clippy::print_stdout, reason = "an example says where it listens")]
    {
        println!("listening on {}", listener.local_addr()?);
    }
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // The last second's numbers leave too.
    server.close();
    Ok(())
}
