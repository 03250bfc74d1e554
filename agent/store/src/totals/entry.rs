//! One series of the journal.

use crate::minute::difference;
use perfwatch_model::{AttrValue, Bounded, Instrument, Number, Series, SeriesTable, SparseHdr};

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
    /// Increase of a counter that was not always an integer, in the metric's unit. As exact as sums of its steps are.
    Measured(f64),
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
pub struct Entry {
    key: SeriesKey,
    unit: String,
    scale: f64,
    /// JSON list of its attributes whose values are integers.
    integers: Box<str>,
    amount: Amount,
    /// Raw value of the counter in the last tick that had one; `None` before the first.
    last: Option<Number>,
    /// The newest tick of this run with a value, and the value.
    raw: Option<(u64, Number)>,
    /// What the counter gained then.
    gained: Option<Number>,
    /// Last tick that had a value.
    seen: u64,
    /// Differs from what is on disk.
    changed: bool,
    /// Is in the dictionary on disk.
    listed: bool,
    /// Its weight when it was written last; 0 before.
    written_weight: usize,
}

fn integers_of(series: &Series) -> String {
    let integers = series.attrs.iter().filter(|attr| matches!(attr.value, AttrValue::Int(_)));
    let quoted: Vec<_> = integers.map(|attr| serde_json::Value::from(attr.key).to_string()).collect();
    format!("[{}]", quoted.join(","))
}

/// Bytes of a series with empty names: the entry, its second key in the index, and what the allocator takes beside.
const PLAIN_BYTES: usize = 384;
/// Bytes of a bucket.
const BUCKET_BYTES: usize = size_of::<(u16, u64)>();

impl Entry {
    pub(super) fn new(key: SeriesKey, series: &Series) -> Self {
        let metric = series.metric;
        let amount = match metric.instrument {
            Instrument::Gauge => Amount::None,
            Instrument::Counter => Amount::Counter(0),
            Instrument::Histogram => Amount::Histogram(Distribution::default()),
        };
        let (unit, scale) = (metric.unit.ucum().to_owned(), metric.unit.scale());
        let (last, seen, integers) = (None, 0, integers_of(series).into());
        Self {
            key,
            unit,
            scale,
            integers,
            amount,
            last,
            raw: None,
            gained: None,
            seen,
            changed: true,
            listed: false,
            written_weight: 0,
        }
    }

    /// A series as it was written; `seen` is the newest tick on disk.
    pub(crate) fn restored(total: SeriesTotal, integers: &str, last: Option<Number>, seen: u64) -> Self {
        let SeriesTotal { key, unit, scale, amount } = total;
        let (integers, changed, listed) = (integers.into(), false, true);
        let mut entry = Self {
            key,
            unit,
            scale,
            integers,
            amount,
            last,
            raw: None,
            gained: None,
            seen,
            changed,
            listed,
            written_weight: 0,
        };
        entry.written_weight = entry.weight();
        entry
    }

    /// The counter, should it be one, has begun at 0 since it was last read.
    pub(super) fn begin_at_zero(&mut self) {
        if matches!(self.amount, Amount::Counter(_) | Amount::Measured(_)) {
            self.last = Some(Number::Int(0));
        }
    }

    /// Adds the value of tick `seq`; false when its gain is not the difference to the value of the tick before.
    pub(super) fn count_up(&mut self, seq: u64, number: Number) -> bool {
        self.seen = seq;
        let before = self.raw.replace((seq, number)).filter(|(before, _)| before + 1 == seq).map(|(_, before)| before);
        self.gained = None;
        if matches!(self.amount, Amount::None | Amount::Histogram(_)) {
            return true;
        }
        let gained = self.gain(number);
        self.gained = Some(gained);
        before.and_then(|before| difference(before, number)) == Some(gained)
    }

    /// What the counter gained in the newest tick: an integer in the inside unit, else a number in its unit.
    pub(super) fn gained(&self) -> Option<Number> {
        self.gained
    }

    fn gain(&mut self, number: Number) -> Number {
        // The journal begins with a counter's first reading; one that went back began anew at 0.
        let gained = match (&mut self.amount, self.last, number) {
            (Amount::None | Amount::Histogram(_), ..) => return Number::Int(0),
            (Amount::Counter(total), None | Some(Number::Int(_)), Number::Int(now)) => {
                let before = self.last.and_then(Number::as_int);
                let gained = before.map_or(0, |before| now.checked_sub(before).unwrap_or(now));
                *total = total.saturating_add(u128::from(gained));
                Number::Int(gained)
            }
            (Amount::Counter(_) | Amount::Measured(_), ..) => {
                let outside = |number| match number {
                    Number::Int(value) => value as f64 * self.scale,
                    Number::Float(value) => value,
                };
                let (now, before) = (outside(number), self.last.map(outside));
                if !now.is_finite() {
                    return Number::Float(0.0);
                }
                let gained = before.map_or(0.0, |before| if now >= before { now - before } else { now });
                let total = match self.amount {
                    Amount::Measured(total) => total,
                    Amount::Counter(total) => total as f64 * self.scale,
                    Amount::None | Amount::Histogram(_) => 0.0,
                };
                self.amount = Amount::Measured(total + gained);
                Number::Float(gained)
            }
        };
        self.changed |= self.last != Some(number);
        self.last = Some(number);
        gained
    }

    /// Bytes of memory, about. On disk it is less: there a bucket takes 3 bytes as a rule and 13 at most.
    pub(super) fn weight(&self) -> usize {
        let SeriesKey { metric, entity, attributes } = &self.key;
        let buckets = match &self.amount {
            Amount::Histogram(all) => all.hdr.buckets().len(),
            Amount::None | Amount::Counter(_) | Amount::Measured(_) => 0,
        };
        PLAIN_BYTES + 2 * (metric.len() + entity.len() + attributes.len()) + BUCKET_BYTES * buckets
    }

    /// By how much it outgrew what is on disk.
    pub(super) fn growth(&self) -> usize {
        self.weight().saturating_sub(self.written_weight)
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

    /// Which series it is.
    pub fn key(&self) -> &SeriesKey {
        &self.key
    }

    pub(crate) fn integers(&self) -> &str {
        &self.integers
    }

    /// UCUM unit of its metric.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// What it amounts to since the journal began.
    pub fn amount(&self) -> &Amount {
        &self.amount
    }

    pub(crate) fn last(&self) -> Option<Number> {
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
        if self.changed {
            self.written_weight = self.weight();
        }
        (self.changed, self.listed) = (false, true);
    }

    pub(super) fn unwritten(&mut self) {
        (self.changed, self.listed, self.written_weight) = (true, false, 0);
    }
}
