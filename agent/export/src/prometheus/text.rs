//! The text formats: Prometheus' 0.0.4 and `OpenMetrics` 1.0.

use std::fmt::{self, Write as _};

use perfwatch_model::{Instrument, Number, SparseHdr, Unit};

use super::buckets;
use super::families::{Family, Labelled, escape};
use super::values::{Exemplar, Values, within};
use super::{Source, Total};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// A number as both formats take it.
struct Value(f64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// Seconds since 1970 with what nanoseconds there are.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

struct Writer<'a> {
    out: String,
    dialect: Dialect,
    values: &'a Values,
    source: &'a Source<'a>,
    counts: Vec<u64>,
}

/// All families; empty when no series of them has a value.
pub(super) fn write(
    families: &[Family],
    values: &Values,
    source: &Source<'_>,
    resource: &str,
    dialect: Dialect,
) -> Vec<u8> {
    let mut writer = Writer { out: String::with_capacity(64 << 10), dialect, values, source, counts: Vec::new() };
    writer.target(resource);
    let described = writer.out.len();
    for family in families {
        writer.family(family);
    }
    if writer.out.len() == described {
        return Vec::new();
    }
    if dialect == Dialect::OpenMetrics {
        writer.out.push_str("# EOF\n");
    }
    writer.out.into_bytes()
}

