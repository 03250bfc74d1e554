//! Histograms on the wire: ascending (bucket, count) pairs, the buckets as distances.

use perfwatch_model::histogram::layout::BUCKETS;

use crate::limits::MAX_NAME;
use crate::message::Histogram;

/// What is wrong with a sparse histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SparseError {
    /// The two lists differ in length.
    #[error("a histogram lists {buckets} buckets but {counts} counts")]
    Uneven {
        /// Length of `index_deltas`.
        buckets: usize,
        /// Length of `counts`.
        counts: usize,
    },
    /// A bucket repeats, or lies beyond the layout.
    #[error("a histogram's buckets do not ascend within the layout")]
    BadIndex,
    /// A listed bucket is empty, or the counts overflow together.
    #[error("a histogram lists an empty bucket or more values than fit in 64 bits")]
    BadCount,
    /// The name is empty or too long.
    #[error("a histogram's name or unit is empty or longer than {MAX_NAME} bytes")]
    BadName,
}

/// Appends `pairs` (ascending by bucket, counts not 0) to a histogram's lists.
pub fn pack(histogram: &mut Histogram, pairs: impl IntoIterator<Item = (u32, u64)>) {
    let mut last = 0;
    for (index, count) in pairs {
        debug_assert!(count > 0, "a sparse histogram holds no empty bucket");
        histogram.index_deltas.push(index - last);
        histogram.counts.push(count);
        last = index;
    }
}

/// The (bucket, count) pairs of a histogram that [`check`] has passed, ascending.
pub fn pairs(histogram: &Histogram) -> impl Iterator<Item = (u32, u64)> + '_ {
    let mut index = 0u32;
    histogram.index_deltas.iter().zip(&histogram.counts).map(move |(delta, count)| {
        index = index.saturating_add(*delta);
        (index, *count)
    })
}

/// Checks everything that a merge relies on.
///
/// # Errors
/// The first rule broken.
pub fn check(histogram: &Histogram) -> Result<(), SparseError> {
    let (buckets, counts) = (histogram.index_deltas.len(), histogram.counts.len());
    if buckets != counts {
        return Err(SparseError::Uneven { buckets, counts });
    }
    if histogram.name.is_empty() || histogram.name.len() > MAX_NAME || histogram.unit.len() > MAX_NAME {
        return Err(SparseError::BadName);
    }
    let (mut index, mut total) = (0u64, 0u64);
    for (position, (delta, count)) in histogram.index_deltas.iter().zip(&histogram.counts).enumerate() {
        index += u64::from(*delta);
        if index >= BUCKETS as u64 || (position > 0 && *delta == 0) {
            return Err(SparseError::BadIndex);
        }
        total = total.checked_add(*count).filter(|_| *count > 0).ok_or(SparseError::BadCount)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Histogram {
        Histogram { name: "x".into(), unit: "ns".into(), ..Histogram::default() }
    }

    #[test]
    fn pairs_come_back_as_packed() {
        let mut histogram = named();
        let wanted = vec![(0, 3), (1, 1), (700, 9), (BUCKETS as u32 - 1, u64::from(u32::MAX))];
        pack(&mut histogram, wanted.clone());
        assert_eq!(check(&histogram), Ok(()));
        assert_eq!(pairs(&histogram).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let broken = |deltas: &[u32], counts: &[u64]| {
            check(&Histogram { index_deltas: deltas.to_vec(), counts: counts.to_vec(), ..named() })
        };
        assert_eq!(broken(&[1], &[]), Err(SparseError::Uneven { buckets: 1, counts: 0 }));
        assert_eq!(broken(&[4, 0], &[1, 1]), Err(SparseError::BadIndex));
        assert_eq!(broken(&[BUCKETS as u32], &[1]), Err(SparseError::BadIndex));
        assert_eq!(broken(&[1, u32::MAX], &[1, 1]), Err(SparseError::BadIndex));
        assert_eq!(broken(&[1], &[0]), Err(SparseError::BadCount));
        assert_eq!(broken(&[1, 1], &[u64::MAX, 1]), Err(SparseError::BadCount));
        assert_eq!(check(&Histogram::default()), Err(SparseError::BadName));
    }
}
