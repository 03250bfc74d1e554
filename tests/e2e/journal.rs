//! What must survive the agent: every count and sum that a server recorded, to the last digit, and every bucket.
//!
//! ```text
//! cargo test -p perfwatch --test e2e journal                           a sample: 35 kills, a minute and a half
//! PERFWATCH_TEST_KILLS=200 cargo test -p perfwatch --test e2e journal -- --nocapture --test-threads=1
//!                                                                      all of it: 200 kills, eleven minutes
//! ```
//!
//! In a debug build the agent is also killed at each of its failpoints; a release build has none, and these kills fall at
//! random as well. Filling a disk needs a small file system of its own, and so a user who may mount one.

mod concurrency;
mod kills;
mod mortal;
mod otlp;
mod outages;
mod outbox;
mod rare;
mod recorder;
mod sequence;
mod server_death;
