//! Network interfaces: what they received and transmitted, dropped, and failed at.
//!
//! They are those of the agent's network namespace: in a pod the pod's, on a host (or with `hostNetwork`) the machine's.

use std::path::PathBuf;

use perfwatch_model::metrics::io::{
    NETWORK_DROPPED, NETWORK_ERRORS, NETWORK_IO, NETWORK_PACKETS, NETWORK_TOTAL, NETWORK_TOTAL_DROPPED,
    NETWORK_TOTAL_ERRORS,
};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::kernel::roster::Roster;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/net/dev`.
pub(super) struct Network;

const ALL: &[&MetricDef] = &[
    &NETWORK_TOTAL,
    &NETWORK_TOTAL_DROPPED,
    &NETWORK_TOTAL_ERRORS,
    &NETWORK_IO,
    &NETWORK_PACKETS,
    &NETWORK_DROPPED,
    &NETWORK_ERRORS,
];

const NO_INTERFACE: Reason = Reason::fixed(
    "there is no network interface but the loopback",
    "run the agent in the server's network namespace, or in the host's (hostNetwork: true, --network=host)",
);
const FULL: Reason = Reason::fixed("there are more network interfaces than the agent follows", "");

impl ProbeKind for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        ALL
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("net/dev");
        let file = HeldFile::open(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let host = context.host;
        Ok(Box::new(NetworkProbe {
            file,
            host,
            outward: Outward { class: context.sys.join("class/net"), any_hardware: false, looks_left: LOOKS },
            interfaces: Roster::new(),
            whole: None,
            sums: [&NETWORK_TOTAL, &NETWORK_TOTAL_DROPPED, &NETWORK_TOTAL_ERRORS]
                .map(|metric| both(table, metric, host, None)),
            scratch: Vec::new(),
        }))
    }
}

/// The two series of a metric, of what came and what went.
fn both(
    table: &mut SeriesTable,
    metric: &'static MetricDef,
    host: EntityId,
    interface: Option<&Attr>,
) -> [SeriesId; 2] {
    ["receive", "transmit"].map(|way| {
        let way = Attr::fixed("network.io.direction", way);
        match interface {
            Some(interface) => table.series(metric, host, &[interface.clone(), way]),
            None => table.series(metric, host, &[way]),
        }
    })
}

struct NetworkProbe {
    file: HeldFile,
    host: EntityId,
    outward: Outward,
    interfaces: Roster<Interface>,
    /// What passed the outward interfaces; `None` as long as there was none.
    whole: Option<[[u64; 2]; 3]>,
    sums: [[SeriesId; 2]; 3],
    scratch: Vec<u8>,
}

/// Tells interfaces that lead out of the machine, or the container, from those that carry the same traffic again.
struct Outward {
    /// `/sys/class/net`. Where it is not to be seen, nothing is hardware.
    class: PathBuf,
    /// An interface with hardware behind it was seen: then those are the outward ones. In a container there is none.
    any_hardware: bool,
    /// Looks that are still due after a change: a virtual function joins its master shortly after it appeared.
    looks_left: u8,
}

const LOOKS: u8 = 3;

impl Outward {
    fn is_hardware(&self, name: &str) -> bool {
        self.class.join(name).join("device").exists()
    }

    /// What a virtual function carries, its master counts too, where that is hardware itself: Azure's `hv_netvsc`, a
    /// `net_failover`. The members of a bond are under one that is not.
    fn is_counted_by_its_master(&self, name: &str) -> bool {
        self.class.join(name).join("master/device").exists()
    }

    fn leads_out(&self, name: &str) -> bool {
        if self.is_hardware(name) {
            return !self.is_counted_by_its_master(name);
        }
        !(self.any_hardware || begins(name, &INWARD))
    }

    /// The machine's ends of its containers' links come and go by the hundred, and what passes them passes an interface
    /// that is counted.
    fn is_wanted(&self, name: &str) -> bool {
        !is_container_end(name) || self.is_hardware(name) || !(self.any_hardware || begins(name, &INWARD))
    }
}

struct Interface {
    /// Counted in the sums: a bridge or a bond would count again what passed its members.
    outward: bool,
    listed: bool,
    totals: [[Rising; 2]; KINDS],
    /// By kind, as [`KINDS`] orders them.
    series: [[SeriesId; 2]; KINDS],
}

/// Bytes, packets, errors and drops, in the order of the file.
const KINDS: usize = 4;
const BYTES: usize = 0;
const ERRORS: usize = 2;
const DROPS: usize = 3;

impl Interface {
    fn new(table: &mut SeriesTable, host: EntityId, name: &str) -> Self {
        let mut of = |metric, key| both(table, metric, host, Some(&Attr::text(key, name.to_owned())));
        let series = [
            of(&NETWORK_IO, "network.interface.name"),
            of(&NETWORK_PACKETS, "system.device"),
            of(&NETWORK_ERRORS, "network.interface.name"),
            of(&NETWORK_DROPPED, "network.interface.name"),
        ];
        Self { outward: false, listed: false, totals: [[Rising::from_now(); 2]; KINDS], series }
    }

    /// Returns what that added.
    fn take(&mut self, stats: &[[u64; 2]; KINDS]) -> [[u64; 2]; KINDS] {
        self.listed = true;
        Rising::back(self.totals.as_flattened_mut(), stats.as_flattened());
        let mut added = [[0; 2]; KINDS];
        let totals = self.totals.as_flattened_mut().iter_mut().zip(stats.as_flattened());
        for (added, (total, value)) in added.as_flattened_mut().iter_mut().zip(totals) {
            *added = total.grow(*value);
        }
        added
    }
}

impl Probe for NetworkProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let Self { file, host, outward, interfaces, whole, sums, scratch } = self;
        let Ok(text) = file.read_records(scratch) else {
            for metric in ALL {
                out.unavailable(
                    metric,
                    *host,
                    Reason::fixed("/proc/net/dev cannot be read any more", "mount procfs").by_failure(),
                );
            }
            return;
        };
        if outward.looks_left > 0 {
            // A machine with hardware stays one while a card is lent to a container.
            outward.any_hardware |= parse::lines(text)
                .filter_map(parse_line)
                .any(|(name, _)| std::str::from_utf8(name).is_ok_and(|name| outward.is_hardware(name)));
        }
        interfaces.begin();
        let mut full = false;
        for (name, stats) in parse::lines(text).filter_map(parse_line) {
            let text = std::str::from_utf8(name).ok();
            let judge = || text.filter(|name| outward.is_wanted(name));
            match interfaces.meet(name, judge, |name| Interface::new(out.table(), *host, name)) {
                Ok(Some(interface)) => {
                    if !interface.listed {
                        interface.outward = text.is_some_and(|name| outward.leads_out(name));
                    }
                    let added = interface.take(&stats);
                    if interface.outward {
                        for (sum, kind) in whole.get_or_insert_default().iter_mut().zip([BYTES, DROPS, ERRORS]) {
                            sum[0] += added[kind][0];
                            sum[1] += added[kind][1];
                        }
                    }
                }
                Ok(None) => {}
                Err(_) => full = true,
            }
        }
        interfaces.end(|interface| {
            interface.listed = false;
            interface.totals.as_flattened_mut().iter_mut().for_each(Rising::gone);
        });
        if full {
            out.unavailable(&NETWORK_IO, *host, FULL);
        }
        outward.looks_left = if interfaces.changed() { LOOKS } else { outward.looks_left.saturating_sub(1) };
        for (name, interface) in interfaces.items_mut() {
            // What is gone has no folder to look into.
            if interface.listed
                && outward.looks_left > 0
                && let Ok(name) = std::str::from_utf8(name)
            {
                interface.outward = outward.leads_out(name);
            }
            if interface.listed {
                for (series, total) in interface.series.as_flattened().iter().zip(interface.totals.as_flattened()) {
                    out.counter(*series, total.total());
                }
            }
        }
        match whole {
            Some(whole) => {
                for (series, total) in sums.as_flattened().iter().zip(whole.as_flattened()) {
                    out.counter(*series, *total);
                }
            }
            None => {
                for metric in [&NETWORK_TOTAL, &NETWORK_TOTAL_DROPPED, &NETWORK_TOTAL_ERRORS] {
                    out.unavailable(metric, *host, NO_INTERFACE);
                }
            }
        }
    }
}

/// The loopback, and interfaces that carry nothing of their own.
const INWARD: [&str; 12] =
    ["lo", "ifb", "dummy", "br-", "docker", "virbr", "cni", "veth", "cali", "lxc", "sit", "tunl"];
/// The machine's ends of the links of containers and virtual machines: Docker and most others, Calico, Cilium, the networks of
/// AWS, Azure and Google, libvirt and QEMU.
const CONTAINER_ENDS: [&str; 8] = ["veth", "cali", "lxc", "eni", "azv", "gke", "vnet", "tap"];

fn begins(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Docker names the bridge of a network after the first twelve digits of its identity.
fn is_container_end(name: &str) -> bool {
    let of_docker = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    begins(name, &CONTAINER_ENDS) || name.strip_prefix("br-").is_some_and(of_docker)
}

/// Name of an interface, and bytes, packets, errors and drops, each received and transmitted. The two lines of headings are
/// none.
fn parse_line(line: &[u8]) -> Option<(&[u8], [[u64; 2]; KINDS])> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let (name, mut rest) = (line[..colon].trim_ascii(), &line[colon + 1..]);
    let numbers: [Option<u64>; 12] = std::array::from_fn(|_| parse::next_number(&mut rest));
    let mut stats = [[0; 2]; KINDS];
    for (at, kind) in stats.iter_mut().enumerate() {
        // Eight numbers of what was received come first.
        *kind = [numbers[at]?, numbers[8 + at]?];
    }
    Some((name, stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_no_interfaces_and_names_may_touch_their_numbers() {
        let line = b"  eth0:465313935   26437    3    4    0     0          0         0  1967366   18162    5    6    0     0       0          0";
        let stats = [[465_313_935, 1_967_366], [26_437, 18_162], [3, 5], [4, 6]];
        assert_eq!(parse_line(line), Some((&b"eth0"[..], stats)));
        assert_eq!(parse_line(b"eth0:1: 1 2 3 4 5 6 7 8 9 10 11 12").map(|(name, _)| name), Some(&b"eth0:1"[..]));
        for heading in [&b"Inter-|   Receive  |  Transmit"[..], b" face |bytes    packets errs", b"eth0: 1 2 3"] {
            assert_eq!(parse_line(heading), None);
        }
    }
}
