//! Closed loop: so many requests in flight, the next sent when one is answered. It finds the capacity; it would hide
//! every latency problem, because a slow server is simply asked less.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use super::client::Client;
use super::prompts::Prompts;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    number: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// A running closed loop; ends when dropped.
#[derive(Debug)]
pub struct ClosedLoop {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl ClosedLoop {
    /// Keeps `in_flight` requests in the server.
    pub fn start(address: SocketAddr, prompts: &Arc<Prompts>, in_flight: usize) -> io::Result<Self> {
        let mut all = Self { shared: Arc::default(), threads: Vec::with_capacity(in_flight) };
        for _ in 0..in_flight {
            let mut client = Client::connect(address)?;
            let (shared, prompts) = (Arc::clone(&all.shared), Arc::clone(prompts));
            let run = move || {
                while !shared.stop.load(Relaxed) {
                    let number = shared.number.fetch_add(1, Relaxed);
                    match client.exchange(prompts.request(number)) {
                        Ok((200, _)) => shared.answered.fetch_add(1, Relaxed),
                        // A refused request is asked again at once: a closed loop never gives up its place.
                        Ok(_) => shared.failed.fetch_add(1, Relaxed),
                        Err(_) => {
                            shared.failed.fetch_add(1, Relaxed);
                            return;
                        }
                    };
                }
            };
            all.threads.push(thread::Builder::new().name("load".into()).spawn(run)?);
        }
        Ok(all)
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Relaxed)
    }

    /// Requests refused or lost so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }
}

impl Drop for ClosedLoop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}
