//! The ledger of a GPU: it sums, and it follows its readings.

mod gpu_facts;

use gpu_facts::{SECOND, gpu_whole, idle_gpu};
use perfwatch_diagnose::Fact;
use perfwatch_diagnose::facts::{GpuFacts, GpuSpan, GpuUnits};
use perfwatch_diagnose::ledger;
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{EntityId, Ledger, Quality, Share, Sharing, State};
use proptest::prelude::*;

fn fact<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Fact<T>> {
    prop::option::weighted(0.85, value).prop_map(|value| match value {
        Some(value) => Fact::known(value, Quality::Counter),
        None => Fact::missing("not readable here"),
    })
}

/// What a driver may say, the impossible included.
fn gpu() -> impl Strategy<Value = GpuFacts> {
    let share = || fact(prop_oneof![1 => Just(0.0), 4 => 0.0..1.0, 1 => Just(1.0), 1 => 1.0..3.0]);
    let clock = || fact(prop_oneof![Just(0.0), 2e8..2e9]);
    let units = (share(), share(), share(), share(), share(), share());
    let held_down = prop::collection::vec(fact(0..2 * SECOND), 0..3);
    let length = prop_oneof![1 => Just(0), 9 => SECOND / 2..3 * SECOND];
    (units, clock(), clock(), held_down, (length, fact(0..2 * SECOND)), spans(), users()).prop_map(
        |(
            units,
            sm_clock,
            sm_clock_limit,
            held_down,
            (dt_ns, transfer_ns),
            spans,
            (servers, sharing, processes, own_sm, other_sm),
        )| {
            let (utilization, graphics, sm, tensor, vector, dram) = units;
            GpuFacts {
                utilization,
                graphics,
                sm,
                tensor,
                vector,
                dram,
                sm_clock,
                sm_clock_limit,
                held_down: held_down.into_iter().enumerate().map(|(at, ns)| (format!("reason {at}"), ns)).collect(),
                dt_ns,
                spans,
                transfer_ns,
                servers,
                sharing,
                processes,
                own_sm,
                other_sm,
                ..idle_gpu()
            }
        },
    )
}

/// Pieces of a tick, one to ten slots long, some of them without units or without states.
fn spans() -> impl Strategy<Value = Vec<GpuSpan>> {
    let share = || prop_oneof![1 => Just(0.0), 4 => 0.0..1.0, 1 => Just(1.0), 1 => 1.0..1.2];
    let unit = || prop::option::of(share());
    let units = (share(), share(), unit(), unit(), unit(), share());
    let units = units.prop_map(|(graphics, sm, tensor, vector, dram, more)| {
        let vectors = vector.map(|vector| f64::min(vector + more, 1.0));
        GpuUnits { graphics, sm, tensor, vector, vectors, dram }
    });
    let cuts = prop::collection::vec((0..State::COUNT, 1..SLOT_NS), 0..4);
    let utilization = prop::option::of(share());
    let units = prop::option::weighted(0.9, units);
    let span = (1..4_u64, units, utilization, 0..2 * SLOT_NS, prop::option::weighted(0.8, cuts));
    let span = span.prop_map(|(slots, units, utilization, transfer_ns, cuts)| {
        let ns = slots * SLOT_NS;
        let state_ns = cuts.map(|cuts| {
            let mut states = [0; State::COUNT];
            let mut left = ns;
            for (state, part) in cuts {
                states[state] += part.min(left);
                left -= part.min(left);
            }
            states[State::None.index()] += left;
            states
        });
        GpuSpan { ns, units, utilization, transfer_ns, state_ns }
    });
    prop::collection::vec(span, 0..10)
}

fn users() -> impl Strategy<Value = (Vec<EntityId>, Sharing, Option<u32>, Share, Share)> {
    let share = || prop::option::of(0.0..1.0).prop_map(|share| share.map_or(Share::UNKNOWN, Share::of));
    let sharing = prop::sample::select(Sharing::ALL.to_vec());
    (0..3_u32, sharing, prop::option::of(0..3_u32), share(), share()).prop_map(
        |(servers, sharing, processes, own, other)| {
            ((0..servers).map(EntityId).collect(), sharing, processes, own, other)
        },
    )
}

