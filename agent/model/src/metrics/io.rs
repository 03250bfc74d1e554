//! Disks and network interfaces of the machine.
//!
//! Counters begin with the agent: devices come and go, are renamed and lent to containers, so that a sum over them is no
//! number that the kernel has and the next agent could go on from.
//!
//! What leaves by default are sums over devices, under names of their own: points of one name both with and without an
//! attribute would double every sum over it.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Ratio, Seconds};

/// By `disk.io.direction`.
pub const DISKS_IO: MetricDef =
    MetricDef::counter("perfwatch.disk.io", Bytes, "Bytes that all disks of the machine read and wrote.").since_start();
/// By `disk.io.direction`.
pub const DISKS_OPERATIONS: MetricDef = MetricDef::counter(
    "perfwatch.disk.operations",
    Count("{operation}"),
    "Reads and writes that all disks of the machine finished.",
)
.since_start();
/// By `disk.io.direction`.
pub const DISKS_OPERATION_TIME: MetricDef = MetricDef::counter(
    "perfwatch.disk.operation_time",
    Seconds,
    "Time that reads and writes of all disks took, summed over operations.",
)
.since_start();
/// Of the disk that had the most to do.
pub const DISKS_BUSIEST: MetricDef = MetricDef::gauge(
    "perfwatch.disk.busiest",
    Ratio,
    "Share of the last interval in which the busiest disk had something to do.",
);
/// By `system.device` and `disk.io.direction`.
pub const DISK_IO: MetricDef =
    MetricDef::counter("system.disk.io", Bytes, "Bytes that each disk read and wrote.").since_start().full();
/// By `system.device` and `disk.io.direction`.
pub const DISK_OPERATIONS: MetricDef =
    MetricDef::counter("system.disk.operations", Count("{operation}"), "Reads and writes that each disk finished.")
        .since_start()
        .full();
/// By `system.device`.
pub const DISK_IO_TIME: MetricDef =
    MetricDef::counter("system.disk.io_time", Seconds, "Time in which each disk had something to do.")
        .since_start()
        .full();
/// By `system.device` and `disk.io.direction`.
pub const DISK_OPERATION_TIME: MetricDef = MetricDef::counter(
    "system.disk.operation_time",
    Seconds,
    "Time that reads and writes of each disk took, summed over operations.",
)
.since_start()
.full();
/// By `system.device` and `disk.io.direction`.
pub const DISK_MERGED: MetricDef = MetricDef::counter(
    "system.disk.merged",
    Count("{operation}"),
    "Reads and writes that were merged into others before each disk saw them.",
)
.since_start()
.full();
/// By `network.io.direction`.
pub const NETWORK_TOTAL: MetricDef = MetricDef::counter(
    "perfwatch.network.io",
    Bytes,
    "Bytes that all outward network interfaces received and transmitted.",
)
.since_start();
/// By `network.io.direction`.
pub const NETWORK_TOTAL_DROPPED: MetricDef = MetricDef::counter(
    "perfwatch.network.dropped",
    Count("{packet}"),
    "Packets that all outward network interfaces dropped.",
)
.since_start()
.full();
/// By `network.io.direction`.
pub const NETWORK_TOTAL_ERRORS: MetricDef =
    MetricDef::counter("perfwatch.network.errors", Count("{error}"), "Errors that all outward network interfaces met.")
        .since_start();
/// By `network.interface.name` and `network.io.direction`.
pub const NETWORK_IO: MetricDef =
    MetricDef::counter("system.network.io", Bytes, "Bytes that each network interface received and transmitted.")
        .since_start()
        .full();
/// By `system.device` (as the convention has it, here and nowhere else) and `network.io.direction`.
pub const NETWORK_PACKETS: MetricDef = MetricDef::counter(
    "system.network.packet.count",
    Count("{packet}"),
    "Packets that each network interface received and transmitted.",
)
.since_start()
.full();
/// By `network.interface.name` and `network.io.direction`.
pub const NETWORK_DROPPED: MetricDef = MetricDef::counter(
    "system.network.packet.dropped",
    Count("{packet}"),
    "Packets that each network interface dropped although there was no error.",
)
.since_start()
.full();
/// By `network.interface.name` and `network.io.direction`.
pub const NETWORK_ERRORS: MetricDef =
    MetricDef::counter("system.network.errors", Count("{error}"), "Errors that each network interface met.")
        .since_start()
        .full();

/// All of them.
pub const ALL: &[&MetricDef] = &[
    &DISKS_IO,
    &DISKS_OPERATIONS,
    &DISKS_OPERATION_TIME,
    &DISKS_BUSIEST,
    &DISK_IO,
    &DISK_OPERATIONS,
    &DISK_IO_TIME,
    &DISK_OPERATION_TIME,
    &DISK_MERGED,
    &NETWORK_TOTAL,
    &NETWORK_TOTAL_DROPPED,
    &NETWORK_TOTAL_ERRORS,
    &NETWORK_IO,
    &NETWORK_PACKETS,
    &NETWORK_DROPPED,
    &NETWORK_ERRORS,
];
