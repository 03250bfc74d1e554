//! What real processes get of a real machine, against what they say themselves.
//!
//! Processes under test are this binary again, run as [`actor`] and told what to do through their standard input.
#![allow(clippy::disallowed_methods, reason = "tests start processes, and sample at the real time")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use perfwatch_model::metrics::server;
use perfwatch_model::{Entity, EntityId, EntityKind, MetricDef, Number, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{Probe, ProbeContext, host};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const ROLE: &str = "PERFWATCH_TEST_ACTOR";

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Uses this much CPU time in the calling thread.
fn burn(ms: u64) {
    let end = cpu_ns(ClockId::ThreadCPUTime) + ms * 1_000_000;
    while cpu_ns(ClockId::ThreadCPUTime) < end {
        std::hint::spin_loop();
    }
}

/// Pins every thread of a process to one CPU; the test harness has made more than one.
fn pin(pid: u32, cpu: u64) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("alive") {
        let tid: i32 = task.expect("readable").file_name().to_string_lossy().parse().expect("a tid");
        sched_setaffinity(rustix::process::Pid::from_raw(tid), &cpus).expect("own or own child's, and an allowed CPU");
    }
}

/// Not a test: what the processes under test run.
#[test]
fn actor() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut children = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.expect("text");
        let (order, number) = line.split_once(' ').expect("an order and a number");
        let number: u64 = number.parse().expect("a number");
        match order {
            "burn" => std::thread::spawn(move || burn(number)).join().expect("burnt"),
            "spin" => drop(std::thread::spawn(move || burn(number))),
            "pin" => pin(std::process::id(), number),
            "child" => {
                let mut child = Actor::start();
                child.order("burn", number);
                children.push(child);
            }
            _ => panic!("unknown order {line}"),
        }
        println!("done {}", cpu_ns(ClockId::ProcessCPUTime));
    }
    // Nobody listens to the test harness's report any more.
    std::process::exit(0);
}

/// A process under test. Ends when it is dropped.
struct Actor {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "actor", "--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, orders, answers }
    }

    /// Gives an order, waits until it is carried out, and returns the process's CPU time in nanoseconds.
    fn order(&mut self, order: &str, number: u64) -> u64 {
        writeln!(self.orders.as_mut().expect("alive"), "{order} {number}").expect("alive");
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).expect("text"), 0, "the process ended");
            // The test harness writes lines of its own, and no newline before the answer.
            if let Some((_, answer)) = line.split_once("done ") {
                return answer.trim().parse().expect("a number");
            }
        }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn end(&mut self) {
        self.orders = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end();
    }
}

/// The probe on the running machine.
struct Watcher {
    table: SeriesTable,
    probe: Box<dyn Probe>,
    served: EntityId,
    tick: Tick,
    started: Instant,
}

impl Watcher {
    fn of(pids: &[u32]) -> Self {
        let mut table = SeriesTable::new();
        let here = table.entity(Entity::new(EntityKind::Host, "here"));
        let served = table.entity(Entity::new(EntityKind::Server, "served"));
        let kind = host::PROBES.iter().find(|kind| kind.name() == "served").expect("listed");
        let mut probe = kind.open(&ProbeContext::live(here), &mut table).expect("there is procfs");
        probe.watch(&[(served, pids.to_vec())]);
        let mut watcher = Self { table, probe, served, tick: Tick::default(), started: Instant::now() };
        watcher.sample();
        watcher
    }

    fn sample(&mut self) {
        self.tick.clear();
        let now = Stamp { mono_ns: self.started.elapsed().as_nanos() as u64 + 1, wall_ns: 0 };
        self.probe.sample(now, &mut Sample::new(&mut self.table, &mut self.tick));
        self.tick.seal();
    }

    fn value(&self, metric: &'static MetricDef) -> Option<Number> {
        self.tick.value(self.table.find(metric, self.served, &[])?)
    }

    fn int(&self, metric: &'static MetricDef) -> u64 {
        self.value(metric).and_then(Number::as_int).unwrap_or_else(|| panic!("{}: {:?}", metric.name, self.tick.absent))
    }

    /// Samples until the condition holds. Only a machine that does not run the processes at all exceeds the limit.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let limit = Instant::now() + Duration::from_mins(1);
        while !holds(self) {
            assert!(Instant::now() < limit, "{what} never happened");
            std::thread::sleep(Duration::from_millis(20));
            self.sample();
        }
    }

    fn reason(&self, metric: &MetricDef) -> Option<&str> {
        self.tick.absent.iter().find(|absence| absence.metric == metric.name).map(|absence| &*absence.reason.text)
    }
}

fn first_cpu() -> u64 {
    let cpus = sched_getaffinity(None).expect("own affinity");
    (0..CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu)).expect("at least one") as u64
}

