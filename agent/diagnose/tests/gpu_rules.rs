//! The experimental rules about GPUs, on ticks made up for them.

use perfwatch_diagnose::{Config, Engine, Judgement};
use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, Finding, GpuSlot, GpuTick, Number, SeriesTable, ServerTick, Severity, Share,
    Sharing, Stamp, State, Tick,
};

const SECOND: u64 = 1_000_000_000;

/// A GPU that does the same in each slot, and the server on it, which is in one state for a part of each slot and else in
/// another.
struct Case {
    /// Graphics, SM, tensor, DRAM.
    units: [f64; 4],
    states: [(State, f64); 2],
    others: f64,
    /// Clock of the SMs, as a share of the highest: the power limit holds it down all the time.
    clock: f64,
}

/// Its GPU works and nothing is wrong.
const WELL: Case =
    Case { units: [0.6, 0.5, 0.2, 0.2], states: [(State::Compute, 0.6), (State::None, 0.4)], others: 0.0, clock: 1.0 };

struct World {
    table: SeriesTable,
    gpu: EntityId,
    server: EntityId,
}

impl World {
    fn new() -> Self {
        let mut table = SeriesTable::new();
        let gpu = table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
        let server = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        Self { table, gpu, server }
    }

    fn tick(&mut self, second: u64, case: &Case) -> Tick {
        let [graphics, sm, tensor, dram] = case.units.map(Share::of);
        let slot = GpuSlot {
            graphics,
            sm,
            tensor,
            vector: Share::of(0.0),
            vectors: Share::of(0.0),
            dram,
            link: Share::UNKNOWN,
            continued: false,
        };
        let mut server = ServerTick::empty(self.server);
        for slot in &mut server.slots {
            let first = (SLOT_NS as f64 * case.states[0].1).round() as u64;
            slot.state_ns[case.states[0].0.index()] += first;
            slot.state_ns[case.states[1].0.index()] += SLOT_NS - first;
        }
        let utilization = self.table.series(&gpu::UTILIZATION, self.gpu, &[Attr::fixed("hw.gpu.task", "general")]);
        let of_sms = Attr::fixed("perfwatch.gpu.clock", "sm");
        let [clock, limit] = [&gpu::CLOCK, &gpu::CLOCK_LIMIT]
            .map(|metric| self.table.series(metric, self.gpu, std::slice::from_ref(&of_sms)));
        let capped = Attr::fixed("perfwatch.gpu.throttle.reason", "sw_power_cap");
        let capped = self.table.series(&gpu::THROTTLE_TIME, self.gpu, &[capped]);
        let mut tick = Tick {
            end: Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND },
            dt_ns: SECOND,
            values: vec![
                (utilization, Number::Float(case.units[0])),
                (clock, Number::Float(1.98e9 * case.clock)),
                (limit, Number::Float(1.98e9)),
                (capped, Number::Int(if case.clock < 1.0 { second * SECOND } else { 0 })),
            ],
            servers: vec![server],
            gpus: vec![GpuTick {
                slots: [slot; SLOTS],
                servers: vec![self.server],
                sharing: if case.others > 0.0 { Sharing::TimeSliced } else { Sharing::Alone },
                processes: Some(1),
                own_sm: Share::of(1.0 - case.others),
                other_sm: Share::of(case.others),
                ..GpuTick::unknown(self.gpu)
            }],
            ..Tick::default()
        };
        tick.seal();
        tick
    }

    fn judge(case: &Case, experimental: bool) -> Judgement {
        let mut world = Self::new();
        let mut engine = Engine::new(Config { experimental, ..Config::default() });
        let mut last = None;
        for second in 1..=20 {
            let tick = world.tick(second, case);
            last = Some(engine.push(&tick, &world.table));
        }
        last.expect("twenty ticks")
    }
}

fn found(case: &Case) -> Vec<Finding> {
    let findings = World::judge(case, true).findings;
    findings.into_iter().filter(|finding| finding.id.starts_with("gpu-")).collect()
}

fn ids(case: &Case) -> Vec<String> {
    found(case).iter().map(|finding| finding.id.to_string()).collect()
}

#[test]
fn each_nature_of_work_is_told_by_its_own_rule_and_none_of_a_gpu_that_is_well() {
    assert_eq!(ids(&WELL), [""; 0]);
    let compute = [(State::Compute, 1.0), (State::None, 0.0)];
    let decode = Case { units: [0.98, 0.9, 0.1, 0.62], states: compute, ..WELL };
    assert_eq!(ids(&decode), ["gpu-memory-bandwidth-bound"]);
    let prefill = Case { units: [0.99, 0.97, 0.8, 0.3], states: compute, ..WELL };
    assert_eq!(ids(&prefill), ["gpu-compute-bound"]);
    let launches = Case { units: [0.4, 0.2, 0.05, 0.1], states: compute, ..WELL };
    assert_eq!(ids(&launches), ["gpu-starved-by-host"]);
    let tokenised =
        Case { units: [0.2, 0.2, 0.1, 0.1], states: [(State::Compute, 0.2), (State::Preprocess, 0.8)], ..WELL };
    let finding = &found(&tokenised)[0];
    assert_eq!(finding.id, "gpu-starved-by-host");
    assert!(finding.detail.contains("while requests were in `preprocess`"), "{}", finding.detail);
    assert!(finding.remedies[0].action.contains("preprocess in more"), "{:?}", finding.remedies);
    let shared = Case { others: 0.3, ..WELL };
    assert_eq!(ids(&shared), ["gpu-noisy-neighbour"]);
    assert_eq!(found(&shared)[0].severity, Severity::Warning);
}

