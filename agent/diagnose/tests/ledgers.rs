//! Ledgers of random facts: exact sums, capped parts, honest qualities.

use std::borrow::Cow;
use std::sync::Arc;

use perfwatch_diagnose::facts::{
    BatchFacts, CpuFacts, GroupFacts, Preparing, Pressure, RequestFacts, SlotFacts, ToldFacts,
};
use perfwatch_diagnose::ledger::{self, cpu_ledger, request_ledger, stalls};
use perfwatch_diagnose::window::Record;
use perfwatch_diagnose::{Fact, ServerFacts, ServerWindow};
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{EntityId, Ledger, Quality, SparseHdr, Stage, State};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn fact<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Fact<T>> {
    prop::option::weighted(0.85, value).prop_map(|value| match value {
        Some(value) => Fact::known(value, Quality::Counter),
        None => Fact::missing("not readable here"),
    })
}

/// Nanoseconds of CPU time on up to four CPUs, often nothing, sometimes more than there was.
fn ns() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 4 => 0..4 * SECOND, 1 => 0..20 * SECOND]
}

fn cpu() -> impl Strategy<Value = CpuFacts> {
    let capacity = fact(prop_oneof![Just(0.0), Just(1.0), 0.1..8.0, Just(f64::NAN)]);
    (capacity, fact(ns()), fact(ns()), fact(ns()), fact(ns()), fact(ns())).prop_map(
        |(capacity, used_ns, run_delay_ns, others_ns, steal_ns, throttled_ns)| CpuFacts {
            capacity,
            used_ns,
            run_delay_ns,
            others_ns,
            steal_ns,
            throttled_ns,
            throttled_periods: Fact::known(0, Quality::Counter),
            periods: Fact::known(0, Quality::Counter),
            quota: Fact::missing("no quota"),
            hottest_thread: Fact::known(0.5, Quality::Counter),
        },
    )
}

/// Slots of which some were not reported; each reported one splits into states somewhere.
fn slots() -> impl Strategy<Value = Fact<SlotFacts>> {
    let exclusive = prop::collection::vec((0..State::COUNT, 0..=SLOT_NS), 1..=SLOTS);
    let occupancy = prop::collection::vec((0..Stage::COUNT, 0..50 * SECOND), 0..6);
    (exclusive, occupancy, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(exclusive, occupancy, combined, silent)| {
            if silent {
                return Fact::missing("the server reported nothing in this tick");
            }
            let mut by_state = [0; State::COUNT];
            for (state, part) in &exclusive {
                by_state[*state] += part;
                by_state[State::None.index()] += SLOT_NS - part;
            }
            let stage_ns = occupancy
                .iter()
                .map(|(at, ns)| (Stage::from_index(*at).expect("in range"), Cow::Owned(format!("stage{at}")), *ns))
                .collect();
            let unknown_ns = (SLOTS - exclusive.len()) as u64 * SLOT_NS;
            let facts = SlotFacts {
                state_ns: by_state,
                unknown_ns,
                stage_ns,
                preparing: vec![Preparing::default(); exclusive.len()],
            };
            Fact::known(facts, if combined { Quality::Inferred } else { Quality::Sdk })
        },
    )
}

fn facts() -> impl Strategy<Value = ServerFacts> {
    (cpu(), slots(), 900_000_000..1_100_000_000_u64).prop_map(|(cpu, slots, dt_ns)| ServerFacts {
        entity: EntityId(0),
        dt_ns,
        cpu,
        group: group(),
        requests: Fact::known(
            RequestFacts {
                started: 0,
                completed: 0,
                failed: 0,
                cancelled: 0,
                abandoned: 0,
                in_flight: [0; Stage::COUNT],
            },
            Quality::Sdk,
        ),
        batches: Fact::known(BatchFacts { dispatches: 0, ready2: 0, sizes: SparseHdr::new(), max: None }, Quality::Sdk),
        told: nothing_told(),
        slots,
        duration: SparseHdr::new(),
        stage_durations: Vec::new(),
    })
}

/// One of a record's ledgers.
type Pick = fn(&Record) -> Option<&Ledger>;

fn total(ledger: &Ledger) -> u64 {
    ledger.entries().iter().map(|entry| entry.ns).sum()
}

/// No ledger looks at it.
fn group() -> GroupFacts {
    let nothing = || Fact::missing("not part of this test");
    GroupFacts {
        memory: nothing(),
        memory_limit: nothing(),
        limit_hits: nothing(),
        oom_kills: nothing(),
        pressure: Pressure {
            cpu: Fact::missing("not part of this test"),
            memory: Fact::missing("not part of this test"),
            io: Fact::missing("not part of this test"),
        },
    }
}

fn nothing_told() -> ToldFacts {
    let counts = Fact::missing("not part of this test");
    ToldFacts { counts, first_token: SparseHdr::new(), inter_token: SparseHdr::new() }
}

