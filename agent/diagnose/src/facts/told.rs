//! What a server tells of its requests besides how many there are and how long they take.

use perfwatch_model::{Quality, Reason, SeriesId, ServerTick, SparseHdr};

use super::Fact;
use super::handles::ToldHandles;
use super::reader::Source;
use super::server::histogram;

/// Tokens, look-ups and errors of a server in one tick.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldFacts {
    /// What was counted. Unknown when the server reported nothing.
    pub counts: Fact<ToldCounts>,
    /// From the arrival of requests to their first token, in nanoseconds.
    pub first_token: SparseHdr,
    /// Between two steps of streams that brought tokens, in nanoseconds.
    pub inter_token: SparseHdr,
}

/// Counts of one tick.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ToldCounts {
    /// Tokens read and generated; `None` when the server never told of any.
    pub tokens: Option<[u64; 2]>,
    /// Look-ups in caches that hit and that missed; `None` when the server never told of any.
    pub lookups: Option<[u64; 2]>,
    /// Requests that failed, by kind of error; only kinds of which there were some.
    pub errors: Vec<(String, u64)>,
}

impl ToldFacts {
    /// `reported` is what the server told of this tick. Totals may gain more than that in a tick: what an absence left. It
    /// would look like a burst.
    pub(super) fn read(source: &Source<'_>, handles: &ToldHandles, reported: Option<&ServerTick>) -> Self {
        let started = handles.started.and_then(|series| source.total(series).value().copied());
        let counts = match reported {
            None => Fact::missing("the server reported nothing in this tick"),
            Some(tick) if started.is_some_and(|gained| gained != tick.started) => {
                Fact::missing("totals of another time came with those of this tick")
            }
            Some(_) => match ToldCounts::read(source, handles) {
                Ok(counts) => Fact::known(counts, Quality::Sdk),
                Err(reason) => Fact::unknown(reason),
            },
        };
        Self {
            counts,
            first_token: histogram(source, handles.first_token),
            inter_token: histogram(source, handles.inter_token),
        }
    }
}

impl ToldCounts {
    fn read(source: &Source<'_>, handles: &ToldHandles) -> Result<Self, Reason> {
        let gained = |series: SeriesId| source.total(series).known_or_reason().copied();
        let pair = |[one, other]: [Option<SeriesId>; 2]| match one.zip(other) {
            Some((one, other)) if source.has_begun(one) || source.has_begun(other) => {
                Ok(Some([gained(one)?, gained(other)?]))
            }
            _ => Ok(None),
        };
        let mut errors = Vec::new();
        for (kind, series) in handles.errors.iter().filter(|(_, series)| source.has_begun(*series)) {
            match gained(*series)? {
                0 => {}
                count => errors.push((kind.clone(), count)),
            }
        }
        Ok(Self { tokens: pair(handles.tokens)?, lookups: pair(handles.lookups)?, errors })
    }
}
