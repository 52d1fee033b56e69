//! A histogram with fixed buckets, updated by its one owner.

use std::time::Duration;

/// Counts of values in buckets that double in width, as Prometheus shows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending; values above the last one are counted in `counts[bounds.len()]`.
    bounds: Box<[f64]>,
    /// Values of each bucket, not cumulated.
    counts: Box<[u64]>,
    sum: f64,
}

impl Histogram {
    /// Buckets with the upper bounds `first`, `2 * first`, `4 * first` and so on, `buckets` of them.
    ///
    /// # Panics
    ///
    /// When `first` is not above zero or there are no buckets.
    pub fn doubling(first: f64, buckets: u32) -> Histogram {
        assert!(first > 0.0 && buckets > 0);
        let bounds: Box<[f64]> =
            std::iter::successors(Some(first), |bound| Some(bound * 2.0)).take(buckets as usize).collect();
        let counts = vec![0; bounds.len() + 1].into_boxed_slice();
        Histogram { bounds, counts, sum: 0.0 }
    }

    /// Adds a value. A value on a bound belongs to the bucket that ends there.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Adds a time, in seconds.
    pub fn observe_duration(&mut self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Adds what another one of the same shape has counted.
    ///
    /// # Panics
    ///
    /// When the shapes differ.
    pub fn merge(&mut self, other: &Histogram) {
        assert_eq!(self.bounds, other.bounds);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// Each upper bound with the count of all values up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.bounds.iter().zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((*bound, *total))
        })
    }

    /// Count of all values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_buckets() {
        let mut histogram = Histogram::doubling(0.001, 3);
        for value in [0.0, 0.001, 0.0011, 0.004, 0.0041, 9.0] {
            histogram.observe(value);
        }
        histogram.observe_duration(Duration::from_millis(3));
        let buckets: Vec<(f64, u64)> = histogram.cumulative().collect();
        assert_eq!(buckets, [(0.001, 2), (0.002, 3), (0.004, 5)]);
        assert_eq!(histogram.count(), 7);
        assert!((histogram.sum() - 9.0132).abs() < 1e-9);
    }

    #[test]
    fn merged_is_as_if_counted_in_one() {
        let (mut one, mut left, mut right) =
            (Histogram::doubling(1.0, 4), Histogram::doubling(1.0, 4), Histogram::doubling(1.0, 4));
        for value in [0.5, 3.0, 100.0] {
            one.observe(value);
            left.observe(value);
        }
        for value in [8.0, 2.0] {
            one.observe(value);
            right.observe(value);
        }
        left.merge(&right);
        assert_eq!(left, one);
    }
}
