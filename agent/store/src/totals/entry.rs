//! One series of the journal.

use perfwatch_model::{Bounded, Instrument, MetricDef, Number, Series, SeriesTable, SparseHdr};

/// What names a series for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// Name of its metric.
    pub metric: String,
    /// What it is about, as `kind:id`.
    pub entity: String,
    /// Its own attributes as a JSON object, in their order.
    pub attributes: String,
}

impl SeriesKey {
    pub(super) fn of(series: &Series, table: &SeriesTable) -> Option<Self> {
        let attributes: Vec<_> = series
            .attrs
            .iter()
            .map(|attr| {
                let quoted = |text: &str| serde_json::Value::from(text).to_string();
                format!("{}:{}", quoted(attr.key), quoted(&attr.value.to_string()))
            })
            .collect();
        Some(Self {
            metric: series.metric.name.to_owned(),
            entity: table.entity_of(series.entity)?.to_string(),
            attributes: format!("{{{}}}", attributes.join(",")),
        })
    }
}

/// All values of a histogram series together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Recorded by us: exact.
    pub hdr: SparseHdr,
    /// How many values came in histograms with bounds of the server's own.
    pub bounded_count: u64,
    /// Their sum, in the metric's unit.
    pub bounded_sum: f64,
}

impl Distribution {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.hdr.count().saturating_add(self.bounded_count)
    }
}

/// What a series amounts to.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// A gauge: nothing to add up.
    None,
    /// Increase of a counter, in the metric's inside unit (nanoseconds for seconds).
    Counter(u128),
    /// Values of a histogram.
    Histogram(Distribution),
}

/// A series and what it amounts to since the journal began.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesTotal {
    /// Which series.
    pub key: SeriesKey,
    /// UCUM unit of the metric.
    pub unit: String,
    /// What one inside integer is worth in that unit.
    pub scale: f64,
    /// Its total.
    pub amount: Amount,
}

/// A series with its state between ticks.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    key: SeriesKey,
    unit: String,
    scale: f64,
    amount: Amount,
    /// Raw value of the counter in the last tick that had one; `None` before the first.
    last: Option<u64>,
    /// Last tick that had a value.
    seen: u64,
    /// Differs from what is on disk.
    changed: bool,
    /// Is in the dictionary on disk.
    listed: bool,
}

impl Entry {
    pub(super) fn new(key: SeriesKey, metric: &MetricDef) -> Self {
        let amount = match metric.instrument {
            Instrument::Gauge => Amount::None,
            Instrument::Counter => Amount::Counter(0),
            Instrument::Histogram => Amount::Histogram(Distribution::default()),
        };
        let (unit, scale) = (metric.unit.ucum().to_owned(), metric.unit.scale());
        Self { key, unit, scale, amount, last: None, seen: 0, changed: true, listed: false }
    }

    /// A series as it was written; `seen` is the newest tick on disk.
    pub(crate) fn restored(total: SeriesTotal, last: Option<u64>, seen: u64) -> Self {
        let SeriesTotal { key, unit, scale, amount } = total;
        Self { key, unit, scale, amount, last, seen, changed: false, listed: true }
    }

    /// The counter, should it be one, has begun at 0 since it was last read.
    pub(super) fn begin_at_zero(&mut self) {
        if matches!(self.amount, Amount::Counter(_)) {
            self.last = Some(0);
        }
    }

    pub(super) fn count_up(&mut self, seq: u64, number: Number) {
        self.seen = seq;
        let (Amount::Counter(total), Number::Int(now)) = (&mut self.amount, number) else { return };
        let before = self.last.replace(now);
        // The journal begins with a counter's first reading; one that went back began anew at 0.
        let gained = before.map_or(0, |before| if now >= before { now - before } else { now });
        *total += u128::from(gained);
        self.changed |= before != Some(now);
    }

    pub(super) fn add(&mut self, seq: u64, gained: &SparseHdr) {
        self.seen = seq;
        if let Amount::Histogram(distribution) = &mut self.amount {
            distribution.hdr.add(gained);
            self.changed = true;
        }
    }

    pub(super) fn add_bounded(&mut self, seq: u64, gained: &Bounded) {
        self.seen = seq;
        if let Amount::Histogram(distribution) = &mut self.amount {
            let gains = gained.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
            distribution.bounded_count = distribution.bounded_count.saturating_add(gains);
            distribution.bounded_sum += gained.sum;
            self.changed = true;
        }
    }

    pub(super) fn total(&self) -> Option<SeriesTotal> {
        let Self { key, unit, scale, amount, .. } = self;
        (*amount != Amount::None).then(|| SeriesTotal {
            key: key.clone(),
            unit: unit.clone(),
            scale: *scale,
            amount: amount.clone(),
        })
    }

    pub(crate) fn key(&self) -> &SeriesKey {
        &self.key
    }

    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    pub(crate) fn amount(&self) -> &Amount {
        &self.amount
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.listed
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    pub(super) fn written(&mut self) {
        (self.changed, self.listed) = (false, true);
    }

    pub(super) fn unwritten(&mut self) {
        (self.changed, self.listed) = (true, false);
    }
}
