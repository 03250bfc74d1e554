//! Open loop: requests come when they come, whether or not the server keeps up, as users do.
//!
//! Every latency counts from the moment at which the request was *meant* to be sent, so a stall of the server or of the
//! generator itself shows in every request it delayed. Requests are pipelined over a fixed set of connections, so that
//! thousands can wait without thousands of descriptors.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::net::RecvFlags;

use super::client;
use super::latency::Latency;
use super::prompts::Prompts;
use crate::clock::now;
use crate::rng::Rng;

/// Connections. More than a healthy server has requests at once, so that pipelining begins only when it falls behind.
const CONNECTIONS: usize = 64;
/// After the last request was sent: how long answers are still awaited.
const GRACE: Duration = Duration::from_secs(1);
/// A server that takes no request for this long has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often waiting threads look whether they should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Mean requests per second.
    pub per_second: f64,
    /// For how long; `None` until stopped.
    pub duration: Option<Duration>,
    /// Seed of the arrivals.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Mean requests per second that were asked for.
    pub offered_per_s: f64,
    /// For how long requests were sent.
    pub duration: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered well while requests were being sent: what throughput counts.
    pub completed: u64,
    /// Requests refused because the server was full.
    pub rejected: u64,
    /// Requests answered with another error, or lost with their connection.
    pub errors: u64,
    /// Requests without an answer a second after the last was sent; their age counts as their latency.
    pub unanswered: u64,
    /// Latencies from the intended moment of sending, of all but refused and failed requests.
    pub latency: Latency,
}

impl LoadReport {
    /// Requests answered well per second.
    pub fn achieved_per_s(&self) -> f64 {
        self.completed as f64 / self.duration.as_secs_f64().max(1e-9)
    }
}

struct Lane {
    stream: TcpStream,
    /// Intended moments of the requests under way, oldest first.
    under_way: Mutex<VecDeque<Instant>>,
    depth: AtomicUsize,
    dead: AtomicBool,
}

