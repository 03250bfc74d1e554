//! The messages of `perfwatch.proto`, field for field; units, limits and meaning are written there.

/// Everything the SDK sends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientMessage {
    /// The message itself; `None` when a newer client sent something unknown.
    #[prost(oneof = "client_message::Body", tags = "1, 2")]
    pub body: Option<client_message::Body>,
}

/// The alternatives of [`ClientMessage`].
pub mod client_message {
    /// What the client says.
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[allow(clippy::large_enum_variant, reason = "nearly every message is the large one, and each lives for a moment")]
    pub enum Body {
        /// Who is speaking.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// What happened.
        #[prost(message, tag = "2")]
        Flush(super::Flush),
    }
}

/// Everything the agent sends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentMessage {
    /// The message itself; `None` when a newer agent sent something unknown.
    #[prost(oneof = "agent_message::Body", tags = "1, 2, 3")]
    pub body: Option<agent_message::Body>,
}

/// The alternatives of [`AgentMessage`].
pub mod agent_message {
    /// What the agent says.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// The handshake succeeded.
        #[prost(message, tag = "1")]
        Welcome(super::Welcome),
        /// A flush is committed.
        #[prost(message, tag = "2")]
        Ack(super::Ack),
        /// The connection is about to be closed.
        #[prost(message, tag = "3")]
        Error(super::Error),
    }
}

/// Who is speaking; the first message of every connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Newest protocol version the client speaks.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// SDK name and version.
    #[prost(string, tag = "2")]
    pub sdk: String,
    /// Service name.
    #[prost(string, tag = "3")]
    pub service: String,
    /// Instance name; workers of one instance share it.
    #[prost(string, tag = "4")]
    pub instance: String,
    /// Random id of this process image and server object.
    #[prost(bytes = "vec", tag = "5")]
    pub session: Vec<u8>,
    /// Process ids, outermost PID namespace first.
    #[prost(uint32, repeated, tag = "6")]
    pub pids: Vec<u32>,
    /// Start time of the process in clock ticks since boot.
    #[prost(uint64, tag = "7")]
    pub start_ticks: u64,
    /// Content of `/proc/self/cgroup`.
    #[prost(string, tag = "8")]
    pub cgroup: String,
    /// Devices the process may use.
    #[prost(string, repeated, tag = "9")]
    pub devices: Vec<String>,
    /// Settings that a finding may name.
    #[prost(message, repeated, tag = "10")]
    pub config: Vec<ConfigEntry>,
    /// Largest batch the server forms; 0 when not declared.
    #[prost(uint32, tag = "11")]
    pub max_batch_size: u32,
    /// Target of `/proc/self/exe`.
    #[prost(string, tag = "12")]
    pub executable: String,
    /// Oldest protocol version the client can speak; 0: only `protocol`.
    #[prost(uint32, tag = "13")]
    pub oldest_protocol: u32,
}

/// One setting of the server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigEntry {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The agent's answer to [`Hello`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Welcome {
    /// Protocol version that both sides speak from here on.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Highest committed seq of this session; 0 when there is none.
    #[prost(uint64, tag = "2")]
    pub last_committed_seq: u64,
    /// Bytes per message.
    #[prost(uint32, tag = "3")]
    pub max_message_bytes: u32,
    /// Histograms per flush and per session.
    #[prost(uint32, tag = "4")]
    pub max_series: u32,
    /// Messages per second.
    #[prost(uint32, tag = "5")]
    pub max_messages_per_second: u32,
    /// Whether acknowledged flushes above `last_committed_seq` are to be sent again, as one catch-up flush.
    #[prost(bool, tag = "6")]
    pub catch_up: bool,
    /// Highest seq of this session that would survive the agent's death; `None` when it keeps no journal.
    #[prost(uint64, optional, tag = "7")]
    pub durable_seq: Option<u64>,
}

