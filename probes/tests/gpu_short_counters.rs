//! Counters of the `PCIe` link that are full before a second is over: read at the end of each slot, where there is no GPM.

mod rig;

use std::path::Path;
use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{Attr, GpuSlot, Number};
use serde_json::{Value, json};

use rig::{Bench, install, now, real_ns, temp};

const TRANSMIT: Attr = Attr::fixed("network.io.direction", "transmit");
const RECEIVE: Attr = Attr::fixed("network.io.direction", "receive");
const FULL: u64 = 1 << 32;
/// What a link of the third generation with 16 lanes moves in a second.
const GEN3_X16: f64 = 15.753_6e9;
/// As long as something that must come is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// A busy machine may read too late, and say so; as many tries has a test of what it counts when it does not.
const TRIES: usize = 12;

/// A device without GPM whose link is of this generation and width, with its counters in this type.
fn device(kind: &str, (generation, width): (u32, u32), transmit: &Value, receive: &Value) -> Value {
    json!({"uuid": "GPU-a", "power_mw": 5000,
        "pcie": {"generation": generation, "width": width, "max_generation": generation, "max_width": width},
        "fields": [{"id": 197, "type": kind, "value": transmit}, {"id": 198, "type": kind, "value": receive}]})
}

fn open(dir: &Path, device: &Value) -> Bench {
    Bench::open(install(dir, &json!({"devices": [device]}).to_string()), |_| ())
}

fn bytes(bench: &Bench, way: &Attr) -> Option<u64> {
    bench.value(&gpu::PCIE_IO, "GPU-a", std::slice::from_ref(way)).and_then(Number::as_int)
}

fn text(bench: &Bench) -> Option<String> {
    bench.reasons(&gpu::PCIE_IO, bench.gpu("GPU-a")).first().map(|reason| reason.text.to_string())
}

/// Samples at the end of the next whole second, as an agent does.
fn next_second(bench: &mut Bench) -> [GpuSlot; SLOTS] {
    let second = SLOTS as u64 * SLOT_NS;
    let end = (real_ns() / second + 1) * second;
    std::thread::sleep(Duration::from_nanos(end.saturating_sub(real_ns())));
    bench.sample_now();
    bench.probe.devices()[0].slots
}

/// Samples each 300 ms until it is as `wanted`.
fn wait_until(bench: &mut Bench, what: &str, wanted: impl Fn(&Bench) -> bool) {
    let started = now();
    while !wanted(bench) {
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", text(bench));
        std::thread::sleep(Duration::from_millis(300));
        bench.sample_now();
    }
}

/// What is told of bursts that begin 2.5 s after the start and last two seconds, when they are over: in all, and whether a slot
/// told of the link. `None` where a read was late.
fn told_of_bursts(device: &Value) -> Option<([u64; 2], bool)> {
    let dir = temp();
    let began = real_ns();
    let mut bench = open(dir.path(), device);
    bench.sample_now();
    let mut has_slots = false;
    let mut last = None;
    while real_ns() - began < 6_500_000_000 {
        has_slots |= next_second(&mut bench).iter().any(|slot| slot.link.get().is_some());
        let told = [&TRANSMIT, &RECEIVE].map(|way| bytes(&bench, way));
        if let [Some(transmit), Some(receive)] = told {
            // The counters began at 0: what is told first is all that there was.
            if last.is_none() && transmit > FULL / 2 {
                return None;
            }
            last = Some([transmit, receive]);
        } else if last.is_some() {
            // Of one direction it is not said why while the other is told.
            let is_late = |text: String| text.contains("may have filled since they last changed");
            assert!(told.iter().any(Option::is_some) || text(&bench).is_some_and(is_late), "{:?}", text(&bench));
            return None;
        }
    }
    Some((last?, has_slots))
}

fn first_in_time<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    (0..TRIES).find_map(|_| attempt()).expect("reads in time for one of the tries")
}

fn rates(burst: f64, each_s: Option<f64>) -> Value {
    let mut rates = json!({"rates": [[0, 1000], [2.5, burst], [4.5, 1000]], "full_at": FULL});
    if let Some(each_s) = each_s {
        rates["each_s"] = json!(each_s);
    }
    rates
}

#[test]
fn what_goes_over_a_link_that_fills_its_counter_five_times_in_two_seconds_is_all_counted() {
    let device = device("unsigned_int", (3, 16), &rates(12e9, None), &rates(1e9, None));
    let ([transmit, receive], has_slots) = first_in_time(|| told_of_bursts(&device));
    assert!((24_000_000_000..24_000_100_000).contains(&transmit), "{transmit}");
    assert!((2_000_000_000..2_000_100_000).contains(&receive), "{receive}");
    assert!(has_slots);
}

#[test]
fn of_counters_that_the_driver_refreshes_seldom_the_sum_is_told_and_no_slot() {
    // Each 0.3 s: between two refreshes the link moves less than they hold.
    let device = device("unsigned_int", (3, 8), &rates(5e9, Some(0.3)), &rates(1e9, Some(0.3)));
    let ([transmit, receive], has_slots) = first_in_time(|| told_of_bursts(&device));
    assert!((10_000_000_000..10_000_100_000).contains(&transmit), "{transmit}");
    assert!((2_000_000_000..2_000_100_000).contains(&receive), "{receive}");
    assert!(!has_slots, "nobody knows in which of three slots it was");
}

