//! What a demo reports: the client's view, the server's counters, and whether the fault did what it was meant to do.

use std::fmt;
use std::time::Duration;

use crate::calibrate::Capacity;
use crate::load::LoadReport;
use crate::server::Stats;
use crate::usage::Usage;

/// A tail this many times the healthy one is a fault that users feel...
const P99_RATIO: f64 = 1.5;
/// ...if it is also longer by this, about one evaluation: less is noise.
const P99_MARGIN: Duration = Duration::from_millis(5);
/// Fewer answers than this share of the load is a fault that users feel.
const THROUGHPUT_RATIO: f64 = 0.95;

/// The healthy server, for comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// Requests offered per second.
    pub offered_per_s: f64,
    /// Requests answered per second.
    pub achieved_per_s: f64,
    /// 99th percentile of the latency.
    pub p99: Duration,
}

impl From<&LoadReport> for Reference {
    fn from(load: &LoadReport) -> Self {
        let (offered_per_s, achieved_per_s) = (load.offered_per_s, load.achieved_per_s());
        Self { offered_per_s, achieved_per_s, p99: load.latency.quantile(0.99) }
    }
}

/// Whether a fault was felt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bite {
    /// The healthy server.
    pub reference: Reference,
    /// True if throughput or the tail of the latency suffered.
    pub felt: bool,
}

impl Bite {
    /// Compares a run with the healthy reference.
    pub(crate) fn judge(reference: Reference, load: &LoadReport) -> Self {
        // Against what was really sent: a Poisson process of finite length offers a little more or less than its mean.
        let sent_per_s = load.sent as f64 / load.duration.as_secs_f64().max(1e-9);
        let starved = load.achieved_per_s() < THROUGHPUT_RATIO * sent_per_s;
        let p99 = load.latency.quantile(0.99);
        let slow = p99 > reference.p99.mul_f64(P99_RATIO).max(reference.p99 + P99_MARGIN);
        Self { reference, felt: starved || slow }
    }
}

/// What happened in a demo.
#[derive(Debug, Clone)]
pub struct DemoReport {
    /// The injected fault.
    pub fault: Option<&'static str>,
    /// What the healthy server can do.
    pub capacity: Capacity,
    /// The load as a share of it.
    pub load_share: f64,
    /// What the load generator saw.
    pub load: LoadReport,
    /// The server's core under load.
    pub usage: Usage,
    /// The server's own counts under load.
    pub stats: Stats,
    /// True if others took so much CPU, now or while calibrating, that nothing should be concluded.
    pub contaminated: bool,
    /// Whether the fault was felt; `None` without a fault.
    pub bite: Option<Bite>,
}

impl DemoReport {
    /// True if a fault was injected and nobody would have noticed: exit code 3.
    pub fn did_not_bite(&self) -> bool {
        self.bite.is_some_and(|bite| !bite.felt)
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, latency) = (&self.load, &self.load.latency);
        writeln!(
            f,
            "load      {:.0} requests/s offered = {:.2} of the capacity of {:.0}; {:.0} answered",
            load.offered_per_s,
            self.load_share,
            self.capacity.per_second,
            load.achieved_per_s(),
        )?;
        writeln!(
            f,
            "latency   p50 {}   p99 {}   max {}   from when it was due",
            time(latency.quantile(0.50)),
            time(latency.quantile(0.99)),
            time(latency.max()),
        )?;
        writeln!(
            f,
            "requests  {} sent   {} unanswered   {} refused   {} failed",
            load.sent, load.unanswered, load.rejected, load.errors,
        )?;
        write!(
            f,
            "server    {:.0} % of its core   {:.1} requests per batch   {} waiting at the end",
            self.usage.used * 100.0,
            self.stats.mean_batch(),
            self.stats.pending,
        )?;
        if let Some(bite) = self.bite {
            let reference = bite.reference;
            write!(
                f,
                "\nhealthy   {:.0} of {:.0} requests/s answered, p99 {}: the fault {}",
                reference.achieved_per_s,
                reference.offered_per_s,
                time(reference.p99),
                if bite.felt { "bites" } else { "did not bite" },
            )?;
        }
        if self.contaminated {
            write!(
                f,
                "\nwarning   other processes took CPU time from the server: do not conclude anything from this run"
            )?;
        }
        Ok(())
    }
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Latency;

    fn run(answered: u64, p99: Duration) -> LoadReport {
        let mut latency = Latency::new();
        latency.record(p99);
        LoadReport {
            offered_per_s: 100.0,
            duration: Duration::from_secs(10),
            sent: 1_000,
            completed: answered,
            rejected: 0,
            errors: 0,
            unanswered: 1_000 - answered,
            latency,
        }
    }

    #[test]
    fn a_fault_bites_through_throughput_or_through_the_tail() {
        let ms = Duration::from_millis;
        let reference = Reference::from(&run(1_000, ms(20)));
        let felt = |answered, p99| Bite::judge(reference, &run(answered, p99)).felt;
        assert!(!felt(1_000, ms(20)));
        assert!(!felt(990, ms(29)), "within the noise");
        assert!(felt(1_000, ms(31)));
        assert!(felt(900, ms(20)));
        let quick = Reference { p99: ms(2), ..reference };
        assert!(!Bite::judge(quick, &run(1_000, ms(5))).felt, "three milliseconds are nothing, whatever the ratio");
    }

    #[test]
    fn the_report_says_what_matters() {
        let usage = Usage { used: 0.5, outside: 0.2 };
        let load = run(800, Duration::from_millis(200));
        let bite = Some(Bite::judge(Reference::from(&run(1_000, Duration::from_millis(20))), &load));
        let capacity = Capacity { per_second: 200.0, usage, clean: true };
        let stats = Stats::default();
        let fault = Some("overload");
        let mut report = DemoReport { fault, capacity, load_share: 0.5, load, usage, stats, contaminated: true, bite };
        let text = report.to_string();
        for part in ["100 requests/s offered = 0.50 of the capacity of 200; 80 answered", "the fault bites", "warning"]
        {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!report.did_not_bite());
        report.bite = None;
        assert!(!report.did_not_bite());
    }
}