/// What happened in one server process between two instants.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Flush {
    /// Number of this flush within the session, from 1.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// First covered nanosecond.
    #[prost(uint64, tag = "2")]
    pub start_ns: u64,
    /// End of the covered time, exclusive.
    #[prost(uint64, tag = "3")]
    pub end_ns: u64,
    /// Histograms that changed.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
    /// Requests begun.
    #[prost(uint64, tag = "5")]
    pub requests_started: u64,
    /// Requests finished well.
    #[prost(uint64, tag = "6")]
    pub requests_completed: u64,
    /// Requests finished badly.
    #[prost(uint64, tag = "7")]
    pub requests_failed: u64,
    /// Requests dropped without a verdict.
    #[prost(uint64, tag = "8")]
    pub requests_abandoned: u64,
    /// Batches executed.
    #[prost(uint64, tag = "9")]
    pub dispatches: u64,
    /// Batches formed while at least two requests were ready.
    #[prost(uint64, tag = "10")]
    pub dispatches_ready2: u64,
    /// Requests in each stage at the end.
    #[prost(message, repeated, tag = "11")]
    pub in_flight: Vec<StageCount>,
    /// Request-nanoseconds per stage over the whole covered time.
    #[prost(message, repeated, tag = "12")]
    pub occupancy: Vec<StageTime>,
    /// 100 ms slots, ascending.
    #[prost(message, repeated, tag = "13")]
    pub slots: Vec<Slot>,
    /// Names of the custom stages.
    #[prost(message, repeated, tag = "14")]
    pub stages: Vec<StageName>,
    /// CPU time of the process.
    #[prost(uint64, optional, tag = "15")]
    pub cpu_ns: Option<u64>,
    /// Time its threads waited for a CPU.
    #[prost(uint64, optional, tag = "16")]
    pub run_delay_ns: Option<u64>,
    /// Threads alive at the end.
    #[prost(uint32, tag = "17")]
    pub threads: u32,
    /// CPUs its threads may use, as a kernel list.
    #[prost(string, tag = "18")]
    pub cpus_allowed: String,
    /// Set in a catch-up flush: the seq after which it replaces everything.
    #[prost(uint64, optional, tag = "19")]
    pub covers_from: Option<u64>,
    /// Slots of the covered time that are missing from `slots`.
    #[prost(uint64, tag = "20")]
    pub slots_lost: u64,
    /// Histograms left out because of the agent's limit.
    #[prost(uint64, tag = "21")]
    pub series_dropped: u64,
    /// Requests whose client went away.
    #[prost(uint64, tag = "22")]
    pub requests_cancelled: u64,
    /// Requests finished badly, by kind.
    #[prost(message, repeated, tag = "23")]
    pub errors: Vec<ErrorCount>,
    /// Tokens read.
    #[prost(uint64, tag = "24")]
    pub prompt_tokens: u64,
    /// Tokens generated.
    #[prost(uint64, tag = "25")]
    pub generated_tokens: u64,
    /// Look-ups in a cache that were answered from it.
    #[prost(uint64, tag = "26")]
    pub cache_hits: u64,
    /// Look-ups in a cache that were not.
    #[prost(uint64, tag = "27")]
    pub cache_misses: u64,
    /// The slowest requests that ended, slowest first.
    #[prost(message, repeated, tag = "28")]
    pub slow: Vec<SlowRequest>,
    /// What the process's own control group got.
    #[prost(message, optional, tag = "29")]
    pub control_group: Option<ControlGroup>,
}

/// Requests that failed in one way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ErrorCount {
    /// Kind of the error.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Requests.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// One request's life, told because it was slow.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SlowRequest {
    /// When it ended.
    #[prost(uint64, tag = "1")]
    pub end_ns: u64,
    /// From its arrival to its end.
    #[prost(uint64, tag = "2")]
    pub duration_ns: u64,
    /// Where that time went.
    #[prost(message, repeated, tag = "3")]
    pub stages: Vec<StageTime>,
    /// W3C trace id; empty when unknown.
    #[prost(bytes = "vec", tag = "4")]
    pub trace_id: Vec<u8>,
    /// Kind of its error; empty when it finished well.
    #[prost(string, tag = "5")]
    pub error: String,
    /// Tokens read.
    #[prost(uint64, tag = "6")]
    pub prompt_tokens: u64,
    /// Tokens generated.
    #[prost(uint64, tag = "7")]
    pub generated_tokens: u64,
    /// From its arrival to its first token.
    #[prost(uint64, optional, tag = "8")]
    pub first_token_ns: Option<u64>,
}