proptest! {
    #[test]
    fn a_gpu_ledger_sums_to_its_tick_whatever_the_driver_says(facts in gpu()) {
        let ledger = gpu_whole(&facts);
        prop_assert_eq!(ledger.is_some(), facts.dt_ns > 0 && facts.sharing != Sharing::Mig);
        if let Some(ledger) = ledger {
            prop_assert_eq!(ledger.interval_ns(), facts.dt_ns);
            prop_assert_eq!(ledger.entries().iter().map(|entry| entry.ns).sum::<u64>(), facts.dt_ns);
        }
    }

    #[test]
    fn more_of_any_unit_is_never_less_of_what_it_stands_for(facts in gpu(), unit in 0..5_usize, more in 0.0..0.5) {
        let whole = GpuFacts { sharing: Sharing::Alone, spans: Vec::new(), servers: Vec::new(), ..facts };
        let calm = GpuFacts { held_down: Vec::new(), ..whole };
        let mut busier = calm.clone();
        let raised = match unit {
            0 => &mut busier.tensor,
            1 => &mut busier.vector,
            2 => &mut busier.dram,
            3 => &mut busier.sm,
            _ => &mut busier.graphics,
        };
        *raised = raised.clone().map(|share| share + more);
        let of = |facts: &GpuFacts, labels: &[&str]| {
            let ledger = gpu_whole(facts).unwrap_or_default();
            labels.iter().map(|label| ledger.ns(label)).sum::<u64>()
        };
        let useful = [ledger::COMPUTE, ledger::MEMORY_BANDWIDTH];
        let resident = [&useful[..], &[ledger::SM_STALLED, ledger::BUSY_UNKNOWN]].concat();
        let busy = [&resident[..], &[ledger::SM_IDLE_RESIDENT]].concat();
        // What a unit does is part of what is resident, and that of what is busy: each grows with the units that it is made of.
        for labels in [&useful[..], &resident, &busy] {
            prop_assert!(of(&busier, labels) >= of(&calm, labels), "{labels:?}");
        }
    }

    #[test]
    fn the_longer_the_clocks_were_held_down_the_more_is_throttled_and_the_busy_time_stays(
        facts in gpu(), ns in 0..SECOND, more in 0..SECOND,
    ) {
        let held = |ns: u64| GpuFacts {
            held_down: vec![("hw_thermal".to_owned(), Fact::known(ns, Quality::Counter))],
            ..facts.clone()
        };
        let (short, long) = (gpu_whole(&held(ns)).unwrap_or_default(), gpu_whole(&held(ns + more)).unwrap_or_default());
        prop_assert!(long.ns(ledger::THROTTLED) >= short.ns(ledger::THROTTLED));
        prop_assert_eq!(ledger::busy_ns(&short), ledger::busy_ns(&long));
    }

    #[test]
    fn readings_that_are_clamped_lower_the_quality(g in 0.1..0.9, beyond in 0.05..0.5) {
        let share = |value: f64| Fact::known(value, Quality::Counter);
        let of = |sm: f64| gpu_whole(&GpuFacts { graphics: share(g), sm: share(sm), dram: share(0.05), ..idle_gpu() });
        let worst = |ledger: &Ledger| {
            let parts = ledger.entries().iter().filter(|entry| entry.ns > 0 && entry.label != ledger::IDLE_UNKNOWN);
            parts.map(|entry| entry.quality).max()
        };
        prop_assert_eq!(worst(&of(g).expect("a tick")), Some(Quality::Counter));
        prop_assert_eq!(worst(&of(g + beyond).expect("a tick")), Some(Quality::Inferred));
    }
}