/// A healthy server's facts, to change one thing in.
fn known() -> ServerFacts {
    let counter = |ns| Fact::known(ns, Quality::Counter);
    let mut state_ns = [0; State::COUNT];
    state_ns[State::Compute.index()] = SECOND / 2;
    state_ns[State::DataLoad.index()] = SECOND / 4;
    state_ns[State::None.index()] = SECOND / 4;
    ServerFacts {
        entity: EntityId(0),
        dt_ns: SECOND,
        cpu: CpuFacts {
            capacity: Fact::known(1.0, Quality::Counter),
            used_ns: counter(200_000_000),
            run_delay_ns: counter(300_000_000),
            others_ns: counter(100_000_000),
            steal_ns: counter(50_000_000),
            throttled_ns: counter(250_000_000),
            throttled_periods: counter(3),
            periods: counter(10),
            quota: Fact::known(0.5, Quality::Counter),
            hottest_thread: Fact::known(0.2, Quality::Counter),
        },
        group: group(),
        requests: Fact::missing("not part of this test"),
        batches: Fact::missing("not part of this test"),
        told: nothing_told(),
        slots: Fact::known(
            SlotFacts {
                state_ns,
                unknown_ns: 0,
                stage_ns: vec![(Stage::Compute, "compute".into(), 7)],
                preparing: Vec::new(),
            },
            Quality::Sdk,
        ),
        duration: SparseHdr::new(),
        stage_durations: Vec::new(),
    }
}

proptest! {
    #[test]
    fn a_cpu_ledger_sums_to_capacity_times_time_exactly(facts in facts()) {
        let capacity = facts.cpu.capacity.get().filter(|cpus| *cpus > 0.0);
        let ledger = cpu_ledger(&facts);
        prop_assert_eq!(ledger.is_some(), capacity.is_some());
        if let (Some(ledger), Some(capacity)) = (ledger, capacity) {
            prop_assert_eq!(ledger.interval_ns(), (capacity * facts.dt_ns as f64).round() as u64);
            prop_assert_eq!(total(&ledger), ledger.interval_ns());
            for entry in ledger.entries().iter().filter(|entry| entry.ns > 0) {
                let unknown = matches!(entry.label.as_ref(), ledger::UNKNOWN | ledger::IDLE_UNKNOWN);
                prop_assert_eq!(unknown, entry.quality == Quality::Unknown, "{:?}", entry);
            }
        }
    }

    #[test]
    fn no_part_exceeds_what_was_measured_or_what_caps_it(facts in facts()) {
        let (Some(ledger), Some(stalls)) = (cpu_ledger(&facts), stalls(&facts)) else { return Ok(()) };
        let taken = [stalls.used_ns, stalls.quota_ns, stalls.wait_ns, stalls.steal_ns];
        prop_assert!(taken.into_iter().flatten().sum::<u64>() <= stalls.capacity_ns);
        let cpu = &facts.cpu;
        for (label, limits) in [
            (ledger::USED, vec![&cpu.used_ns]),
            (ledger::QUOTA, vec![&cpu.throttled_ns]),
            (ledger::RUN_QUEUE_WAIT, vec![&cpu.run_delay_ns, &cpu.others_ns]),
            (ledger::STEAL, vec![&cpu.steal_ns]),
        ] {
            for limit in limits.into_iter().filter_map(Fact::get) {
                prop_assert!(ledger.ns(label) <= limit, "{} is {} of {}", label, ledger.ns(label), limit);
            }
        }
        if cpu.throttled_ns.value().is_none() {
            prop_assert_eq!(ledger.ns(ledger::RUN_QUEUE_WAIT), 0, "run delay contains throttling");
        }
    }

    #[test]
    fn a_request_ledger_is_the_sum_of_its_stages(facts in facts()) {
        let ledger = request_ledger(&facts);
        prop_assert_eq!(ledger.is_some(), facts.slots.value().is_some());
        if let (Some(ledger), Some(slots)) = (ledger, facts.slots.value()) {
            prop_assert_eq!(ledger.interval_ns(), slots.stage_ns.iter().map(|(_, _, ns)| ns).sum::<u64>());
            prop_assert_eq!(total(&ledger), ledger.interval_ns());
            prop_assert!(ledger.entries().iter().all(|entry| entry.quality == facts.slots.quality));
        }
    }

    #[test]
    fn the_ledger_of_a_window_is_the_sum_of_its_ticks(ticks in prop::collection::vec(facts(), 1..12)) {
        let records: Vec<Arc<Record>> = ticks.into_iter().map(|facts| Arc::new(Record::new(facts))).collect();
        let window = ServerWindow::of(&records, true).expect("there are records");
        let sides: [(Option<Ledger>, Pick); 2] = [
            (window.cpu_ledger, |record| record.cpu.as_ref()),
            (window.request_ledger, |record| record.requests.as_ref()),
        ];
        for (whole, part) in sides {
            let parts: Vec<&Ledger> = records.iter().filter_map(|record| part(record)).collect();
            prop_assert_eq!(whole.is_some(), !parts.is_empty());
            let Some(whole) = whole else { continue };
            prop_assert_eq!(whole.interval_ns(), parts.iter().map(|part| part.interval_ns()).sum::<u64>());
            prop_assert_eq!(total(&whole), whole.interval_ns());
            for entry in whole.entries() {
                prop_assert_eq!(entry.ns, parts.iter().map(|part| part.ns(&entry.label)).sum::<u64>());
            }
        }
    }
}