#[test]
fn a_burst_is_in_the_tenths_in_which_it_was() {
    let burst = json!({"rates": [[0, 1e6], [0.4, 8e9], [0.6, 1e6]], "repeat_s": 1, "full_at": FULL});
    let trickle = json!({"start": 0, "per_second": 1000});
    let (second, bytes) = (SLOTS as u64 * SLOT_NS, 1.6e9);
    let scripted = device("unsigned_int", (3, 16), &burst, &trickle);
    // The seconds of the script are not the agent's; they began somewhere in between.
    let (mut bench, _dir, before, after) = first_in_time(|| {
        let dir = temp();
        let mut bench = open(dir.path(), &scripted);
        let before = real_ns();
        bench.sample_now();
        let after = real_ns();
        (after - before < 3 * SLOT_NS).then_some((bench, dir, before, after))
    });
    let [first, last] = [before, after].map(|began| began + 400_000_000).map(|burst| burst / SLOT_NS);
    let is_right = |slots: &[GpuSlot; SLOTS]| {
        let shares: Vec<f64> = slots.iter().filter_map(|slot| slot.link.get()).collect();
        let moved = shares.iter().sum::<f64>() * GEN3_X16 / SLOTS as f64;
        let most = shares.iter().copied().fold(0.0, f64::max);
        // It lasts two tenths, which may lie in three; a read that is late adds one.
        let may_be_in = |at: u64| (first..=last + 3).any(|slot| slot % SLOTS as u64 == at);
        let is_quiet = shares.iter().zip(0..).all(|(share, at)| may_be_in(at) || *share < 0.01);
        shares.len() == SLOTS && (moved / bytes - 1.0).abs() < 0.2 && is_quiet && (0.4..0.6).contains(&most)
    };
    let seconds: Vec<_> = (0..60).map(|_| next_second(&mut bench)).take_while(|slots| !is_right(slots)).collect();
    assert!(seconds.len() < 60, "8 GB/s are half of what it moves, from {} on: {seconds:?}", first * SLOT_NS % second);
}

#[test]
fn counters_of_64_bits_and_those_beside_gpm_are_read_once_a_tick() {
    let counter = json!({"start": 5, "per_second": 7e9});
    let of_64_bits = device("unsigned_long_long", (3, 16), &counter, &counter);
    let mut beside_gpm = device("unsigned_int", (3, 16), &json!(7), &json!(7));
    beside_gpm["gpm"] = json!({"1": 90, "2": 80, "20": 1000, "21": 5});
    let slow_link = device("unsigned_int", (3, 2), &json!(7), &json!(7));
    let too_fast = device("unsigned_int", (5, 16), &json!(7), &json!(7));
    for device in [of_64_bits, beside_gpm, slow_link, too_fast] {
        let dir = temp();
        let log = dir.path().join("calls");
        let scenario = json!({"call_log": log, "devices": [device]});
        let mut bench = Bench::open(install(dir.path(), &scenario.to_string()), |_| ());
        bench.sample_now();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(400));
            bench.sample_now();
        }
        let calls = std::fs::read_to_string(&log).expect("a log");
        // Of what is read seldom once.
        assert_eq!(calls.matches("nvmlDeviceGetFieldValues").count(), 4 + 1, "{device}");
    }
}

#[test]
fn a_counter_of_64_bits_that_begins_anew_at_32_is_read_by_slot_as_soon_as_that_is_known() {
    let dir = temp();
    let log = dir.path().join("calls");
    let counter = json!({"rates": [[0, 6e9]], "full_at": FULL});
    let scenario = json!({"call_log": log, "devices": [device("unsigned_long_long", (3, 16), &counter, &json!(7))]});
    let mut bench = Bench::open(install(dir.path(), &scenario.to_string()), |_| ());
    bench.sample_now();
    let calls = || {
        let calls = std::fs::read_to_string(&log).expect("a log");
        ["nvmlDeviceGetFieldValues", "nvmlDeviceGetUtilizationRates"].map(|symbol| calls.matches(symbol).count())
    };
    let started = now();
    loop {
        let [fields_before, ticks_before] = calls();
        let before = bytes(&bench, &TRANSMIT).map(|bytes| (bytes, real_ns()));
        next_second(&mut bench);
        let Some(((before, from_ns), bytes)) = before.zip(bytes(&bench, &TRANSMIT)) else { continue };
        let expected = 6e9 * (real_ns() - from_ns) as f64 / 1e9;
        let [fields, ticks] = calls();
        let are_by_slot = fields - fields_before > 4 * (ticks - ticks_before);
        if are_by_slot && ((bytes - before) as f64 / expected - 1.0).abs() < 0.2 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{} bytes and not {expected}: {:?}", bytes - before, text(&bench));
    }
}

