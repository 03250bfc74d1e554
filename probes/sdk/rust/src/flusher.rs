//! The SDK's one thread: each second it takes the completed slots, talks to the agent and makes a flush when it may.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use perfwatch_wire::message::{ErrorCode, Hello};
use perfwatch_wire::runtime_dir;
use rustix::thread::{NanosleepRelativeResult, Timespec};

use crate::clock::SECOND;
use crate::collect::{Collector, End, Origin};
use crate::connection::{Connection, Heard, Refusal};
use crate::core::Core;
use crate::histogram::lock;
use crate::identity;
use crate::server::RECEIPT;
use crate::session::Session;
use crate::status::Status;
use crate::totals::Limits;

/// After a whole second, so that threads which read the clock just before it have done their bookkeeping.
const SETTLE_NS: u64 = 5_000_000;
/// Sends of a machine's processes are spread over this much of the second.
const JITTER_NS: u64 = 290_000_000;
/// Seconds without an attempt after an agent refused this server: it will say the same again.
const REFUSED_PAUSE: u32 = 30;
/// What can wait in a process fits into these: 256 distributions of 4,608 buckets, six bytes each, are seven messages, and as
/// much again may be owed to an agent that is behind.
const FLUSHES: u32 = 16;
/// Seconds after which an agent that neither acknowledges nor closes is given up and dialled anew.
const SILENCE: u32 = 30;

/// What the handles ask of the flusher.
#[derive(Default)]
pub(crate) struct Control {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    /// Flushes asked for, answered, and whether the last answer was a receipt.
    asked: u64,
    answered: u64,
    received: bool,
}

impl Control {
    /// Ends the flusher after a last flush.
    pub(crate) fn stop(&self) {
        lock(&self.orders).stop = true;
        self.changed.notify_all();
    }

    /// Asks for a flush of everything up to now and waits for its receipt.
    pub(crate) fn flush(&self, wait: Duration) -> bool {
        let mut orders = lock(&self.orders);
        if orders.stop {
            return false;
        }
        orders.asked += 1;
        let mine = orders.asked;
        self.changed.notify_all();
        // Longer than the flusher's own wait for the receipt, so that its answer is heard even after its jitter.
        let (orders, _) = self
            .changed
            .wait_timeout_while(orders, wait + Duration::from_secs(1), |orders| orders.answered < mine && !orders.stop)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        orders.answered >= mine && orders.received
    }
}

/// Starts the flusher's thread, with all signals left to the server's own threads.
pub(crate) fn spawn(core: &'static Core, control: Arc<Control>, origin: Origin) {
    let answers = Arc::clone(&control);
    let started = std::thread::Builder::new().name("perfwatch-sdk".into()).stack_size(256 * 1024).spawn(move || {
        let mut flusher = Flusher::new(core, origin);
        flusher.run(&control);
    });
    if let Err(error) = started {
        core.set_status(&Status::NoThread(error.to_string()));
        answers.stop(); // Nobody waits for a thread that is not there.
    }
}

pub(crate) struct Flusher {
    core: &'static Core,
    hello: Hello,
    sockets: Vec<PathBuf>,
    collector: Collector,
    session: Session,
    connection: Option<Connection>,
    /// Seconds to go without dialling.
    pause: u32,
    /// Seconds since the agent last said something while a flush was under way.
    silent: u32,
}

impl Flusher {
    pub(crate) fn new(core: &'static Core, origin: Origin) -> Self {
        let environment = |name: &str| std::env::var_os(name);
        let uid = rustix::process::geteuid().as_raw();
        let sockets = match &core.settings.socket {
            Some(path) => vec![path.clone()],
            None => runtime_dir::probe_sockets(environment, uid),
        };
        Self {
            core,
            hello: identity::hello(&core.settings, &environment),
            sockets,
            collector: Collector::new(core, origin),
            session: Session::default(),
            connection: None,
            pause: 0,
            silent: 0,
        }
    }

    fn run(&mut self, control: &Control) {
        self.connect();
        let jitter =
            u64::from(self.hello.session.iter().fold(0u32, |hash, byte| hash * 31 % 65_521 + u32::from(*byte)))
                * JITTER_NS
                / 65_600;
        loop {
            let now = self.core.clock.now();
            let due = (now - now.min(SETTLE_NS)) / SECOND * SECOND + SECOND + SETTLE_NS;
            match Self::wait(control, due - now) {
                Order::None => {
                    self.second();
                    sleep(jitter);
                    self.deliver();
                }
                Order::Flush(number) => {
                    let received = self.flush_everything();
                    let mut orders = lock(&control.orders);
                    orders.answered = number;
                    orders.received = received;
                    control.changed.notify_all();
                }
                Order::Stop => {
                    self.last_words();
                    self.connection = None;
                    self.core.set_status(&Status::Closed);
                    return;
                }
            }
        }
    }

