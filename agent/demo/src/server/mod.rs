//! A model server that behaves as real ones do: HTTP in front, preprocessing and loading threads, a dynamic batcher, one
//! compute thread, bounded admission; and, in a dozen lines of `pipeline`, an ordinary client of the SDK.

mod connection;
mod counters;
mod front;
mod http;
mod options;
mod pipeline;
mod process;
mod queue;
mod store;
mod tokenize;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::fd::OwnedFd;

use crate::error::DemoError;
use crate::net::{Kernel, Model};
use front::Front;
use pipeline::Pipeline;
use store::Store;
use tokenize::Tokenizer;

pub use counters::Stats;
pub use options::ServerOptions;
pub(crate) use pipeline::Question;
pub use process::run;
pub(crate) use tokenize::text;

/// The name under which the server reports itself.
pub const SERVICE: &str = "demo-mlp";

/// A running server, in this process. Stops when dropped, abandoning the requests in it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a free loopback port. Does not look at [`ServerOptions::cpu`]: a caller that wants the server
    /// pinned pins itself first.
    pub fn start(options: &ServerOptions) -> Result<Self, DemoError> {
        let start = |what: &'static str| move |error: io::Error| DemoError::ServerStart { what, error };
        let model = Model::new(options.seed, Kernel::detect());
        let store = Store::create(&options.data.join("features.f32"), options.seed, options.store_latency)
            .map_err(start("write its feature file"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(start("listen on a loopback port"))?;
        let address = listener.local_addr().map_err(start("listen on a loopback port"))?;
        let sdk = perfwatch_sdk::Server::builder(SERVICE)
            .max_batch_size(options.max_batch as u32)
            .config("max_batch_size", options.max_batch.to_string())
            .config("max_wait_us", options.max_wait.as_micros().to_string())
            .config("loaders", options.loaders.to_string())
            .start();
        let pipeline = Arc::new(Pipeline::new(sdk, Tokenizer::new(options.seed), store));
        let front =
            Front::new(listener, Arc::clone(&pipeline), options.max_pending).map_err(start("wait for connections"))?;
        let stop = front.stopper();
        let mut threads = pipeline
            .start(options.loaders, model, options.max_batch, options.max_wait)
            .map_err(start("start its threads"))?;
        let serve = move || {
            // A failure to wait for connections ends the server; its process's end is what the client sees.
            let _ = front.run();
            pipeline.close();
        };
        threads.push(thread::Builder::new().name("front".into()).spawn(serve).map_err(start("start its threads"))?);
        Ok(Self { address, stop, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An eventfd takes 8 bytes unless its counter is full, and then it is readable already.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}