/// What the control group of the process got.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControlGroup {
    /// CPUs of its cpuset, as a kernel list.
    #[prost(string, tag = "1")]
    pub cpus: String,
    /// CPU time it may use per second.
    #[prost(uint64, optional, tag = "2")]
    pub quota_ns_per_s: Option<u64>,
    /// Quota periods in which it had something to run.
    #[prost(uint64, optional, tag = "3")]
    pub periods: Option<u64>,
    /// Quota periods that ran out.
    #[prost(uint64, optional, tag = "4")]
    pub throttled_periods: Option<u64>,
    /// Time its run queues stood throttled, summed over CPUs.
    #[prost(uint64, optional, tag = "5")]
    pub throttled_ns: Option<u64>,
    /// Memory charged to it now.
    #[prost(uint64, optional, tag = "6")]
    pub memory_bytes: Option<u64>,
    /// Its own memory limit.
    #[prost(uint64, optional, tag = "7")]
    pub memory_limit_bytes: Option<u64>,
    /// Times it reached the limit.
    #[prost(uint64, optional, tag = "8")]
    pub memory_limit_hits: Option<u64>,
    /// Processes killed for want of memory.
    #[prost(uint64, optional, tag = "9")]
    pub oom_kills: Option<u64>,
    /// Time that some task waited for a CPU.
    #[prost(uint64, optional, tag = "10")]
    pub cpu_some_ns: Option<u64>,
    /// Time that some task waited for memory.
    #[prost(uint64, optional, tag = "11")]
    pub memory_some_ns: Option<u64>,
    /// Time that all tasks waited for memory.
    #[prost(uint64, optional, tag = "12")]
    pub memory_full_ns: Option<u64>,
    /// Time that some task waited for I/O.
    #[prost(uint64, optional, tag = "13")]
    pub io_some_ns: Option<u64>,
    /// Time that all tasks waited for I/O.
    #[prost(uint64, optional, tag = "14")]
    pub io_full_ns: Option<u64>,
    /// CPU time of all its processes.
    #[prost(uint64, optional, tag = "15")]
    pub cpu_ns: Option<u64>,
}

/// A sparse distribution in HdrHistogram's layout with two significant digits; see [`crate::sparse`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Histogram {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The stage it describes.
    #[prost(uint32, optional, tag = "2")]
    pub stage: Option<u32>,
    /// UCUM unit of the recorded integers.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Exact sum of the recorded values, modulo 2^64.
    #[prost(uint64, tag = "4")]
    pub sum: u64,
    /// First index, then distances.
    #[prost(uint32, repeated, tag = "5")]
    pub index_deltas: Vec<u32>,
    /// Values per listed bucket.
    #[prost(uint64, repeated, tag = "6")]
    pub counts: Vec<u64>,
}

/// Requests that are in one stage.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StageCount {
    /// Stage id.
    #[prost(uint32, tag = "1")]
    pub stage: u32,
    /// Requests.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// Time that requests spent in one stage.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StageTime {
    /// Stage id.
    #[prost(uint32, tag = "1")]
    pub stage: u32,
    /// Request-nanoseconds.
    #[prost(uint64, tag = "2")]
    pub ns: u64,
}

/// The name of a custom stage.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StageName {
    /// Stage id, 11 to 15.
    #[prost(uint32, tag = "1")]
    pub stage: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// One tenth of a second of the server's life.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Slot {
    /// It covers `[index, index + 1)` × 100 ms.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Exclusive time per state; ten values that sum to the slot's length.
    #[prost(uint64, repeated, tag = "2")]
    pub state_ns: Vec<u64>,
    /// Request-nanoseconds per stage.
    #[prost(message, repeated, tag = "3")]
    pub occupancy: Vec<StageTime>,
}

/// A flush is committed.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Ack {
    /// Its seq.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Highest seq that would survive the agent's death; `None` without a journal.
    #[prost(uint64, optional, tag = "2")]
    pub durable_seq: Option<u64>,
}

/// Why the agent is about to close the connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// One of [`ErrorCode`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// One sentence for a log.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// The values of [`Error::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// A message could not be decoded, or breaks a rule of the protocol.
    Malformed = 1,
    /// A message is longer than allowed.
    Oversized = 2,
    /// The two sides speak different versions.
    Protocol = 3,
    /// A message came when another was due.
    OutOfTurn = 4,
    /// The agent serves as many connections as it may.
    TooManyPeers = 5,
}

impl ErrorCode {
    /// The message that tells a peer about this error.
    pub fn with(self, message: impl Into<String>) -> AgentMessage {
        AgentMessage { body: Some(agent_message::Body::Error(Error { code: self as u32, message: message.into() })) }
    }
}

impl From<Hello> for ClientMessage {
    fn from(hello: Hello) -> Self {
        Self { body: Some(client_message::Body::Hello(hello)) }
    }
}

impl From<Flush> for ClientMessage {
    fn from(flush: Flush) -> Self {
        Self { body: Some(client_message::Body::Flush(flush)) }
    }
}

impl From<Welcome> for AgentMessage {
    fn from(welcome: Welcome) -> Self {
        Self { body: Some(agent_message::Body::Welcome(welcome)) }
    }
}

impl From<Ack> for AgentMessage {
    fn from(ack: Ack) -> Self {
        Self { body: Some(agent_message::Body::Ack(ack)) }
    }
}
