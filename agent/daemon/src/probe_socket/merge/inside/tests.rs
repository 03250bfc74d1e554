use super::*;
use perfwatch_model::{Entity, EntityKind};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const NOT_VISIBLE: Reason = Reason::fixed("out of sight", "");

struct Rig {
    table: SeriesTable,
    machine: EntityId,
    server: EntityId,
    inside: Inside,
    /// Busy and stolen time of two CPUs.
    cores: [[u64; 2]; 2],
}

impl Rig {
    fn new() -> Self {
        let mut table = SeriesTable::new();
        let machine = table.entity(Entity::new(EntityKind::Host, "here"));
        let server = table.entity(Entity::new(EntityKind::Server, "demo/one"));
        Self { table, machine, server, inside: Inside::new(server), cores: [[0; 2]; 2] }
    }

    /// A tick in which the CPUs were busy and stolen for so long, and the processes told this.
    fn tick(&mut self, gained: [[u64; 2]; 2], flushes: &[Flush]) -> Tick {
        let mut tick = Tick::default();
        for (cpu, (total, gained)) in self.cores.iter_mut().zip(gained).enumerate() {
            for ((mode, total), gained) in ["user", "steal"].into_iter().zip(total).zip(gained) {
                *total += gained;
                let attrs = [Attr::int("cpu.logical_number", cpu as i64), Attr::fixed("cpu.mode", mode)];
                let series = self.table.series(&host::CPU_CORE_TIME, self.machine, &attrs);
                tick.values.push((series, Number::Int(*total)));
            }
            let attrs = [Attr::int("cpu.logical_number", cpu as i64), Attr::fixed("cpu.mode", "idle")];
            let series = self.table.series(&host::CPU_CORE_TIME, self.machine, &attrs);
            tick.values.push((series, Number::Int(SECOND)));
        }
        for metric in [&server::CPU_TIME, &server::CPU_QUOTA, &server::CPU_OTHERS, &server::HOTTEST_THREAD] {
            tick.absent.push(Absence { metric: metric.name, entity: self.server, reason: NOT_VISIBLE });
        }
        let told: Vec<Told> = flushes
            .iter()
            .map(|flush| {
                let mut told = Told::default();
                told.add(flush);
                told
            })
            .collect();
        self.inside.report(&told, &mut tick, &mut self.table);
        tick
    }

    fn value(&self, tick: &Tick, metric: &'static MetricDef, attrs: &[Attr]) -> Option<Number> {
        let series = self.table.find(metric, self.server, attrs)?;
        tick.values.iter().find(|(id, _)| *id == series).map(|(_, number)| *number)
    }

    fn others_ms(&self, tick: &Tick) -> Option<u64> {
        self.value(tick, &server::CPU_OTHERS, &[])?.as_int().map(|ns| ns / MS)
    }
}

fn why(tick: &Tick, metric: &MetricDef) -> Option<Reason> {
    tick.absent.iter().find(|absence| absence.metric == metric.name).map(|absence| absence.reason.clone())
}

/// What a process on CPU 0 tells whose control group used so much.
fn flush(group: ControlGroup) -> Flush {
    Flush { cpu_ns: Some(1), cpus_allowed: "0".into(), control_group: Some(group), ..Flush::default() }
}

fn used(ms: u64) -> Flush {
    flush(ControlGroup { cpu_ns: Some(ms * MS), ..ControlGroup::default() })
}

#[test]
fn cpu_lists_are_understood_and_bounded() {
    assert_eq!(Cpus::parse("0-3,8\n").map(|cpus| cpus.count()), Some(5));
    assert_eq!(Cpus::parse("0-18446744073709551615").map(|cpus| cpus.count()), Some(1_024));
    assert_eq!(Cpus::parse("7-3").map(|cpus| cpus.count()), None);
    assert_eq!((Cpus::parse(""), Cpus::parse("all"), Cpus::parse("9999")), (None, None, None));
    let some = Cpus::parse("1,64").expect("a list");
    assert_eq!([0, 1, 64, 9_999].map(|cpu| some.contains(cpu)), [false, true, true, false]);
}