#[test]
fn a_gpu_that_decodes_is_bound_by_its_memory_and_one_that_multiplies_computes() {
    let share = |value| Fact::known(value, Quality::Counter);
    let decode = GpuFacts { graphics: share(0.9), sm: share(0.8), tensor: share(0.1), dram: share(0.6), ..idle_gpu() };
    let ledger = gpu_whole(&decode).expect("a tick");
    let ms = |label: &str| ledger.ns(label) / 1_000_000;
    assert_eq!((ms(ledger::MEMORY_BANDWIDTH), ms(ledger::COMPUTE)), (750, 0), "0.6 of 0.8 that can be had");
    assert_eq!((ms(ledger::SM_STALLED), ms(ledger::SM_IDLE_RESIDENT), ms(ledger::IDLE_UNKNOWN)), (50, 100, 100));
    assert!(ledger.entries()[..3].iter().all(|entry| entry.quality == Quality::Counter));
    let multiply =
        GpuFacts { graphics: share(1.0), sm: share(1.0), tensor: share(0.93), dram: share(0.3), ..idle_gpu() };
    let ledger = gpu_whole(&multiply).expect("a tick");
    assert_eq!(ledger.ns(ledger::COMPUTE), SECOND);
}

#[test]
fn clocks_that_are_held_down_cost_a_part_of_the_busy_time_and_of_no_other() {
    let share = |value| Fact::known(value, Quality::Counter);
    let hot = GpuFacts {
        graphics: share(0.5),
        sm: share(0.4),
        tensor: share(0.186),
        sm_clock: Fact::known(990e6, Quality::Counter),
        held_down: [("hw_thermal", SECOND), ("sw_thermal", SECOND / 4)]
            .map(|(reason, ns)| (reason.to_owned(), Fact::known(ns, Quality::Counter)))
            .into(),
        ..idle_gpu()
    };
    let ledger = gpu_whole(&hot).expect("a tick");
    let ms = |label: &str| ledger.ns(label) / 1_000_000;
    assert_eq!(ms(ledger::THROTTLED), 250, "half of the clock, in the half of the time that was busy");
    assert_eq!((ms(ledger::COMPUTE), ms(ledger::SM_STALLED), ms(ledger::SM_IDLE_RESIDENT)), (100, 100, 50));
    assert_eq!(ms(ledger::IDLE_UNKNOWN), 500);
    let quality = |label: &str| ledger.entries().iter().find(|entry| entry.label == label).map(|entry| entry.quality);
    assert_eq!(quality(ledger::THROTTLED), Some(Quality::Modelled));
}

#[test]
fn a_memory_that_is_at_its_limit_loses_nothing_to_the_clocks_of_the_sms() {
    let share = |value| Fact::known(value, Quality::Counter);
    let capped = GpuFacts {
        graphics: share(1.0),
        sm: share(0.95),
        dram: share(0.7),
        sm_clock: Fact::known(990e6, Quality::Counter),
        held_down: vec![("sw_power_cap".to_owned(), Fact::known(SECOND, Quality::Counter))],
        ..idle_gpu()
    };
    let ledger = gpu_whole(&capped).expect("a tick");
    let tenths = |label: &str| ledger.ns(label) / 100_000;
    assert_eq!((tenths(ledger::MEMORY_BANDWIDTH), tenths(ledger::THROTTLED)), (8750, 625), "half of the rest");
    assert_eq!((tenths(ledger::SM_STALLED), tenths(ledger::SM_IDLE_RESIDENT)), (375, 250));
}

#[test]
fn readings_that_contradict_each_other_are_inferred_and_what_is_missing_is_unknown() {
    let share = |value| Fact::known(value, Quality::Counter);
    let contradiction = GpuFacts { graphics: share(0.5), sm: share(0.7), dram: share(0.6), ..idle_gpu() };
    let ledger = gpu_whole(&contradiction).expect("a tick");
    assert_eq!(ledger.ns(ledger::MEMORY_BANDWIDTH), SECOND / 2);
    assert_eq!(ledger.entries()[0].quality, Quality::Inferred);
    let old = GpuFacts { utilization: share(0.6), sm: Fact::missing("no GPM"), ..idle_gpu() };
    let ledger = gpu_whole(&old).expect("a tick");
    assert_eq!((ledger.ns(ledger::BUSY_UNKNOWN), ledger.ns(ledger::IDLE_UNKNOWN)), (6 * SECOND / 10, 4 * SECOND / 10));
    let silent = GpuFacts { utilization: Fact::missing("hangs"), ..old };
    assert_eq!(gpu_whole(&silent).expect("a tick").ns(ledger::UNKNOWN), SECOND);
}