    fn wait(control: &Control, nanoseconds: u64) -> Order {
        let orders = lock(&control.orders);
        let (orders, _) = control
            .changed
            .wait_timeout_while(orders, Duration::from_nanos(nanoseconds), |orders| {
                !orders.stop && orders.asked == orders.answered
            })
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if orders.asked > orders.answered {
            Order::Flush(orders.asked)
        } else if orders.stop {
            Order::Stop
        } else {
            Order::None
        }
    }

    /// At each whole second: receipts, slots, connection, and the next flush if the one before is acknowledged.
    pub(crate) fn second(&mut self) {
        self.hear_all();
        self.collector.collect(End::Second);
        if self.connection.is_none() {
            self.connect();
        }
        self.freeze();
    }

    /// Sends the flush that is due on this connection, if any.
    pub(crate) fn deliver(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Some(bytes) = self.session.unsent()
            && connection.send(bytes).is_err()
        {
            self.connection = None;
        }
    }

    /// Makes the next flush. Only while connected: what waits in the shards costs nothing, a frozen flush does.
    fn freeze(&mut self) {
        let Some(connection) = &self.connection else { return };
        let limits = Limits::told(&connection.welcome);
        let collector = &mut self.collector;
        self.session.freeze(limits, |seq, bytes| {
            collector.limit(bytes);
            collector.make(seq, limits.series)
        });
    }

    /// Takes in what the agent said, without waiting.
    pub(crate) fn hear_all(&mut self) {
        if !self.session.is_free() {
            self.silent += 1;
            if self.silent > SILENCE {
                self.connection = None;
                self.silent = 0;
            }
        }
        while self.hear(Duration::ZERO) {}
    }

    /// Takes in the agent's next word; false when there is none.
    fn hear(&mut self, wait: Duration) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        self.silent = match connection.hear(wait) {
            Heard::Nothing => return false,
            Heard::Ack(ack) => {
                self.session.acknowledge(ack.seq);
                if let Some(seq) = ack.durable_seq {
                    self.session.durable(seq);
                }
                0
            }
            Heard::Closed => {
                self.connection = None;
                0
            }
            Heard::Error(error) => {
                if error.code == ErrorCode::Malformed as u32 || error.code == ErrorCode::Oversized as u32 {
                    self.session.give_up();
                }
                self.refused(error.message);
                0
            }
        };
        true
    }

    fn refused(&mut self, message: String) {
        self.connection = None;
        self.pause = REFUSED_PAUSE;
        self.core.set_status(&Status::Refused(message));
    }

    /// Closes the connection.
    #[cfg(test)]
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Tries each candidate socket; the first that answers `Welcome` wins.
    pub(crate) fn connect(&mut self) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let mut denied = None;
        for path in self.sockets.clone() {
            match Connection::open(&path, &self.hello) {
                Ok(connection) => {
                    let welcome = &connection.welcome;
                    self.session.welcome(welcome.last_committed_seq, welcome.catch_up);
                    if let Some(seq) = welcome.durable_seq {
                        self.session.durable(seq);
                    }
                    self.core.set_status(&Status::Connected(connection.path.clone()));
                    self.connection = Some(connection);
                    return;
                }
                Err(Refusal::Absent) => {}
                Err(Refusal::Denied) => denied = Some(path),
                Err(Refusal::Told(error)) => return self.refused(error.message),
            }
        }
        self.core.set_status(&denied.map_or(Status::NoAgent, Status::PermissionDenied));
    }

    /// Delivers everything up to now; true when the agent acknowledged it.
    pub(crate) fn flush_everything(&mut self) -> bool {
        let deadline = self.core.clock.now() + RECEIPT.as_nanos() as u64;
        if self.connection.is_none() {
            self.pause = 0;
            self.connect();
        }
        // The flush under way first; then one with the rest, or as many as the rest takes.
        let mut settled = self.settle(deadline);
        for _ in 0..FLUSHES {
            if !settled {
                return false;
            }
            self.collector.collect(End::Now);
            self.freeze();
            settled = self.settle(deadline);
            if !self.waits() {
                break;
            }
        }
        settled && !self.waits()
    }

    /// Whether distributions wait for the next flush.
    fn waits(&self) -> bool {
        self.collector.is_late() || self.session.owes()
    }

    /// Sends what is due and waits for its receipt.
    fn settle(&mut self, deadline: u64) -> bool {
        self.deliver();
        while !self.session.is_free() {
            let left = deadline.saturating_sub(self.core.clock.now());
            if left == 0 || self.connection.is_none() {
                return false;
            }
            self.hear(Duration::from_nanos(left));
        }
        self.connection.is_some()
    }

    /// Sends what is left without waiting for the last receipt.
    fn last_words(&mut self) {
        self.hear_all();
        self.deliver();
        self.collector.collect(End::Now);
        self.freeze();
        self.deliver();
    }
}

enum Order {
    None,
    Flush(u64),
    Stop,
}

fn sleep(nanoseconds: u64) {
    let mut left = Timespec { tv_sec: 0, tv_nsec: nanoseconds as i64 };
    while let NanosleepRelativeResult::Interrupted(rest) = rustix::thread::nanosleep(&left) {
        left = rest;
    }
}