impl Writer<'_> {
    fn open_metrics(&self) -> bool {
        self.dialect == Dialect::OpenMetrics
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // A text takes whatever is written to it.
        let _ = self.out.write_fmt(text);
    }

    /// Who tells this: what over OTLP becomes `target_info` too.
    fn target(&mut self, resource: &str) {
        if resource.is_empty() {
            return;
        }
        let (kind, name) = if self.open_metrics() { ("info", "target") } else { ("gauge", "target_info") };
        self.put(format_args!(
            "# HELP {name} The agent that measured.\n# TYPE {name} {kind}\ntarget_info{{{resource}}} 1\n"
        ));
    }

    fn family(&mut self, family: &Family) {
        let begin = self.out.len();
        self.head(family);
        let empty = self.out.len();
        for series in &family.series {
            match family.metric.instrument {
                Instrument::Gauge => {
                    if let Some(number) = self.values.gauge(series.id) {
                        self.sample(&family.name, "", &series.written, "");
                        self.number(number, family.metric.unit);
                        self.out.push('\n');
                    }
                }
                Instrument::Counter | Instrument::Histogram => {
                    if let Some(total) = self.source.totals.of(series.id) {
                        self.total(family, series, total);
                    }
                }
            }
        }
        if self.out.len() == empty {
            // Nobody has a value: a family without samples tells nothing.
            self.out.truncate(begin);
        }
    }

    fn head(&mut self, family: &Family) {
        let name = if self.open_metrics() { family.stem() } else { &family.name };
        let kind = match family.metric.instrument {
            Instrument::Gauge => "gauge",
            Instrument::Counter => "counter",
            Instrument::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} "));
        escape(family.metric.brief, self.dialect == Dialect::OpenMetrics, &mut self.out);
        self.put(format_args!("\n# TYPE {name} {kind}\n"));
        let unit = family.unit();
        if self.open_metrics() && !unit.is_empty() {
            self.put(format_args!("# UNIT {name} {unit}\n"));
        }
    }

    /// Everything of a sample's line before its value. `more` is one further label.
    fn sample(&mut self, name: &str, suffix: &str, labels: &str, more: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !(labels.is_empty() && more.is_empty()) {
            self.out.push('{');
            self.out.push_str(labels);
            if !labels.is_empty() && !more.is_empty() {
                self.out.push(',');
            }
            self.out.push_str(more);
            self.out.push('}');
        }
        self.out.push(' ');
    }

    fn number(&mut self, number: Number, unit: Unit) {
        match number {
            // An integer that no unit scales stays one.
            Number::Int(whole) if is_whole(unit) => self.put(format_args!("{whole}")),
            number => self.put(format_args!("{}", Value(unit.outside(number)))),
        }
    }

    fn total(&mut self, family: &Family, series: &Labelled, total: Total<'_>) {
        let unit = family.metric.unit;
        let created = match total {
            Total::Whole(whole) => {
                self.sample(&family.name, "", &series.written, "");
                if is_whole(unit) {
                    self.put(format_args!("{whole}\n"));
                } else {
                    self.put(format_args!("{}\n", Value(buckets::outside(whole, unit))));
                }
                self.source.created_wall_ns
            }
            Total::Measured(value) => {
                self.sample(&family.name, "", &series.written, "");
                self.put(format_args!("{}\n", Value(value)));
                self.source.created_wall_ns
            }
            Total::Hdr(hdr) => {
                self.recorded(family, series, hdr);
                self.source.created_wall_ns
            }
            Total::Bounded(bounded, since_wall_ns) => {
                let mut below = 0_u64;
                let counts = bounded.counts.iter().map(|count| {
                    below = below.saturating_add(*count);
                    below
                });
                self.counts = counts.collect();
                self.distribution(family, series, &bounded.bounds, below, bounded.sum);
                since_wall_ns
            }
        };
        if self.open_metrics() {
            self.sample(family.stem(), "_created", &series.written, "");
            self.put(format_args!("{}\n", Seconds(created)));
        }
    }

    fn recorded(&mut self, family: &Family, series: &Labelled, hdr: &SparseHdr) {
        let unit = family.metric.unit;
        let mut counts = std::mem::take(&mut self.counts);
        buckets::cumulative(hdr, unit, &mut counts);
        self.counts = counts;
        self.distribution(family, series, buckets::bounds(unit), hdr.count(), buckets::outside(hdr.sum(), unit));
    }

    /// Buckets with the cumulative `counts` of this writer, then sum and count.
    fn distribution(&mut self, family: &Family, series: &Labelled, bounds: &[f64], count: u64, sum: f64) {
        let exemplars = self.values.exemplars(family.metric, series.entity);
        let counts = std::mem::take(&mut self.counts);
        let mut over = f64::NEG_INFINITY;
        for (bound, below) in bounds.iter().zip(&counts) {
            self.bucket(family, series, (over, *bound), *below, exemplars);
            over = *bound;
        }
        self.bucket(family, series, (over, f64::INFINITY), count, exemplars);
        self.counts = counts;
        self.sample(&family.name, "_sum", &series.written, "");
        self.put(format_args!("{}\n", Value(sum)));
        self.sample(&family.name, "_count", &series.written, "");
        self.put(format_args!("{count}\n"));
    }

    fn bucket(&mut self, family: &Family, series: &Labelled, range: (f64, f64), count: u64, exemplars: &[Exemplar]) {
        let (over, bound) = range;
        self.out.push_str(&family.name);
        self.out.push_str("_bucket{");
        self.out.push_str(&series.written);
        if !series.written.is_empty() {
            self.out.push(',');
        }
        let pointed = self.open_metrics();
        self.put(format_args!("le=\"{}\"}} {count}", Bound { bound, pointed }));
        if self.open_metrics()
            && let Some(exemplar) = within(exemplars, over, bound)
        {
            let Exemplar { seconds, ended_wall_ns, trace_id } = exemplar;
            self.put(format_args!(" # {{trace_id=\"{trace_id}\"}} {} {}", Value(*seconds), Seconds(*ended_wall_ns)));
        }
        self.out.push('\n');
    }
}

/// A bound as all of Prometheus' clients write it, so that the same bucket is the same series whoever tells of it: with an
/// exponent below 0.0001 and from a million on, and in `OpenMetrics` pointed, as the float that it is.
struct Bound {
    bound: f64,
    pointed: bool,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bound, pointed } = *self;
        let size = bound.abs();
        if size.is_finite() && size > 0.0 && !(1e-4..1e6).contains(&size) {
            let text = format!("{bound:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            return write!(f, "{digits}e{sign}{exponent:0>2}");
        }
        if pointed && bound.fract() == 0.0 { write!(f, "{bound:.1}") } else { write!(f, "{}", Value(bound)) }
    }
}

/// Whether an inside integer is one outside too.
fn is_whole(unit: Unit) -> bool {
    unit.scale().to_bits() == 1.0_f64.to_bits()
}