#[test]
fn where_only_utilisation_was_sampled_each_piece_has_its_own_and_its_servers_states() {
    let share = |value| Fact::known(value, Quality::Counter);
    let in_state = |state: State, slots: u64| {
        let mut state_ns = [0; State::COUNT];
        state_ns[state.index()] = slots * SLOT_NS;
        Some(state_ns)
    };
    let piece = |slots, utilization, state| GpuSpan {
        ns: slots * SLOT_NS,
        units: None,
        utilization,
        transfer_ns: 0,
        state_ns: in_state(state, slots),
    };
    let old = GpuFacts {
        utilization: share(0.5),
        sm: Fact::missing("no GPM"),
        servers: vec![EntityId(1)],
        spans: vec![
            piece(4, Some(0.75), State::Compute),
            piece(4, Some(0.0), State::Preprocess),
            piece(2, None, State::None),
        ],
        ..idle_gpu()
    };
    let ledger = gpu_whole(&old).expect("a tick");
    let ms = |label: &str| ledger.ns(label) / 1_000_000;
    assert_eq!(ms(ledger::BUSY_UNKNOWN), 300 + 100, "what no sample covers has the tick's");
    assert_eq!((ms(ledger::HOST_COMPUTE), ms("starved.preprocess"), ms(ledger::NO_DEMAND)), (100, 400, 100));
    assert!(ledger.entries().iter().all(|entry| entry.quality == Quality::Inferred), "{ledger:?}");
}

#[test]
fn what_others_computed_is_theirs() {
    let share = |value| Fact::known(value, Quality::Counter);
    let shared = GpuFacts {
        graphics: share(0.8),
        sm: share(0.8),
        tensor: share(0.744),
        servers: vec![EntityId(1)],
        sharing: Sharing::TimeSliced,
        own_sm: Share::of(0.6),
        other_sm: Share::of(0.2),
        ..idle_gpu()
    };
    let ms = |facts: &GpuFacts, label: &str| gpu_whole(facts).expect("a tick").ns(label) / 1_000_000;
    assert_eq!((ms(&shared, ledger::COMPUTE), ms(&shared, ledger::OTHER_TENANT)), (600, 200));
    let mps = GpuFacts { sharing: Sharing::Mps, ..shared.clone() };
    assert_eq!((ms(&mps, ledger::COMPUTE), ms(&mps, ledger::OTHER_TENANT)), (800, 0), "nobody can tell");
    for sharing in [Sharing::TimeSliced, Sharing::Unknown] {
        // In a pid namespace of its own the agent sees some of the processes.
        let partly = GpuFacts { sharing, other_sm: Share::UNKNOWN, processes: None, ..shared.clone() };
        assert_eq!((ms(&partly, ledger::COMPUTE), ms(&partly, ledger::OTHER_TENANT)), (800, 0));
        let busy = gpu_whole(&partly).expect("a tick");
        let compute = busy.entries().iter().find(|entry| entry.label == ledger::COMPUTE).expect("it computed");
        assert_eq!(compute.quality, Quality::Inferred, "somebody's");
    }
    let nobody = GpuFacts { servers: Vec::new(), ..shared };
    assert_eq!(ms(&nobody, ledger::OTHER_TENANT), 0, "without an own there is no other");
}

#[test]
fn an_idle_gpu_without_a_process_lacks_demand_and_one_with_a_silent_process_is_unknown() {
    let held = |processes| gpu_whole(&GpuFacts { processes, ..idle_gpu() }).expect("a tick");
    assert_eq!(held(Some(0)).ns(ledger::NO_DEMAND), SECOND);
    assert_eq!(held(Some(1)).ns(ledger::IDLE_UNKNOWN), SECOND);
    assert_eq!(held(None).ns(ledger::IDLE_UNKNOWN), SECOND);
}
