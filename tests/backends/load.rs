//! A server of the test's own that records the known sequence, and pauses when it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use perfwatch_sdk::Server;
use perfwatch_tests::wait_for;

use crate::sequence::{Progress, record, tokens};

const SEED: u64 = 11;
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Shared {
    paused: AtomicBool,
    /// The thread has seen that it is to pause.
    rests: AtomicBool,
    ended: AtomicBool,
    steps: AtomicU64,
}

pub(crate) struct Load {
    server: Server,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Records from now on.
    pub(crate) fn on(server: Server) -> Self {
        let shared = Arc::<Shared>::default();
        let (of_thread, recorder) = (Arc::clone(&shared), server.clone());
        let thread = spawn(move || {
            let tokens = tokens(&recorder);
            while !of_thread.ended.load(Ordering::Relaxed) {
                let paused = of_thread.paused.load(Ordering::SeqCst);
                of_thread.rests.store(paused, Ordering::SeqCst);
                if !paused {
                    record(&recorder, &tokens, (SEED, of_thread.steps.fetch_add(1, Ordering::SeqCst)));
                }
                sleep(PAUSE);
            }
        });
        Self { server, shared, thread: Some(thread) }
    }

    /// Pauses and waits for the receipt of all that was recorded; how much that is.
    pub(crate) fn pause(&self) -> Progress {
        self.shared.paused.store(true, Ordering::SeqCst);
        wait_for("the load to pause", || self.shared.rests.load(Ordering::SeqCst).then_some(()));
        wait_for("the last receipt", || self.server.flush_now().then_some(()));
        (SEED, self.shared.steps.load(Ordering::SeqCst))
    }

    pub(crate) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
        self.shared.rests.store(false, Ordering::SeqCst);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