impl Lane {
    fn under_way(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Tally {
    latency: Latency,
    completed: u64,
    rejected: u64,
    errors: u64,
}

struct Shared {
    lanes: Vec<Lane>,
    stop: AtomicBool,
    /// The last request was sent.
    ended: Mutex<Option<Instant>>,
    sent: AtomicU64,
    tally: Mutex<Tally>,
}

impl Shared {
    fn ended(&self) -> Option<Instant> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> usize {
        self.lanes.iter().map(|lane| lane.depth.load(Relaxed)).sum()
    }

    /// Gives up a connection: what was under way on it is lost.
    fn bury(&self, lane: &Lane) {
        if !lane.dead.swap(true, Relaxed) {
            let mut under_way = lane.under_way();
            self.tally().errors += under_way.len() as u64;
            under_way.clear();
            lane.depth.store(0, Relaxed);
        }
    }
}

/// A running open loop; ends when dropped.
pub struct OpenLoop {
    shared: Arc<Shared>,
    offer: Offer,
    began: Instant,
    threads: Vec<JoinHandle<()>>,
}

impl OpenLoop {
    /// Starts to send.
    pub fn start(address: SocketAddr, prompts: Arc<Prompts>, offer: Offer) -> io::Result<Self> {
        let mut lanes = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
            let (under_way, depth, dead) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
            lanes.push(Lane { stream, under_way, depth, dead });
        }
        let (stop, ended) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { lanes, stop, ended, sent: AtomicU64::new(0), tally: Mutex::default() });
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, lane) in shared.lanes.iter().enumerate() {
            epoll::add(&epoll, &lane.stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        let mut all = Self { shared, offer, began: now(), threads: Vec::with_capacity(2) };
        let shared = Arc::clone(&all.shared);
        let receiver = thread::Builder::new().name("load-receive".into());
        all.threads.push(receiver.spawn(move || receive(&shared, &epoll))?);
        let (shared, began) = (Arc::clone(&all.shared), all.began);
        let sender = thread::Builder::new().name("load-send".into());
        all.threads.push(sender.spawn(move || send(&shared, &prompts, offer, began))?);
        Ok(all)
    }

    /// True once everything was sent and the last answers were awaited.
    pub fn is_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Stops if necessary, and tells what came of it.
    pub fn finish(mut self) -> LoadReport {
        if self.offer.duration.is_none() || !self.is_done() {
            self.shared.stop.store(true, Relaxed);
        }
        self.join();
        let stopped = now();
        let mut tally = std::mem::take(&mut *self.shared.tally());
        let mut unanswered = 0;
        for lane in &self.shared.lanes {
            for meant in lane.under_way().drain(..) {
                unanswered += 1;
                tally.latency.record(stopped.saturating_duration_since(meant));
            }
        }
        LoadReport {
            offered_per_s: self.offer.per_second,
            duration: self.shared.ended().unwrap_or(stopped).saturating_duration_since(self.began),
            sent: self.shared.sent.load(Relaxed),
            completed: tally.completed,
            rejected: tally.rejected,
            errors: tally.errors,
            unanswered,
            latency: tally.latency,
        }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

impl Drop for OpenLoop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.join();
    }
}

/// The sending thread: exponential gaps, each request on the connection with the fewest under way.
fn send(shared: &Shared, prompts: &Prompts, offer: Offer, began: Instant) {
    let mut rng = Rng::new(offer.seed);
    let mut meant = began;
    let end = offer.duration.map(|duration| began + duration);
    loop {
        meant += Duration::from_secs_f64(rng.exponential() / offer.per_second);
        if end.is_some_and(|end| meant >= end) {
            wait_until(shared, end.unwrap_or(meant));
            break;
        }
        if !wait_until(shared, meant) {
            break;
        }
        let live = shared.lanes.iter().filter(|lane| !lane.dead.load(Relaxed));
        let Some(lane) = live.min_by_key(|lane| lane.depth.load(Relaxed)) else { break };
        let number = shared.sent.fetch_add(1, Relaxed);
        lane.depth.fetch_add(1, Relaxed);
        lane.under_way().push_back(meant);
        if (&lane.stream).write_all(prompts.request(number)).is_err() {
            shared.bury(lane);
        }
    }
    *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
}

/// Sleeps until then; false if told to stop meanwhile.
fn wait_until(shared: &Shared, then: Instant) -> bool {
    loop {
        if shared.stop.load(Relaxed) {
            return false;
        }
        let left = then.saturating_duration_since(now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(PATIENCE));
    }
}

/// The receiving thread: reads every connection and settles the oldest request of each.
fn receive(shared: &Shared, epoll: &rustix::fd::OwnedFd) {
    let mut buffers: Vec<Vec<u8>> = shared.lanes.iter().map(|_| Vec::with_capacity(4 << 10)).collect();
    let mut events = Vec::with_capacity(CONNECTIONS);
    let patience = Timespec::try_from(PATIENCE).expect("a constant of milliseconds fits");
    loop {
        if let Some(ended) = shared.ended() {
            // Told to stop, an answer is awaited no longer.
            let grace = if shared.stop.load(Relaxed) { Duration::ZERO } else { GRACE };
            if shared.under_way() == 0 || ended.elapsed() >= grace {
                return;
            }
        }
        // An interrupted wait is an empty one.
        let _ = epoll::wait(epoll, spare_capacity(&mut events), Some(&patience));
        for event in events.drain(..) {
            let index = event.data.u64() as usize;
            let lane = &shared.lanes[index];
            if lane.dead.load(Relaxed) || !drain(shared, lane, &mut buffers[index]) {
                shared.bury(lane);
                // Gone from the set once the descriptor closes at the latest.
                let _ = epoll::delete(epoll, &lane.stream);
            }
        }
    }
}

/// Reads one connection empty; false once it is broken or closed.
fn drain(shared: &Shared, lane: &Lane, buffer: &mut Vec<u8>) -> bool {
    loop {
        buffer.reserve(4 << 10);
        match rustix::net::recv(&lane.stream, spare_capacity(buffer), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
        }
        let mut used = 0;
        loop {
            match client::parse(&buffer[used..]) {
                Ok(Some(response)) => {
                    used += response.body.end;
                    settle(shared, lane, response.status);
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        buffer.drain(..used);
    }
}

fn settle(shared: &Shared, lane: &Lane, status: u16) {
    let Some(meant) = lane.under_way().pop_front() else { return };
    lane.depth.fetch_sub(1, Relaxed);
    let latency = meant.elapsed();
    let in_time = shared.ended().is_none();
    let mut tally = shared.tally();
    match status {
        200 => {
            tally.latency.record(latency);
            tally.completed += u64::from(in_time);
        }
        503 => tally.rejected += 1,
        _ => tally.errors += 1,
    }
}
