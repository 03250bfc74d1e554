//! The definition of a metric: everything that a probe, an exporter, a screen and a dashboard need to know about it.

use crate::Number;

/// How values of a metric combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// A value at an instant.
    Gauge,
    /// A cumulative, monotonic sum; ticks hold the running total.
    Counter,
    /// A distribution; ticks hold what was added in the tick.
    Histogram,
}

/// What a number counts. The text is UCUM, as OpenTelemetry wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction: 0 to 1.
    Ratio,
    /// Time. Integers inside perfwatch are nanoseconds, what leaves is seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Hertz.
    Hertz,
    /// Watts.
    Watts,
    /// Joules. Integers inside perfwatch are millijoules (NVML's unit), what leaves is joules.
    Joules,
    /// Degrees Celsius.
    Celsius,
    /// A count of the thing in braces, as `{request}`.
    Count(&'static str),
}

impl Unit {
    /// The unit as UCUM writes it.
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Ratio => "1",
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Hertz => "Hz",
            Self::Watts => "W",
            Self::Joules => "J",
            Self::Celsius => "Cel",
            Self::Count(what) => what,
        }
    }

    /// What one inside integer is worth outside: 1e-9 for nanoseconds, else 1.
    pub const fn scale(self) -> f64 {
        match self {
            Self::Seconds => 1e-9,
            Self::Joules => 1e-3,
            _ => 1.0,
        }
    }

    /// A number as it leaves: integers are scaled to the unit, floats are in the unit already.
    pub fn outside(self, number: Number) -> f64 {
        match number {
            Number::Int(value) => value as f64 * self.scale(),
            Number::Float(value) => value,
        }
    }
}

/// Whether a metric leaves by default or only when everything is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Always exported.
    Default,
    /// Exported at level of detail `full`.
    Full,
}

/// One metric. Name, unit and brief derive every label, table and dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// OpenTelemetry semantic-convention name where one exists, else `perfwatch.…`.
    pub name: &'static str,
    /// What its numbers count.
    pub unit: Unit,
    /// How its numbers combine.
    pub instrument: Instrument,
    /// One sentence, ending in a full stop.
    pub brief: &'static str,
    /// Whether it leaves by default.
    pub level: Level,
    /// The gauge that says the highest value of an export's interval, where its mean would hide what matters.
    pub peak: Option<&'static MetricDef>,
    /// A counter that begins at 0 with each agent, although what it counts does not: its total does not hold what happened
    /// while no agent ran.
    pub since_start: bool,
}

impl MetricDef {
    /// A gauge, exported by default.
    pub const fn gauge(name: &'static str, unit: Unit, brief: &'static str) -> Self {
        Self { name, unit, instrument: Instrument::Gauge, brief, level: Level::Default, peak: None, since_start: false }
    }

    /// A counter, exported by default.
    pub const fn counter(name: &'static str, unit: Unit, brief: &'static str) -> Self {
        Self {
            name,
            unit,
            instrument: Instrument::Counter,
            brief,
            level: Level::Default,
            peak: None,
            since_start: false,
        }
    }

    /// A histogram, exported by default.
    pub const fn histogram(name: &'static str, unit: Unit, brief: &'static str) -> Self {
        Self {
            name,
            unit,
            instrument: Instrument::Histogram,
            brief,
            level: Level::Default,
            peak: None,
            since_start: false,
        }
    }

    /// The same gauge, exported with its highest value as well.
    #[must_use]
    pub const fn with_peak(mut self, peak: &'static MetricDef) -> Self {
        self.peak = Some(peak);
        self
    }

    /// The same counter, of which each agent counts what it sees itself.
    #[must_use]
    pub const fn since_start(mut self) -> Self {
        self.since_start = true;
        self
    }

    /// The same metric, exported only at level of detail `full`.
    #[must_use]
    pub const fn full(mut self) -> Self {
        self.level = Level::Full;
        self
    }
}