#[test]
fn cpu_time_is_what_the_process_burnt_although_its_threads_have_exited() {
    let mut actor = Actor::start();
    let before = actor.order("burn", 1);
    let mut watcher = Watcher::of(&[actor.pid()]);
    for _ in 0..3 {
        let burnt = actor.order("burn", 100) - before;
        watcher.sample();
        let seen = watcher.int(&server::CPU_TIME);
        // Between the actor's own look at the clock and ours it only writes and waits.
        assert!(seen.abs_diff(burnt) < 30_000_000, "saw {seen} ns of {burnt} ns");
    }
    assert!(watcher.int(&server::CPU_TIME) >= 300_000_000);
}

#[test]
fn what_child_processes_burn_is_the_servers_and_stays_when_they_end() {
    let mut actor = Actor::start();
    actor.order("burn", 1);
    let mut watcher = Watcher::of(&[actor.pid()]);
    actor.order("child", 200);
    watcher.sample();
    let seen = watcher.int(&server::CPU_TIME);
    assert!((200_000_000..1_000_000_000).contains(&seen), "saw {seen} ns of some 200 ms");
    // Loaders that a server gives work to are in the tree already.
    actor.order("child", 100);
    watcher.sample();
    assert!(watcher.int(&server::CPU_TIME) >= 300_000_000);
}

#[test]
fn a_hog_on_the_servers_core_is_seen_in_others_and_in_run_delay() {
    let (mut victim, mut hog) = (Actor::start(), Actor::start());
    let cpu = first_cpu();
    victim.order("pin", cpu);
    hog.order("pin", cpu);
    let mut watcher = Watcher::of(&[victim.pid()]);
    assert_eq!(watcher.int(&server::CPU_CAPACITY), 1);
    hog.order("spin", 120_000);
    victim.order("spin", 120_000);
    watcher.until("waiting for the hog", |watcher| {
        watcher.int(&server::CPU_OTHERS) >= 200_000_000 && watcher.int(&server::CPU_RUN_DELAY) >= 200_000_000
    });
    let run_delay = watcher.int(&server::CPU_RUN_DELAY);
    victim.end();
    watcher.sample();
    assert!(watcher.reason(&server::CPU_TIME).is_some_and(|text| text.contains("ended")), "{:?}", watcher.tick.absent);
    assert!(run_delay > 0);
}

#[test]
fn one_busy_thread_is_the_hottest() {
    let mut actor = Actor::start();
    actor.order("burn", 1);
    let mut watcher = Watcher::of(&[actor.pid()]);
    actor.order("spin", 120_000);
    watcher.until("a thread that is busy", |watcher| {
        matches!(watcher.value(&server::HOTTEST_THREAD), Some(Number::Float(share)) if (0.1..=1.0).contains(&share))
    });
}

#[test]
fn capacity_follows_the_affinity() {
    let mut actor = Actor::start();
    actor.order("burn", 1);
    let mut watcher = Watcher::of(&[actor.pid()]);
    let all = sched_getaffinity(None).expect("own affinity").count();
    assert_eq!(watcher.int(&server::CPU_CAPACITY), u64::from(all));
    pin(actor.pid(), first_cpu());
    watcher.sample();
    assert_eq!(watcher.int(&server::CPU_CAPACITY), 1);
}

#[test]
fn an_unknown_process_is_not_visible_rather_than_idle() {
    let mut watcher = Watcher::of(&[1 << 23]);
    watcher.sample();
    assert!(watcher.tick.values.is_empty());
    assert!(watcher.reason(&server::CPU_TIME).is_some_and(|text| text.contains("not visible")));
}

#[test]
fn a_quota_of_a_version_1_group_throttles_and_is_followed_into_the_group() {
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/cpu/perfwatch-test-{}", std::process::id()));
    if !group.parent().is_some_and(|parent| parent.join("cpu.cfs_quota_us").exists())
        || std::fs::create_dir(&group).is_err()
    {
        println!("skipped: no version 1 cpu controller that this user may write");
        return;
    }
    let mut actor = Actor::start();
    actor.order("burn", 1);
    let mut watcher = Watcher::of(&[actor.pid()]);
    assert!(watcher.value(&server::CPU_QUOTA).is_none_or(|quota| quota != Number::Float(0.05)));
    let set = |file: &str, value: &str| std::fs::write(group.join(file), value).expect("own group");
    set("cpu.cfs_period_us", "100000");
    set("cpu.cfs_quota_us", "5000");
    set("cgroup.procs", &actor.pid().to_string());
    actor.order("spin", 120_000);
    // However busy the machine is: a thread that wants a whole CPU gets a twentieth of one, and runs out.
    watcher.until("throttling", |watcher| {
        watcher.int(&server::CPU_THROTTLED) >= 200_000_000 && watcher.int(&server::CPU_THROTTLED_PERIODS) >= 5
    });
    let quota = watcher.value(&server::CPU_QUOTA);
    let (throttled, periods) = (watcher.int(&server::CPU_THROTTLED_PERIODS), watcher.int(&server::CPU_PERIODS));
    actor.end();
    std::fs::remove_dir(&group).expect("empty again");
    assert_eq!(quota, Some(Number::Float(0.05)));
    assert!(throttled <= periods, "{throttled} of {periods} periods");
}
