//! What a peer may send. The agent repeats these in its `Welcome`; `perfwatch.proto` states them for implementers.

use perfwatch_model::{Stage, State};

/// Bytes of one message. 256 histograms of 1,000 buckets each take about 600 KB; what would not fit waits in the SDK for its
/// next flush.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Histograms per flush, and distinct ones per session. An LLM server with every stage and ten of its own uses about 25.
pub const MAX_SERIES: usize = 256;
/// Messages per second and connection. An SDK sends one per second, and a handful while it catches up.
pub const MAX_MESSAGES_PER_SECOND: u32 = 20;
/// The time over which [`MAX_MESSAGES_PER_SECOND`] is averaged, in seconds: a reconnect storm fits, a flood does not.
pub const RATE_WINDOW_S: u32 = 5;
/// Bytes of a name (service, instance, series, stage, configuration key).
pub const MAX_NAME: usize = 128;
/// Bytes of any other string.
pub const MAX_TEXT: usize = 4096;
/// Configuration entries in a `Hello`, and devices.
pub const MAX_ENTRIES: usize = 64;
/// Process ids in a `Hello`: the kernel nests PID namespaces at most 32 deep.
pub const MAX_PIDS: usize = 32;
/// Slots in a flush: the SDK keeps 20 (2 s), the format leaves room.
pub const MAX_SLOTS: usize = 64;
/// Error kinds in a flush: the SDK keeps 16, the format leaves room.
pub const MAX_ERRORS: usize = 64;
/// Slow requests in a flush: the SDK sends 8, the format leaves room.
pub const MAX_SLOW: usize = 64;
/// Bytes of a W3C trace id.
pub const TRACE_BYTES: usize = 16;
/// Bytes of a session id.
pub const SESSION_BYTES: usize = 16;
/// Exclusive states in a slot, in the order of [`State::ALL`].
pub const STATES: usize = State::COUNT;
/// Stages a request can be in: ten built in, `other`, five custom.
pub const STAGES: usize = Stage::COUNT;
