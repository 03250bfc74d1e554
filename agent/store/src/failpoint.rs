//! Places where a test lets the agent die: one at every step of the probe socket's protocol and of keeping a tick.
//!
//! `PERFWATCH_FAILPOINT=name` kills the process with SIGKILL when it comes to that place, `name:3` when it comes there for
//! the third time. Only builds with debug assertions look: a release build has neither the variable nor the calls.

/// Makes [`Point`] and [`POINTS`] of one list, so that no place can be missing from the test.
macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal;)+) => {
        /// A place in the agent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $doc])+ $point),+
        }

        /// All places and their names, in the order in which a flush passes them.
        pub const POINTS: &[(Point, &str)] = &[$((Point::$point, $name)),+];
    };
}

impl Point {
    /// True for places that an agent passes only now and then.
    pub const fn is_rare(self) -> bool {
        matches!(self, Self::MinuteWritten | Self::Migrated)
    }

    /// True for places that only an agent passes which exports.
    pub const fn ships(self) -> bool {
        matches!(
            self,
            Self::StreamsWritten
                | Self::OutboxWritten
                | Self::SendDue
                | Self::SendAnswered
                | Self::SendSettled
                | Self::OutboxDeleted
        )
    }
}

points! {
    /// A client's Hello was read.
    HelloRead = "hello-read";
    /// The session is open, Welcome is not written.
    WelcomeDue = "welcome-due";
    /// Half of Welcome is written.
    WelcomeHalf = "welcome-half";
    /// Welcome is written.
    WelcomeWritten = "welcome-written";
    /// A Flush was read.
    FlushRead = "flush-read";
    /// It waits for its tick.
    FlushDelivered = "flush-delivered";
    /// It is in the server's totals, others of the same tick may not be.
    FlushMerged = "flush-merged";
    /// The tick is closed, nobody has it yet.
    TickClosed = "tick-closed";
    /// The keeping thread can see the tick.
    TickHandedOver = "tick-handed-over";
    /// The keeping thread has taken it; nothing is written.
    TickTaken = "tick-taken";
    /// It is in the journal's totals in memory; the transaction has not begun.
    TransactionDue = "transaction-due";
    /// Inside the transaction: totals are written, sessions and ticks are not.
    TotalsWritten = "totals-written";
    /// Inside the transaction: ledgers and findings are written as well.
    JudgementWritten = "judgement-written";
    /// Inside the transaction: export's streams are written, its cursor and requests are not.
    StreamsWritten = "streams-written";
    /// Inside the transaction: the encoded requests are written.
    OutboxWritten = "outbox-written";
    /// Inside the transaction: all of it is written and not committed.
    RowsWritten = "rows-written";
    /// The transaction is committed, no receipt is given.
    Committed = "committed";
    /// The session knows of the commit, Ack is not written.
    AckDue = "ack-due";
    /// Half of Ack is written.
    AckHalf = "ack-half";
    /// Ack is written.
    AckWritten = "ack-written";
    /// A request is in the outbox for good, and about to be sent.
    SendDue = "send-due";
    /// Its receiver answered, or did not.
    SendAnswered = "send-answered";
    /// It is over and the keeping thread knows; its row is still there.
    SendSettled = "send-settled";
    /// Inside the transaction: rows of requests that are over are deleted.
    OutboxDeleted = "outbox-deleted";
    /// Inside a transaction of its own: a minute is made of its ticks and not committed.
    MinuteWritten = "minute-written";
    /// A journal of an older version has its new tables; that is not committed.
    Migrated = "migrated";
    /// Asked to stop: the last tick is handed over, the journal may not have it.
    Stopping = "stopping";
    /// Asked to stop: the journal has everything, the sockets are still there.
    Stopped = "stopped";
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{POINTS, Point};

    /// Dies here, or dies when this [is due](is_due).
    pub fn pass(point: Point) {
        if is_due(point) {
            die();
        }
    }

    /// True at the one passing at which the process is to die here.
    pub fn is_due(point: Point) -> bool {
        static ARMED: OnceLock<Option<(Point, u32)>> = OnceLock::new();
        static PASSED: AtomicU32 = AtomicU32::new(0);
        let Some((armed, nth)) = *ARMED.get_or_init(|| std::env::var("PERFWATCH_FAILPOINT").ok().as_deref().map(of))
        else {
            return false;
        };
        armed == point && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == nth
    }

    /// Ends the process as `kill -9` does.
    pub fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal reaches every thread before it runs on; this line is for the compiler.
        loop {
            std::thread::park();
        }
    }

    /// # Panics
    /// At a name that no place has: a test that arms nothing must not pass.
    pub(super) fn of(text: &str) -> (Point, u32) {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let point = POINTS.iter().find(|(_, known)| *known == name);
        let (point, _) = point.unwrap_or_else(|| panic!("there is no failpoint `{name}`"));
        (*point, nth.parse().expect("a number follows the colon"))
    }
}

#[cfg(debug_assertions)]
pub use armed::{die, is_due, pass};

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub const fn pass(_: Point) {}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
pub const fn is_due(_: Point) -> bool {
    false
}

/// Unreachable, in a release build.
///
/// # Panics
/// Always.
#[cfg(not(debug_assertions))]
pub const fn die() -> ! {
    panic!("no failpoint is ever due")
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_armed_for_its_first_passing_or_the_given_one() {
        assert_eq!(armed::of("committed"), (Point::Committed, 1));
        assert_eq!(armed::of("ack-half:3"), (Point::AckHalf, 3));
        assert!(std::panic::catch_unwind(|| armed::of("no-such-place")).is_err());
        assert!(!is_due(Point::Committed), "nothing is armed here");
    }
}
