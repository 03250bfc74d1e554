//! Memory and pressure of a server's control group over a window, as the server itself tells them.

use perfwatch_model::Quality;

use super::{Mean, Record};
use crate::Fact;
use crate::facts::ServerFacts;

/// What a server's control group got besides CPU time. Known only of a server that the agent does not see.
#[derive(Clone, Debug)]
pub struct GroupWindow {
    /// Memory charged to it at the end, in bytes.
    pub memory: Fact<u64>,
    /// Memory that it may use, in bytes; unknown when there is no limit.
    pub memory_limit: Fact<u64>,
    /// How often it reached the limit, as far as that is known.
    pub limit_hits: Option<u64>,
    /// Processes that were killed for want of memory, as far as that is known.
    pub oom_kills: Option<u64>,
    /// Share of time in which some task waited for a CPU: throttled, or behind others, its own included.
    pub cpu_pressure: Fact<f64>,
    /// Share of time in which some task waited for memory.
    pub memory_pressure: Fact<f64>,
    /// Share of time in which some task waited for input or output.
    pub io_pressure: Fact<f64>,
}

impl GroupWindow {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Self {
        let newest = |read: fn(&ServerFacts) -> &Fact<u64>| match records.last() {
            Some(record) => read(&record.facts).clone(),
            None => Fact::missing("there is no tick"),
        };
        // An event is one, however little of the window is known.
        let events = |read: fn(&ServerFacts) -> &Fact<u64>| {
            records.iter().filter_map(|record| read(&record.facts).get()).reduce(u64::saturating_add)
        };
        let pressure = |read: fn(&ServerFacts) -> &Fact<f64>| {
            Mean::over(records, span_ns, 0.0, |facts| {
                let share = *read(facts).known_or_reason()?;
                Ok((share * facts.dt_ns as f64, facts.dt_ns as f64, Quality::Counter))
            })
        };
        Self {
            memory: newest(|facts| &facts.group.memory),
            memory_limit: newest(|facts| &facts.group.memory_limit),
            limit_hits: events(|facts| &facts.group.limit_hits),
            oom_kills: events(|facts| &facts.group.oom_kills),
            cpu_pressure: pressure(|facts| &facts.group.pressure.cpu),
            memory_pressure: pressure(|facts| &facts.group.pressure.memory),
            io_pressure: pressure(|facts| &facts.group.pressure.io),
        }
    }

    /// True when the server tells anything of its group.
    pub fn is_told(&self) -> bool {
        let pressure = [&self.cpu_pressure, &self.memory_pressure, &self.io_pressure];
        self.memory.get().is_some() || self.oom_kills.is_some() || pressure.into_iter().any(|fact| fact.get().is_some())
    }
}
