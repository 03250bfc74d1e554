//! The tick thread: waits for whole seconds, and for the close of each tick.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Pipeline, Remains, SharedClock};
use crate::error::Error;
use crate::scheduler::{CLOSE_AFTER_NS, Due, Schedule};

/// A stop leaves at most this much of a second without a tick of its own.
const SHORTEST_LAST_TICK_NS: u64 = 10_000_000;

/// A running tick thread. Dropping it asks the thread to stop and does not wait.
#[derive(Debug)]
pub(crate) struct TickThread {
    stop: Sender<()>,
    handle: JoinHandle<Remains>,
}

impl TickThread {
    pub(crate) fn start(pipeline: Pipeline, clock: SharedClock) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let run = move || run(pipeline, &clock, &stopped);
        let handle = std::thread::Builder::new().name("perfwatch-tick".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(Self { stop, handle })
    }

    /// Closes the tick at hand and returns what is left to flush; `None` when the thread had panicked. Blocks for as long
    /// as one sample takes.
    pub(crate) fn stop(self) -> Option<Remains> {
        drop(self.stop);
        self.handle.join().ok()
    }
}

#[derive(PartialEq, Eq)]
enum Wait {
    Over,
    Stop,
}

fn run(mut pipeline: Pipeline, clock: &SharedClock, stop: &Receiver<()>) -> Remains {
    let opened = clock.now();
    pipeline.open(opened);
    let mut schedule = Schedule::starting(clock.now());
    while wait_until(schedule.next(), clock, stop) == Wait::Over {
        let now = clock.now();
        let Some(due) = schedule.take(now) else { continue };
        let mut tick = pipeline.sample(&due, now);
        tick.dt_ns += schedule.sampled(clock.now());
        let wait = wait_until(due.end.mono_ns + CLOSE_AFTER_NS, clock, stop);
        pipeline.close(tick, clock.now());
        if wait == Wait::Stop {
            break;
        }
    }
    let now = clock.now();
    let dt_ns = schedule.sampled(now);
    if dt_ns >= SHORTEST_LAST_TICK_NS {
        let tick = pipeline.sample(&Due { end: now, dt_ns, missed: 0 }, now);
        pipeline.close_last(tick);
    }
    Remains { keeper: pipeline.keeper }
}

fn wait_until(mono_ns: u64, clock: &SharedClock, stop: &Receiver<()>) -> Wait {
    loop {
        let left = mono_ns.saturating_sub(clock.now().mono_ns);
        match stop.recv_timeout(Duration::from_nanos(left)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Wait::Stop,
            Err(RecvTimeoutError::Timeout) if left == 0 => return Wait::Over,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