#[test]
fn memory_events_and_pressure_of_the_group_are_counted_once_whoever_tells() {
    let group = || ControlGroup {
        memory_bytes: Some(900),
        memory_limit_bytes: Some(1_000),
        memory_limit_hits: Some(3),
        oom_kills: Some(1),
        cpu_some_ns: Some(5),
        memory_some_ns: Some(6),
        memory_full_ns: Some(4),
        io_some_ns: Some(7),
        ..ControlGroup::default()
    };
    let mut rig = Rig::new();
    rig.tick([[0; 2]; 2], &[flush(group()), flush(group())]);
    let tick = rig.tick([[0; 2]; 2], &[flush(group()), flush(group())]);
    let event = |name| rig.value(&tick, &host::CGROUP_MEMORY_EVENTS, &[Attr::fixed("perfwatch.cgroup.event", name)]);
    assert_eq!((event("max"), event("oom_kill")), (Some(Number::Int(6)), Some(Number::Int(2))));
    let waited = |resource, kind| rig.value(&tick, &host::PRESSURE_TIME, &pressure(resource, kind));
    assert_eq!(waited("cpu", "some"), Some(Number::Int(10)));
    assert_eq!((waited("memory", "some"), waited("memory", "full")), (Some(Number::Int(12)), Some(Number::Int(8))));
    assert_eq!((waited("io", "some"), waited("io", "full")), (Some(Number::Int(14)), None), "not offered is no zero");
    assert_eq!(rig.value(&tick, &host::CGROUP_MEMORY_USAGE, &[]), Some(Number::Int(900)));
    assert_eq!(rig.value(&tick, &host::CGROUP_MEMORY_LIMIT, &[]), Some(Number::Int(1_000)));
}

#[test]
fn what_the_processes_tell_is_not_listed_as_unseen() {
    let mut rig = Rig::new();
    let unlimited = flush(ControlGroup { periods: Some(0), ..ControlGroup::default() });
    let tick = rig.tick([[0; 2]; 2], &[unlimited]);
    assert_eq!(why(&tick, &server::CPU_TIME), None);
    assert_eq!(why(&tick, &server::CPU_QUOTA), Some(NO_QUOTA), "there is none, which is something else");
    assert_eq!(why(&tick, &server::CPU_OTHERS), Some(OTHERS_UNKNOWN), "its group did not say what it used");
    assert_eq!(why(&tick, &server::HOTTEST_THREAD), Some(NOT_VISIBLE));
    assert_eq!(rig.value(&tick, &server::CPU_STEAL, &[]), Some(Number::Int(0)), "the machine tells that");
}

#[test]
fn neighbours_are_what_was_busy_on_its_cpus_and_not_in_its_group() {
    let mut rig = Rig::new();
    let first = rig.tick([[0; 2]; 2], &[used(0)]);
    assert_eq!(rig.others_ms(&first), Some(0));
    // CPU 1 is not one of its CPUs.
    let tick = rig.tick([[1_000 * MS, 50 * MS], [700 * MS, 0]], &[used(600)]);
    assert_eq!(rig.others_ms(&tick), Some(400));
    assert_eq!(rig.value(&tick, &server::CPU_STEAL, &[]), Some(Number::Int(50 * MS)));
}

#[test]
fn a_late_flush_and_a_skew_of_the_clocks_make_up_no_neighbour() {
    let mut rig = Rig::new();
    rig.tick([[0; 2]; 2], &[used(0)]);
    let late = rig.tick([[1_000 * MS, 0], [0; 2]], &[]);
    assert_eq!(rig.others_ms(&late), None, "nobody spoke at all");
    rig.tick([[0; 2]; 2], &[used(0)]);
    let late = rig.tick([[1_000 * MS, 0], [0; 2]], &[Flush { cpus_allowed: "0".into(), ..Flush::default() }]);
    assert_eq!(rig.others_ms(&late), None, "the group has not spoken");
    let both = rig.tick([[1_000 * MS, 0], [0; 2]], &[used(2_000)]);
    assert_eq!(rig.others_ms(&both), Some(0));
    // Alone, in bursts that its own word puts a quarter of a second later than the machine's.
    let mut others = 0;
    for second in 0..100 {
        let (busy, own) = if second % 2 == 0 { (1_000, 750) } else { (0, 250) };
        let tick = rig.tick([[busy * MS, 0], [0; 2]], &[used(own)]);
        others = rig.others_ms(&tick).expect("known");
    }
    assert!(others <= 250, "{others}");
}

#[test]
fn a_server_that_came_back_is_not_held_against_the_time_of_its_absence() {
    let mut rig = Rig::new();
    rig.tick([[0; 2]; 2], &[used(0)]);
    rig.tick([[900 * MS, 0], [0; 2]], &[]);
    rig.tick([[900 * MS, 0], [0; 2]], &[used(10)]);
    let tick = rig.tick([[500 * MS, 0], [0; 2]], &[used(400)]);
    assert_eq!(rig.others_ms(&tick), Some(100));
}

#[test]
fn what_holds_at_an_instant_holds_through_a_late_flush_and_no_longer() {
    let mut rig = Rig::new();
    let capacity = |rig: &Rig, tick: &Tick| rig.value(tick, &server::CPU_CAPACITY, &[]);
    rig.tick([[0; 2]; 2], &[used(0)]);
    let silent = || vec![Told::default()];
    for late in 1..=BELIEVED {
        let mut tick = Tick::default();
        rig.inside.report(&silent(), &mut tick, &mut rig.table);
        assert_eq!(capacity(&rig, &tick), Some(Number::Float(1.0)), "{late}");
    }
    let mut tick = Tick::default();
    rig.inside.report(&silent(), &mut tick, &mut rig.table);
    assert_eq!(capacity(&rig, &tick), None);
}
