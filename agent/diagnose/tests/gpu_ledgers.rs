//! The ledger of a GPU: it sums, it follows its readings, and it says how far off it may be.

use perfwatch_diagnose::Fact;
use perfwatch_diagnose::facts::{Bearing, GpuFacts, GpuSpan, GpuUnits};
use perfwatch_diagnose::ledger::{self, Bounds, gpu_ledger};
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{EntityId, Ledger, Quality, Share, Sharing, Slot, State};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn gpu_whole(facts: &GpuFacts) -> Option<Ledger> {
    gpu_ledger(facts).map(|(ledger, _)| ledger)
}

fn fact<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Fact<T>> {
    prop::option::weighted(0.85, value).prop_map(|value| match value {
        Some(value) => Fact::known(value, Quality::Counter),
        None => Fact::missing("not readable here"),
    })
}

/// A GPU that does nothing, with everything known.
fn idle_gpu() -> GpuFacts {
    let share = |value| Fact::known(value, Quality::Counter);
    GpuFacts {
        entity: EntityId(0),
        dt_ns: SECOND,
        utilization: share(0.0),
        graphics: share(0.0),
        sm: share(0.0),
        tensor: share(0.0),
        vector: share(0.0),
        dram: share(0.0),
        memory_used: Fact::known(0, Quality::Counter),
        memory_total: Fact::known(80 << 30, Quality::Counter),
        memory_reserved: Fact::known(0, Quality::Counter),
        sm_clock: Fact::known(1_980e6, Quality::Counter),
        sm_clock_limit: Fact::known(1_980e6, Quality::Counter),
        power_limit: Fact::known(700.0, Quality::Counter),
        held_down: vec![("sw_power_cap".to_owned(), Fact::known(0, Quality::Counter))],
        uncorrected: Fact::known(0, Quality::Counter),
        xids: Vec::new(),
        began_anew: false,
        faults: Vec::new(),
        spans: Vec::new(),
        bearing: Bearing::Whole,
        servers: Vec::new(),
        sharing: Sharing::Alone,
        processes: None,
        transfer_ns: Fact::known(0, Quality::Modelled),
        own_sm: Share::UNKNOWN,
        other_sm: Share::UNKNOWN,
    }
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
    let span = (1..4_u64, prop::option::weighted(0.9, units), utilization, prop::option::weighted(0.8, cuts));
    let span = span.prop_map(|(slots, units, utilization, cuts)| {
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
        GpuSpan { ns, units, utilization, state_ns }
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

/// What a GPU really did in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Multiplying,
    Adding,
    Counting,
    Moving,
    Stalled,
    Launching,
    Nothing,
}

fn doing() -> impl Strategy<Value = Doing> {
    let work = [Doing::Multiplying, Doing::Adding, Doing::Counting, Doing::Moving];
    prop::sample::select([&work[..], &[Doing::Stalled, Doing::Launching, Doing::Nothing, Doing::Nothing]].concat())
}

/// Moments of 5 ms, in one to three slots that one measurement covers: what the server was in, what the GPU did.
fn moments() -> impl Strategy<Value = Vec<(State, Doing)>> {
    let state = prop::sample::select(State::ALL.to_vec());
    let run = (state, doing(), 1..8_usize);
    (prop::collection::vec(run, 1..30), 1..4_usize).prop_map(|(runs, slots)| {
        let moments = runs.into_iter().cycle().flat_map(|(state, doing, length)| vec![(state, doing); length]);
        moments.take(20 * slots).collect()
    })
}

const MOMENT: u64 = SLOT_NS / 20;

/// What GPM and the server would tell of these moments.
fn measured(moments: &[(State, Doing)]) -> GpuFacts {
    let whole = moments.len() as f64;
    let share = |which: &[Doing]| moments.iter().filter(|(_, doing)| which.contains(doing)).count() as f64 / whole;
    let (adding, counting) = (share(&[Doing::Adding]), share(&[Doing::Counting]));
    let mut state_ns = [0; State::COUNT];
    for (state, _) in moments {
        state_ns[state.index()] += MOMENT;
    }
    let ns = moments.len() as u64 * MOMENT;
    let units = GpuUnits {
        graphics: 1.0 - share(&[Doing::Nothing]),
        sm: share(&[Doing::Multiplying, Doing::Adding, Doing::Counting, Doing::Moving, Doing::Stalled]),
        tensor: Some(share(&[Doing::Multiplying]) * ledger::TENSOR_PEAK),
        vector: Some(adding.max(counting)),
        vectors: Some(adding + counting),
        dram: Some(share(&[Doing::Moving]) * ledger::DRAM_PEAK),
    };
    GpuFacts {
        dt_ns: ns,
        spans: vec![GpuSpan { ns, units: Some(units), utilization: None, state_ns: Some(state_ns) }],
        ..idle_gpu()
    }
}

/// Where the time really went.
fn truth(moments: &[(State, Doing)], label: &str) -> u64 {
    let cause = |(state, doing): &(State, Doing)| match (doing, state) {
        (Doing::Multiplying | Doing::Adding | Doing::Counting, _) => ledger::COMPUTE,
        (Doing::Moving, _) => ledger::MEMORY_BANDWIDTH,
        (Doing::Stalled, _) => ledger::SM_STALLED,
        (Doing::Launching, _) => ledger::SM_IDLE_RESIDENT,
        (Doing::Nothing, State::Compute) => ledger::HOST_COMPUTE,
        (Doing::Nothing, state) => ledger::idle_cause(*state),
    };
    moments.iter().filter(|moment| cause(moment) == label).count() as u64 * MOMENT
}

/// Every label of a ledger of such moments, as far as it can be told from the truth.
fn labels() -> impl Iterator<Item = &'static str> {
    let busy =
        [ledger::COMPUTE, ledger::MEMORY_BANDWIDTH, ledger::SM_STALLED, ledger::SM_IDLE_RESIDENT, ledger::HOST_COMPUTE];
    let idle = State::ALL.into_iter().filter(|state| *state != State::Compute).map(ledger::idle_cause);
    busy.into_iter().chain(idle)
}

/// That the truth of these moments lies within the bounds of these facts' ledger.
fn bounded(facts: &GpuFacts, moments: &[(State, Doing)]) -> Result<(), TestCaseError> {
    let (ledger, bounds) = gpu_ledger(facts).expect("a tick");
    for label in labels() {
        let (ns, (less, more)) = (ledger.ns(label), bounds.of(label));
        let truth = truth(moments, label);
        // Shares of a whole become whole nanoseconds.
        let (least, most) = (ns.saturating_sub(less + 4), ns + more + 4);
        prop_assert!((least..=most).contains(&truth), "{label}: {truth} is not in {least}..={most} of {ledger:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_truth_lies_within_the_bounds_whatever_happened(moments in moments()) {
        bounded(&measured(&moments), &moments)?;
    }

    #[test]
    fn and_so_it_does_where_two_servers_overlap_in_a_way_that_nobody_tells(
        moments in prop::collection::vec((0..State::COUNT, 0..State::COUNT, doing()), 20),
    ) {
        let state = |at: usize| State::ALL[at];
        let both: Vec<_> = moments.iter().map(|(a, b, doing)| (state(*a).min(state(*b)), *doing)).collect();
        // What each tells for itself, as one.
        let slots = [0, 1].map(|server| {
            let mut slot = Slot::default();
            for (a, b, _) in &moments {
                slot.state_ns[if server == 0 { *a } else { *b }] += MOMENT;
            }
            slot
        });
        let mut facts = measured(&both);
        facts.bearing = Bearing::Merged;
        facts.spans[0].state_ns = Some(Slot::merged(&slots.iter()).state_ns);
        bounded(&facts, &both)?;
    }

    #[test]
    fn and_where_a_server_may_have_wanted_another_of_its_gpus(
        moments in moments(),
        wanted in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut facts = measured(&moments);
        facts.bearing = Bearing::Spread;
        let of_this = |((state, doing), wanted): (&(State, Doing), bool)| match doing {
            Doing::Nothing if !wanted => (State::None, *doing),
            _ => (*state, *doing),
        };
        let truth: Vec<_> = moments.iter().zip(wanted).map(of_this).collect();
        bounded(&facts, &truth)?;
    }
}

#[test]
fn what_is_not_mixed_within_a_slot_is_exact() {
    for (state, doing, label) in [
        (State::Compute, Doing::Multiplying, ledger::COMPUTE),
        (State::Compute, Doing::Nothing, ledger::HOST_COMPUTE),
        (State::Preprocess, Doing::Nothing, "starved.preprocess"),
        (State::None, Doing::Nothing, ledger::NO_DEMAND),
    ] {
        let (ledger, bounds) = gpu_ledger(&measured(&[(state, doing); 20])).expect("a tick");
        assert_eq!((ledger.ns(label), bounds.of(label)), (SLOT_NS, (0, 0)), "{label}");
        assert!(ledger.entries().iter().all(|entry| entry.quality <= Quality::Sdk), "{ledger:?}");
    }
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
fn copies_that_take_longer_than_the_device_was_busy_were_waited_for() {
    let mut facts = GpuFacts {
        servers: vec![EntityId(1)],
        other_sm: Share::of(0.0),
        ..measured(&[(State::Compute, Doing::Multiplying), (State::Compute, Doing::Nothing)].repeat(10))
    };
    let ms = |ledger: &Ledger, label: &str| ledger.ns(label) / 1_000_000;
    // Of 100 ms the device was busy for 50; copies take 70 at least.
    facts.transfer_ns = Fact::known(70_000_000, Quality::Modelled);
    let (ledger, bounds) = gpu_ledger(&facts).expect("a tick");
    assert_eq!((ms(&ledger, "starved.transfer"), ms(&ledger, ledger::HOST_COMPUTE)), (20, 30));
    assert_eq!(bounds.of("starved.transfer"), (0, 30_000_000), "none of it may have been hidden");
    assert_eq!(bounds.of(ledger::HOST_COMPUTE).0, 30_000_000);
    facts.transfer_ns = Fact::known(40_000_000, Quality::Modelled);
    let (ledger, _) = gpu_ledger(&facts).expect("a tick");
    assert_eq!(ms(&ledger, "starved.transfer"), 0, "it may all have been hidden");
}

#[test]
fn an_idle_gpu_without_a_process_lacks_demand_and_one_with_a_silent_process_is_unknown() {
    let held = |processes| gpu_whole(&GpuFacts { processes, ..idle_gpu() }).expect("a tick");
    assert_eq!(held(Some(0)).ns(ledger::NO_DEMAND), SECOND);
    assert_eq!(held(Some(1)).ns(ledger::IDLE_UNKNOWN), SECOND);
    assert_eq!(held(None).ns(ledger::IDLE_UNKNOWN), SECOND);
}

#[test]
fn a_tick_that_covers_missed_ones_is_known_for_its_last_second_alone() {
    let mut facts = measured(&[(State::None, Doing::Nothing); 20]);
    facts.spans = vec![facts.spans[0]; 10];
    facts.dt_ns = 3 * SECOND;
    let ledger = gpu_whole(&facts).expect("a tick");
    assert_eq!((ledger.ns(ledger::NO_DEMAND), ledger.ns(ledger::UNKNOWN)), (SECOND, 2 * SECOND));
    facts.dt_ns = SECOND + SECOND / 5;
    assert_eq!(gpu_whole(&facts).expect("a tick").ns(ledger::UNKNOWN), 0, "a little late is no missed tick");
}

/// The bounds of ticks add as their ledgers do.
#[test]
fn bounds_of_a_window_are_the_sum_of_its_ticks() {
    let mixed = measured(&[(State::Compute, Doing::Multiplying), (State::Preprocess, Doing::Nothing)].repeat(10));
    let (_, one) = gpu_ledger(&mixed).expect("a tick");
    let mut sum = Bounds::default();
    (0..3).for_each(|_| sum.add(&one));
    let (less, more) = one.of(ledger::HOST_COMPUTE);
    assert!(more > 0);
    assert_eq!(sum.of(ledger::HOST_COMPUTE), (3 * less, 3 * more));
}