#[test]
fn what_binds_a_gpu_is_told_beside_what_the_rest_of_its_busy_time_was() {
    let compute = [(State::Compute, 1.0), (State::None, 0.0)];
    let decode = &found(&Case { units: [1.0, 0.9, 0.093, 0.64], states: compute, ..WELL })[0];
    let told = |finding: &Finding, name: &str| {
        let evidence = finding.evidence.iter().find(|evidence| evidence.metric == name);
        evidence.map(|evidence| (evidence.value * 100.0).round() as u64)
    };
    let of = |finding, names: [&str; 4]| names.map(|name| told(finding, &format!("gpu.{name}_of_busy")));
    let all = ["memory_bandwidth", "compute", "sm_stalled", "sm_idle"];
    assert_eq!(of(decode, all), [80, 0, 10, 10].map(Some), "64 of the 80 % that can be had");
    assert!(decode.detail.contains("80 % of the bandwidth"), "{}", decode.detail);
    let prefill = &found(&Case { units: [1.0, 0.9, 0.744, 0.2], states: compute, ..WELL })[0];
    assert_eq!(of(prefill, all), [0, 80, 10, 10].map(Some));
}

#[test]
fn a_gpu_at_its_power_limit_or_shared_is_bound_by_the_unit_that_it_is_bound_by() {
    let compute = [(State::Compute, 1.0), (State::None, 0.0)];
    // What both do at full load: the clock of the SMs gives way, that of the memory does not.
    let decode = Case { units: [1.0, 0.95, 0.1, 0.7], states: compute, clock: 0.68, ..WELL };
    assert_eq!(ids(&decode), ["gpu-throttled", "gpu-memory-bandwidth-bound"]);
    let prefill = Case { units: [1.0, 0.98, 0.8, 0.3], states: compute, clock: 0.68, ..WELL };
    assert_eq!(ids(&prefill), ["gpu-throttled", "gpu-compute-bound"]);
    // What binds it are its clocks, however little of what they leave of the rest is told apart.
    let mixed = Case { units: [1.0, 1.0, 0.2, 0.2], clock: 0.2, ..decode };
    assert_eq!(ids(&mixed), ["gpu-throttled"]);
    let shared = Case { others: 0.5, clock: 1.0, ..prefill };
    assert_eq!(ids(&shared), ["gpu-noisy-neighbour", "gpu-compute-bound"]);
}

#[test]
fn others_on_the_gpu_of_a_server_without_requests_take_nothing_from_it() {
    let night = Case { others: 0.9, states: [(State::Compute, 0.05), (State::None, 0.95)], ..WELL };
    assert_eq!(ids(&night), [""; 0]);
}

#[test]
fn a_server_that_serves_all_that_comes_is_told_of_idle_gaps_in_a_note() {
    let gaps = Case { units: [0.2, 0.2, 0.1, 0.1], states: [(State::Compute, 0.2), (State::Preprocess, 0.3)], ..WELL };
    let gaps = Case { states: [gaps.states[0], (State::Preprocess, 0.8)], ..gaps };
    assert_eq!(found(&gaps)[0].severity, Severity::Note, "nobody waits for it");
    let slow_client = Case { states: [(State::Compute, 0.2), (State::Send, 0.8)], ..gaps };
    assert_eq!(ids(&slow_client), [""; 0]);
}

#[test]
fn a_gpu_without_requests_is_not_starved_however_idle_it_is() {
    let idle = Case { units: [0.05, 0.04, 0.01, 0.01], states: [(State::Compute, 0.05), (State::None, 0.95)], ..WELL };
    assert_eq!(ids(&idle), [""; 0]);
}

#[test]
fn what_the_slots_leave_open_is_not_held_against_the_host() {
    // Busy for half of each slot, and in compute for half of it: the two may or may not be the same half. If they are not, the
    // device stood still for all of the time in compute; if they are, for none of it.
    let open = Case { units: [0.5, 0.4, 0.2, 0.2], states: [(State::Compute, 0.5), (State::None, 0.5)], ..WELL };
    assert_eq!(ids(&open), [""; 0]);
}

#[test]
fn experimental_rules_are_silent_unless_asked_for_and_say_what_they_are() {
    let shared = Case { others: 0.3, ..WELL };
    let quiet = World::judge(&shared, false);
    assert!(quiet.findings.is_empty(), "{:?}", quiet.findings);
    assert!(quiet.undecided.iter().all(|undecided| undecided.rule != "gpu-noisy-neighbour"), "{:?}", quiet.undecided);
    let finding = &found(&shared)[0];
    let told = finding.detail.ends_with("agents ask it only with rules = \"all\".)");
    assert!(finding.experimental && told, "{finding:?}");
}
