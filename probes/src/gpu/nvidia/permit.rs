//! Whether NVML may be open, and whether it is.
//!
//! Three share it: whoever lets go of the GPUs and waits until that is done, the probe, which knows when the time for it is over,
//! and the NVML thread, which opens the library only with permission.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perfwatch_model::{Reason, Stamp};

/// Where nobody else has the GPUs open and persistence mode is off, the driver stops them one by one, for a second or more each.
const CLOSE: Duration = Duration::from_secs(20);

/// What the NVML thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    Closed,
    /// Loaded, or being loaded.
    Open,
    /// Being shut down, for whatever reason.
    Closing,
}

#[derive(Debug)]
struct State {
    /// Until when there is no permission, by the agent's clock; `None` where there is.
    withdrawn: Option<Stamp>,
    nvml: Library,
    /// What was wrong when the library was closed last.
    failed: Option<Reason>,
    /// It was withdrawn since the thread last asked.
    is_anew: bool,
    /// The thread was sent a message, and has not received it yet.
    is_woken: bool,
}

/// Permission to have NVML open.
#[derive(Debug)]
pub(crate) struct Permit {
    state: Mutex<State>,
    changed: Condvar,
}

/// What was found when the permission was withdrawn.
pub(super) struct Withdrawn {
    pub(super) was_open: bool,
    /// The thread has to be sent a message: it may be waiting for one.
    pub(super) is_to_be_woken: bool,
}

/// That there is no permission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Absence {
    /// By the agent's clock.
    pub(super) until: Stamp,
    /// What the NVML thread has still.
    pub(super) nvml: Library,
    /// What was wrong when the library was closed.
    pub(super) failed: Option<Reason>,
}

/// How waiting for the library to be closed ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Yes,
    /// It is, and something is wrong with it.
    Badly(Reason),
    /// Not within the time that it may take.
    NotYet,
    /// The permission was given again meanwhile.
    CalledOff,
}

impl Default for Permit {
    fn default() -> Self {
        let state = State { withdrawn: None, nvml: Library::Closed, failed: None, is_anew: false, is_woken: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

/// For whoever lets go.
impl Permit {
    /// Withdraws the permission until then.
    pub(super) fn withdraw(&self, until: Stamp) -> Withdrawn {
        let mut state = self.state();
        (state.withdrawn, state.is_anew) = (Some(until), true);
        let was_open = state.nvml != Library::Closed;
        let is_to_be_woken = was_open && !state.is_woken;
        state.is_woken |= is_to_be_woken;
        Withdrawn { was_open, is_to_be_woken }
    }

    /// Gives the permission again; true where there was none.
    pub(super) fn give(&self) -> bool {
        let had_none = self.state().withdrawn.take().is_some();
        self.changed.notify_all();
        had_none
    }

    /// Waits until the library is closed: for so long until that begins, and then for as long as it may take.
    pub(super) fn wait_closed(&self, patience: Duration) -> Closed {
        let mut state = self.state();
        for (library, most) in [(Library::Open, patience), (Library::Closing, CLOSE)] {
            let is_awaited = |state: &mut State| state.nvml == library && state.withdrawn.is_some();
            let waited = self.changed.wait_timeout_while(state, most, is_awaited);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        match (state.nvml, &state.failed) {
            _ if state.withdrawn.is_none() => Closed::CalledOff,
            (Library::Closed, None) => Closed::Yes,
            (Library::Closed, Some(failed)) => Closed::Badly(failed.clone()),
            _ => Closed::NotYet,
        }
    }
}

/// For the probe.
impl Permit {
    /// That there is no permission at `now`. At the time that was said there is permission again.
    pub(super) fn withdrawn(&self, now: Stamp) -> Option<Absence> {
        let mut state = self.state();
        let until = state.withdrawn?;
        if now.mono_ns >= until.mono_ns {
            state.withdrawn = None;
            self.changed.notify_all();
            return None;
        }
        let State { nvml, failed, .. } = &*state;
        Some(Absence { until, nvml: *nvml, failed: failed.clone() })
    }
}

/// For the NVML thread.
impl Permit {
    /// Takes the permission, if there is one; whoever withdraws it waits from now on until [`closed`](Self::closed) is called.
    pub(super) fn open(&self) -> bool {
        let mut state = self.state();
        if state.withdrawn.is_some() {
            return false;
        }
        state.nvml = Library::Open;
        true
    }

    /// Whether the library has to be closed. If so, that begins now.
    pub(super) fn must_close(&self) -> bool {
        let must_close = self.state().withdrawn.is_some();
        if must_close {
            self.closing();
        }
        must_close
    }

    /// Notes that the library is being shut down.
    pub(super) fn closing(&self) {
        self.state().nvml = Library::Closing;
        self.changed.notify_all();
    }

    /// Notes that the library is shut down and unloaded, or what is wrong with that.
    pub(super) fn closed(&self, failed: Option<Reason>) {
        let mut state = self.state();
        (state.nvml, state.failed) = (Library::Closed, failed);
        self.changed.notify_all();
    }

    /// Whether the permission was withdrawn since the last call, though it may have been given again: whatever failed before may
    /// have been mended.
    pub(super) fn is_anew(&self) -> bool {
        std::mem::take(&mut self.state().is_anew)
    }

    /// Notes that the message has come.
    pub(super) fn woke(&self) {
        self.state().is_woken = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(20);

    fn at(second: u64) -> Stamp {
        Stamp { mono_ns: second * 1_000_000_000, wall_ns: 0 }
    }

    #[test]
    fn without_permission_nothing_is_opened_until_the_time_is_over_and_a_later_time_replaces_an_earlier() {
        let permit = Permit::default();
        permit.withdraw(at(10));
        permit.withdraw(at(20));
        assert!(!permit.open());
        let absence = Absence { until: at(20), nvml: Library::Closed, failed: None };
        assert_eq!(permit.withdrawn(at(19)), Some(absence));
        assert_eq!(permit.withdrawn(at(20)), None);
        assert!(permit.open());
        assert!(permit.is_anew() && !permit.is_anew(), "it is told once that there was none");
    }

    #[test]
    fn who_waits_hears_of_the_end_and_not_before() {
        let permit = Permit::default();
        assert!(permit.open());
        let first = permit.withdraw(at(10));
        assert!(first.was_open && first.is_to_be_woken);
        assert!(!permit.withdraw(at(10)).is_to_be_woken, "one message is on its way");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| permit.wait_closed(PATIENT));
            permit.woke();
            assert!(permit.must_close());
            assert!(!waits.is_finished(), "it is closing, and not closed");
            permit.closed(None);
            assert_eq!(waits.join().expect("no panic"), Closed::Yes);
        });
        assert_eq!(permit.wait_closed(PATIENT), Closed::Yes);
    }

    #[test]
    fn who_waits_for_a_thread_that_is_stuck_or_for_what_was_called_off_is_told_so() {
        let permit = Permit::default();
        assert!(permit.open());
        permit.withdraw(at(10));
        assert_eq!(permit.wait_closed(Duration::from_millis(50)), Closed::NotYet);
        assert!(permit.give() && !permit.give());
        assert_eq!(permit.wait_closed(PATIENT), Closed::CalledOff);
        assert!(!permit.must_close(), "the thread goes on as if nothing had been");
    }
}