#[test]
fn reads_that_are_too_dear_to_come_in_time_are_given_up_and_tried_again() {
    let dir = temp();
    let log = dir.path().join("calls");
    let counter = json!({"rates": [[0, 1e9]], "full_at": FULL});
    let scenario = json!({"call_log": log, "devices": [device("unsigned_int", (4, 16), &counter, &counter)]});
    let mut bench = Bench::open(install(dir.path(), &scenario.to_string()), |_| ());
    bench.sample_now();
    wait_until(&mut bench, "a link of 31 GB/s is read in time each 100 ms", |bench| bytes(bench, &TRANSMIT).is_some());
    bench.probe.allow(0);
    let is_given_up = |bench: &Bench| text(bench).is_some_and(|text| text.ends_with("faster than they are read"));
    wait_until(&mut bench, "each 200 ms is too seldom, and is given up", is_given_up);
    assert!(bench.probe.is_stretched(), "it is told as less than there could be");
    let made = || std::fs::read_to_string(&log).expect("a log").matches("nvmlDeviceGetFieldValues").count();
    let before = made();
    std::thread::sleep(Duration::from_secs(2));
    bench.sample_now();
    assert!(made() <= before + 2, "{} calls", made() - before);
    bench.probe.allow(u64::MAX);
    wait_until(&mut bench, "and tried again", |bench| bytes(bench, &TRANSMIT).is_some());
}

#[test]
fn a_driver_that_is_loaded_anew_is_no_full_counter() {
    let dir = temp();
    let high = 3_900_000_000_u64;
    let counter = |start: u64| json!({"start": start, "per_second": 1000});
    let mut failing = device("unsigned_int", (3, 16), &counter(high), &counter(high));
    failing["errors"] = json!({"nvmlDeviceGetTemperature": {"at": [[0, 0], [2, "LIB_RM_VERSION_MISMATCH"]]}});
    let library = install(dir.path(), &json!({"devices": [failing]}).to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample_now();
    wait_until(&mut bench, "it counts", |bench| bytes(bench, &TRANSMIT).is_some());
    let anew = device("unsigned_int", (3, 16), &counter(5), &counter(5));
    fake_nvml::rewrite(&library, &json!({"devices": [anew]}).to_string()).expect("rewritten");
    wait_until(&mut bench, "the session ends", |bench| bytes(bench, &TRANSMIT).is_none());
    wait_until(&mut bench, "it counts on", |bench| bytes(bench, &TRANSMIT).is_some());
    let told = bytes(&bench, &TRANSMIT).expect("told");
    assert!((high..high + 1_000_000).contains(&told), "{told}");
}

#[test]
fn a_hang_between_two_ticks_holds_nobody_up_is_named_and_leaves_no_wrong_number() {
    let dir = temp();
    let counter = json!({"rates": [[0, 3e9]], "full_at": FULL});
    let mut hanging = device("unsigned_int", (3, 16), &counter, &counter);
    hanging["delays_ms"] = json!({"nvmlDeviceGetFieldValues": {"at": [[0, 0], [2.5, 2500], [3, 0]]}});
    let library = install(dir.path(), &json!({"devices": [hanging]}).to_string());
    let mut bench = Bench::open(library, |context| context.budget = Duration::from_millis(200));
    let opened_ns = real_ns();
    bench.sample_now();
    let (mut longest, mut is_named, mut last) = (Duration::ZERO, false, 0);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(800));
        let began = now();
        bench.sample_now();
        longest = longest.max(began.elapsed());
        is_named |= text(&bench).is_some_and(|text| text.contains("`nvmlDeviceGetFieldValues`"));
        if let Some(now) = bytes(&bench, &TRANSMIT) {
            let most = 3 * (real_ns() - opened_ns);
            assert!(now >= last && now <= most, "{last}, then {now} of {most}");
            last = now;
        }
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(is_named, "the call that hangs is named");
    wait_until(&mut bench, "and all is told again", |bench| bytes(bench, &TRANSMIT).is_some());
}

#[test]
fn where_gpm_tells_the_bytes_too_it_goes_on_when_a_counter_turns_out_to_be_short() {
    let dir = temp();
    let short = json!([4_294_966_296_u64, 500, 900, 300, 800]);
    let mut beside_gpm = device("unsigned_long_long", (5, 16), &short, &json!(7));
    beside_gpm["gpm"] = json!({"1": 90, "2": 80, "20": 1000, "21": 5});
    let mut bench = open(dir.path(), &beside_gpm);
    let mut told = Vec::new();
    for _ in 0..8 {
        bench.sample_now();
        told.push(bytes(&bench, &TRANSMIT));
        std::thread::sleep(Duration::from_millis(300));
    }
    let known: Vec<u64> = told.iter().copied().flatten().collect();
    assert!(known.is_sorted() && known[0] == 4_294_966_296, "{told:?}");
    assert!(told[4..].iter().all(Option::is_some), "{told:?}");
    let rose = known[known.len() - 1] - known[0];
    assert!(rose > 700_000_000, "a gigabyte in each second that GPM told of: {told:?}");
}