#[test]
fn the_order_is_used_quota_wait_steal_and_the_rest_by_state() {
    let ledger = cpu_ledger(&known()).expect("all is known");
    let parts: Vec<(&str, u64)> = ledger.entries().iter().map(|entry| (entry.label.as_ref(), entry.ns)).collect();
    assert_eq!(
        parts,
        [
            ("used", 200_000_000),
            ("quota", 250_000_000),
            ("run_queue_wait", 100_000_000),
            ("steal", 50_000_000),
            ("unused_parallelism", 200_000_000),
            ("starved.data_load", 100_000_000),
            ("no_demand", 100_000_000),
        ]
    );
    let quality =
        |label: &str| ledger.entries().iter().find(|entry| entry.label == label).expect("it has this entry").quality;
    assert_eq!(quality("quota"), Quality::Counter);
    assert_eq!(quality("run_queue_wait"), Quality::Inferred, "capped by what others used");
    assert_eq!(quality("no_demand"), Quality::Inferred, "shared in proportion");
}

#[test]
fn one_state_all_along_needs_no_assumption() {
    let mut facts = known();
    let slots = SlotFacts {
        state_ns: {
            let mut ns = [0; State::COUNT];
            ns[State::None.index()] = SECOND;
            ns
        },
        unknown_ns: 0,
        stage_ns: Vec::new(),
        preparing: Vec::new(),
    };
    facts.slots = Fact::known(slots, Quality::Sdk);
    let ledger = cpu_ledger(&facts).expect("all is known");
    let last = ledger.entries().last().expect("a rest");
    assert_eq!((last.label.as_ref(), last.quality), (ledger::NO_DEMAND, Quality::Sdk));
}

#[test]
fn what_is_missing_turns_into_unknown_and_never_into_nothing() {
    let mut facts = known();
    facts.cpu.others_ns = Fact::missing("other processes are hidden");
    let ledger = cpu_ledger(&facts).expect("the capacity is known");
    assert_eq!((ledger.ns(ledger::QUOTA), ledger.ns(ledger::IDLE_UNKNOWN)), (250_000_000, 550_000_000));
    assert_eq!(stalls(&facts).expect("the capacity is known").wait_ns, None);

    let mut facts = known();
    facts.cpu.used_ns = Fact::missing("the process is hidden");
    assert_eq!(cpu_ledger(&facts).expect("the capacity is known").ns(ledger::UNKNOWN), SECOND);

    let mut facts = known();
    facts.slots = Fact::missing("the server reported nothing in this tick");
    assert_eq!(cpu_ledger(&facts).expect("the capacity is known").ns(ledger::IDLE_UNKNOWN), 400_000_000);
    assert_eq!(request_ledger(&facts), None);
}

#[test]
fn slots_that_were_not_reported_keep_their_share_of_the_idle_time() {
    let mut facts = known();
    let mut state_ns = [0; State::COUNT];
    state_ns[State::Queue.index()] = 3 * SLOT_NS;
    let slots =
        SlotFacts { state_ns, unknown_ns: 7 * SLOT_NS, stage_ns: Vec::new(), preparing: vec![Preparing::default(); 3] };
    facts.slots = Fact::known(slots, Quality::Sdk);
    let ledger = cpu_ledger(&facts).expect("all is known");
    assert_eq!(ledger.ns(ledger::IDLE_UNKNOWN), 280_000_000);
    assert_eq!(ledger.ns("starved.queue"), 120_000_000);
}

#[test]
fn a_cpu_that_reads_a_little_more_than_full_is_full() {
    let mut facts = known();
    facts.cpu.used_ns = Fact::known(1_010_000_000, Quality::Counter);
    let ledger = cpu_ledger(&facts).expect("the capacity is known");
    assert_eq!((ledger.ns(ledger::USED), ledger.entries()[0].quality), (SECOND, Quality::Counter));
    facts.cpu.used_ns = Fact::known(1_500_000_000, Quality::Counter);
    let ledger = cpu_ledger(&facts).expect("the capacity is known");
    assert_eq!(ledger.entries()[0].quality, Quality::Inferred, "two measurements disagree");
}
