//! The demo's one clock. It is a real server under real load, so it reads the real time, but in one place only.

use std::time::Instant;

/// The present monotonic time.
#[allow(clippy::disallowed_methods, reason = "the demo serves and measures real requests: this is its clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
