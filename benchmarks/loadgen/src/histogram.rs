//! Latencies, counted with a bounded relative error.

/// A power of two is divided into so many buckets, as a power of two: the error is below 1 / 128.
const PRECISION: u32 = 7;
const DIVISIONS: usize = 1 << PRECISION;

/// Counts values in buckets whose width grows with the value, as Gil Tene's `HdrHistogram` does.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Begin with no value.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { counts: vec![0; DIVISIONS * (65 - PRECISION as usize)], total: 0, max: 0 }
    }

    /// Count a value `count` times.
    #[inline]
    pub fn record(&mut self, value: u64, count: u64) {
        self.counts[bucket(value)] += count;
        self.total += count;
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The least value that `per_mille` of a thousand values do not exceed, or at most 1/128 more; `None` of nothing.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let rank = u64::try_from((u128::from(self.total) * u128::from(per_mille)).div_ceil(1000)).ok()?.max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(highest(index).min(self.max))
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation)]
fn bucket(value: u64) -> usize {
    if value < DIVISIONS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - PRECISION;
    (shift as usize + 1) * DIVISIONS + ((value >> shift) as usize & (DIVISIONS - 1))
}

/// The highest value that a bucket counts.
fn highest(index: usize) -> u64 {
    let (shift, division) = (index / DIVISIONS, (index % DIVISIONS) as u64);
    if shift == 0 {
        return division;
    }
    ((DIVISIONS as u64 | division) << (shift - 1)) | ((1 << (shift - 1)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Random;

    #[test]
    fn a_bucket_holds_its_value_and_is_narrow() {
        let mut values = vec![0, 1, 127, 128, 129, 255, 256, u64::MAX - 1, u64::MAX];
        let mut random = Random::new(7);
        values.extend((0..10_000).map(|i| random.next() >> (i % 64)));
        for value in values {
            let index = bucket(value);
            let highest = highest(index);
            assert!(highest >= value, "{value}");
            assert!(highest - value <= value / DIVISIONS as u64, "{value} is counted as {highest}");
            assert_eq!(bucket(highest), index, "{value}");
            assert!(highest == u64::MAX || bucket(highest + 1) == index + 1, "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        let mut random = Random::new(3);
        let mut values: Vec<u64> = (0..10_000).map(|_| random.next() % 1_000_000).collect();
        for &value in &values {
            histogram.record(value, 1);
        }
        values.sort_unstable();
        for (per_mille, rank) in [(1, 10), (500, 5_000), (990, 9_900), (999, 9_990), (1000, 10_000)] {
            let exact = values[rank - 1];
            let found = histogram.quantile(per_mille).expect("values were counted");
            assert!(found >= exact && found <= exact + exact / 128, "{per_mille}: {found} for {exact}");
        }
        assert_eq!(histogram.max(), values[9_999]);
        assert_eq!(histogram.total(), 10_000);
    }

    #[test]
    fn a_value_counts_as_often_as_it_is_said() {
        let mut histogram = Histogram::new();
        histogram.record(10, 98);
        histogram.record(50, 2);
        assert_eq!(histogram.quantile(980), Some(10));
        assert_eq!(histogram.quantile(981), Some(50));
    }

    #[test]
    fn there_is_no_quantile_of_nothing() {
        assert_eq!(Histogram::new().quantile(500), None);
    }
}
