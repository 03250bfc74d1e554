//! Model servers: what their requests do, and what their processes get.

use crate::MetricDef;
use crate::Unit::{Count, Ratio, Seconds};

/// Duration of requests that ended.
pub const REQUEST_DURATION: MetricDef = MetricDef::histogram(
    "perfwatch.server.request.duration",
    Seconds,
    "Duration of requests that ended, from arrival to the last byte sent.",
);
/// By `perfwatch.stage`.
pub const STAGE_DURATION: MetricDef = MetricDef::histogram(
    "perfwatch.server.stage.duration",
    Seconds,
    "Time that requests which ended had spent in each stage.",
);
/// By `perfwatch.stage`.
pub const STAGE_TIME: MetricDef = MetricDef::counter(
    "perfwatch.server.stage.time",
    Seconds,
    "Request-seconds spent in each stage, requests in flight included.",
);
/// By `perfwatch.state`.
pub const STATE_TIME: MetricDef = MetricDef::counter(
    "perfwatch.server.state.time",
    Seconds,
    "Time that the server as a whole spent in each exclusive state.",
);
/// By `perfwatch.outcome` (completed, failed, cancelled, abandoned).
pub const REQUESTS: MetricDef =
    MetricDef::counter("perfwatch.server.requests", Count("{request}"), "Requests that ended, by outcome.");
/// Requests that began.
pub const REQUESTS_STARTED: MetricDef =
    MetricDef::counter("perfwatch.server.requests.started", Count("{request}"), "Requests that began.");
/// Requests inside.
pub const IN_FLIGHT: MetricDef =
    MetricDef::gauge("perfwatch.server.requests.in_flight", Count("{request}"), "Requests inside the server.")
        .with_peak(&IN_FLIGHT_MAX);
/// The most at the end of any second of an export's interval.
pub const IN_FLIGHT_MAX: MetricDef = MetricDef::gauge(
    "perfwatch.server.requests.in_flight.max",
    Count("{request}"),
    "Most requests inside the server at the end of any second since the last export.",
);
/// Requests that failed, by `error.type`.
pub const ERRORS: MetricDef =
    MetricDef::counter("perfwatch.server.errors", Count("{request}"), "Requests that failed, by kind of error.");
/// Streams: until the first token.
pub const TIME_TO_FIRST_TOKEN: MetricDef = MetricDef::histogram(
    "gen_ai.server.time_to_first_token",
    Seconds,
    "Time from a request's arrival to its first generated token.",
);
/// Streams: between tokens.
pub const INTER_TOKEN: MetricDef = MetricDef::histogram(
    "perfwatch.server.inter_token",
    Seconds,
    "Time between two steps of a stream that brought tokens.",
);
/// By `gen_ai.token.type` (input, output).
pub const TOKENS: MetricDef =
    MetricDef::counter("perfwatch.server.tokens", Count("{token}"), "Tokens read (input) and generated (output).");
/// By `perfwatch.outcome` (hit, miss).
pub const CACHE_LOOKUPS: MetricDef = MetricDef::counter(
    "perfwatch.server.cache.lookups",
    Count("{lookup}"),
    "Look-ups in the server's caches, by outcome.",
);
/// Sizes of executed batches.
pub const BATCH_SIZE: MetricDef =
    MetricDef::histogram("perfwatch.server.batch.size", Count("{request}"), "Requests per executed batch.");
/// Executed batches.
pub const BATCH_DISPATCHES: MetricDef =
    MetricDef::counter("perfwatch.server.batch.dispatches", Count("{batch}"), "Batches executed.");
/// Batches formed while more was ready.
pub const BATCH_READY2: MetricDef = MetricDef::counter(
    "perfwatch.server.batch.dispatches_ready2",
    Count("{batch}"),
    "Batches formed while two or more requests stood ready.",
);
/// What the limits on series left without one.
pub const OVERFLOW: MetricDef = MetricDef::counter(
    "perfwatch.server.overflow",
    Count("{value}"),
    "Values of the server's own distributions that have no series of their own: too many names, or one that is taken.",
);
/// CPUs the server may use.
pub const CPU_CAPACITY: MetricDef = MetricDef::gauge(
    "perfwatch.server.cpu.capacity",
    Count("{cpu}"),
    "CPUs that the server's threads may use: the union of their affinities, within cpuset and online.",
);
/// CPU time of all its processes.
pub const CPU_TIME: MetricDef =
    MetricDef::counter("perfwatch.server.cpu.time", Seconds, "CPU time of the server's processes.");
/// Waiting for a CPU.
pub const CPU_RUN_DELAY: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.run_delay",
    Seconds,
    "Time that the server's threads were ready to run and waited for a CPU, summed over threads.",
);
/// What others used of its CPUs. Of a server that the agent does not see: of what was busy there, what its control group did
/// not use by its own word; never more than the truth, less where others share the group.
pub const CPU_OTHERS: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.others",
    Seconds,
    "CPU time that other processes used on the CPUs the server may use.",
);
/// What the hypervisor kept of its CPUs.
pub const CPU_STEAL: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.steal",
    Seconds,
    "Time that a hypervisor gave to others on the CPUs the server may use.",
);
/// Quota throttling of its control group.
pub const CPU_THROTTLED: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.throttled.time",
    Seconds,
    "Time that the run queues of the server's control group stood throttled, summed over CPUs.",
);
/// Quota periods that ran out.
pub const CPU_THROTTLED_PERIODS: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.throttled.periods",
    Count("{period}"),
    "Quota periods in which the server's control group was throttled.",
)
.full();
/// Quota periods in which something ran.
pub const CPU_PERIODS: MetricDef = MetricDef::counter(
    "perfwatch.server.cpu.periods",
    Count("{period}"),
    "Quota periods in which the server's control group had something to run.",
)
.full();
/// CPUs the quota allows.
pub const CPU_QUOTA: MetricDef = MetricDef::gauge(
    "perfwatch.server.cpu.quota",
    Count("{cpu}"),
    "CPUs that the quota of the server's control group allows, the tightest ancestor included.",
);
/// The busiest thread.
pub const HOTTEST_THREAD: MetricDef = MetricDef::gauge(
    "perfwatch.server.cpu.hottest_thread",
    Ratio,
    "Share of one CPU that the server's busiest thread used in the last interval.",
)
.with_peak(&HOTTEST_THREAD_MAX);
/// In the second in which it was busiest.
pub const HOTTEST_THREAD_MAX: MetricDef = MetricDef::gauge(
    "perfwatch.server.cpu.hottest_thread.max",
    Ratio,
    "Share of one CPU that the server's busiest thread used in its busiest second since the last export.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[
    &REQUEST_DURATION,
    &STAGE_DURATION,
    &STAGE_TIME,
    &STATE_TIME,
    &REQUESTS,
    &REQUESTS_STARTED,
    &IN_FLIGHT,
    &ERRORS,
    &TIME_TO_FIRST_TOKEN,
    &INTER_TOKEN,
    &TOKENS,
    &CACHE_LOOKUPS,
    &BATCH_SIZE,
    &BATCH_DISPATCHES,
    &BATCH_READY2,
    &OVERFLOW,
    &CPU_CAPACITY,
    &CPU_TIME,
    &CPU_RUN_DELAY,
    &CPU_OTHERS,
    &CPU_STEAL,
    &CPU_THROTTLED,
    &CPU_THROTTLED_PERIODS,
    &CPU_PERIODS,
    &CPU_QUOTA,
    &HOTTEST_THREAD,
];
