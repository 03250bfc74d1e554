//! Between the journal's words and export's.

use perfwatch_export::{Base, Stream, StreamId, Total};
use perfwatch_model::{Instrument, MetricDef, SeriesId, SeriesTable, Unit, metrics};
use perfwatch_store::{Accumulator, Amount, Distribution, Totals};

/// The journal's totals as export sees them.
pub(crate) struct Seen<'a>(pub(crate) &'a Totals);

impl perfwatch_export::Totals for Seen<'_> {
    fn number(&self, series: SeriesId, table: &SeriesTable) -> Option<StreamId> {
        self.0.find(series, table)
    }

    fn total(&self, number: StreamId) -> Option<Total<'_>> {
        match self.0.get(number)?.amount() {
            Amount::None => None,
            Amount::Counter(total) => Some(Total::Int(*total)),
            Amount::Measured(total) => Some(Total::Float(*total)),
            Amount::Histogram(all) => Some(Total::Hdr(&all.hdr)),
        }
    }

    fn metric(&self, number: StreamId) -> Option<&'static MetricDef> {
        let entry = self.0.get(number)?;
        let name = entry.key().metric.as_str();
        metrics::find(name).or_else(|| {
            let instrument = match entry.amount() {
                Amount::None => return None,
                Amount::Counter(_) | Amount::Measured(_) => Instrument::Counter,
                Amount::Histogram(_) => Instrument::Histogram,
            };
            Some(servers_own(name, entry.unit(), instrument))
        })
    }
}

/// A metric that a server had defined for a former agent. There are as many as that agent allowed, once per process.
fn servers_own(name: &str, unit: &str, instrument: Instrument) -> &'static MetricDef {
    let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let unit = match unit {
        "1" => Unit::Ratio,
        "s" => Unit::Seconds,
        "By" => Unit::Bytes,
        "Hz" => Unit::Hertz,
        "W" => Unit::Watts,
        "J" => Unit::Joules,
        "Cel" => Unit::Celsius,
        other => Unit::Count(keep(other)),
    };
    let (name, brief) = (keep(name), keep(&format!("`{name}`, as the server sent it.")));
    let metric = match instrument {
        Instrument::Gauge => MetricDef::gauge(name, unit, brief),
        Instrument::Counter => MetricDef::counter(name, unit, brief),
        Instrument::Histogram => MetricDef::histogram(name, unit, brief),
    };
    Box::leak(Box::new(metric.full()))
}

/// A stream as it is kept.
pub(super) fn accumulator(stream: Stream) -> Accumulator {
    let base = match stream.base {
        Base::Nothing => Amount::None,
        Base::Int(total) => Amount::Counter(total),
        Base::Float(total) => Amount::Measured(total),
        Base::Hdr(hdr) => Amount::Histogram(Distribution { hdr, ..Distribution::default() }),
    };
    Accumulator {
        start_wall_ns: stream.start_ns,
        exported_wall_ns: stream.exported_ns,
        base,
        bounded: stream.bounded,
        attributes: stream.attributes,
    }
}

/// A stream as it was kept.
pub(super) fn stream(kept: Accumulator) -> Stream {
    let base = match kept.base {
        Amount::None => Base::Nothing,
        Amount::Counter(total) => Base::Int(total),
        Amount::Measured(total) => Base::Float(total),
        Amount::Histogram(all) => Base::Hdr(all.hdr),
    };
    Stream {
        start_ns: kept.start_wall_ns,
        exported_ns: kept.exported_wall_ns,
        base,
        bounded: kept.bounded,
        attributes: kept.attributes,
    }
}
