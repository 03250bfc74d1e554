//! The ledger of a GPU says how far off it may be: beside what the GPU really did, moment by moment.

mod gpu_facts;

use gpu_facts::{SECOND, gpu_whole, idle_gpu};
use perfwatch_diagnose::Fact;
use perfwatch_diagnose::facts::{Bearing, GpuFacts, GpuSpan, GpuUnits};
use perfwatch_diagnose::ledger::{self, Bounds, gpu_ledger};
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{EntityId, Ledger, Quality, Share, Slot, State};
use proptest::prelude::*;

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
        spans: vec![GpuSpan { ns, units: Some(units), utilization: None, transfer_ns: 0, state_ns: Some(state_ns) }],
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

    #[test]
    fn copies_cost_no_less_than_is_said_of_them_and_no_more_than_they_take(
        moments in moments(),
        copies in prop::collection::vec(any::<bool>(), 60),
        // Of a server that has other GPUs too: in which moments it waited for this one.
        waited in prop::option::of(prop::collection::vec(any::<bool>(), 60)),
        is_told in any::<bool>(),
    ) {
        let mut facts = GpuFacts { servers: vec![EntityId(1)], other_sm: Share::of(0.0), ..measured(&moments) };
        if waited.is_some() {
            facts.bearing = Bearing::Spread;
        }
        let copied = || copies.iter().take(moments.len());
        let takes = copied().filter(|copied| **copied).count() as u64 * MOMENT;
        facts.spans[0].transfer_ns = takes;
        // Of pieces alone, where a counter was read too late for the tick.
        facts.transfer_ns = if is_told { Fact::known(takes, Quality::Modelled) } else { Fact::missing("read too late") };
        // What a server says of itself needs no copies beside it.
        let is_waited_for = |(at, ((state, doing), copied)): &(usize, (&(State, Doing), &bool))| {
            let is_starved = *state == State::Transfer || (*state == State::Compute && **copied);
            *doing == Doing::Nothing && is_starved && waited.as_ref().is_none_or(|waited| waited[*at])
        };
        let truth = moments.iter().zip(copied()).enumerate().filter(is_waited_for).count() as u64 * MOMENT;
        let (ledger, bounds) = gpu_ledger(&facts).expect("a tick");
        let (ns, (less, more)) = (ledger.ns("starved.transfer"), bounds.of("starved.transfer"));
        prop_assert!(ns <= truth + less + 4, "{ns} less {less}: {truth} in {ledger:?}");
        prop_assert!(truth <= ns + more + 4, "{ns} and {more}: {truth} in {ledger:?}");
        prop_assert_eq!(ledger.entries().iter().map(|entry| entry.ns).sum::<u64>(), facts.dt_ns);
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
fn copies_that_are_known_to_lie_where_the_device_was_idle_were_waited_for_however_busy_it_was_else() {
    let starved = |copied: [u64; 2], is_sampled: bool| {
        let in_compute = |utilization: f64, transfer_ms: u64| {
            let mut state_ns = [0; State::COUNT];
            state_ns[State::Compute.index()] = SLOT_NS;
            let transfer_ns = transfer_ms * 1_000_000;
            let units = GpuUnits {
                graphics: utilization,
                sm: utilization,
                tensor: None,
                vector: None,
                vectors: None,
                dram: None,
            };
            let (units, utilization) = if is_sampled { (None, Some(utilization)) } else { (Some(units), None) };
            GpuSpan { ns: SLOT_NS, units, utilization, transfer_ns, state_ns: Some(state_ns) }
        };
        let mut spans = vec![in_compute(1.0, copied[0]); 5];
        spans.extend(vec![in_compute(0.0, copied[1]); 5]);
        let transfer_ns = Fact::known(5 * (copied[0] + copied[1]) * 1_000_000, Quality::Modelled);
        let alone = GpuFacts { servers: vec![EntityId(1)], other_sm: Share::of(0.0), ..idle_gpu() };
        let facts = GpuFacts { dt_ns: SECOND, spans, transfer_ns, ..alone };
        let (ledger, bounds) = gpu_ledger(&facts).expect("a tick");
        let ms = |ns: u64| ns / 1_000_000;
        let (less, more) = bounds.of("starved.transfer");
        (ms(ledger.ns("starved.transfer")), ms(ledger.ns(ledger::HOST_COMPUTE)), ms(less), ms(more))
    };
    assert_eq!(starved([0, 80], false), (400, 100, 0, 0), "of 80 ms in each idle tenth");
    assert_eq!(starved([80, 0], false), (0, 500, 0, 400), "they may all have been hidden behind work, or not");
    assert_eq!(starved([80, 80], false), (400, 100, 0, 100), "and those of the busy tenths may have been late");
    assert_eq!(starved([0, 80], true), (400, 100, 400, 0), "samples are of other times than the copies");
    assert_eq!(
        starved([80, 80], true),
        (400, 100, 100, 100),
        "that all copies take longer than the rest is known still"
    );
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
