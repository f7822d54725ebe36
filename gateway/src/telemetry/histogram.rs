//! Histograms with fixed buckets: an array of counts, no allocation, sums in whole units so that merging loses nothing.

use std::time::Duration;

use prometheus::proto;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;

/// Bounds of request and upstream durations, in nanoseconds.
pub(super) static DURATION: [u64; 21] = [
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    2_500 * MS,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    45 * SECOND,
    60 * SECOND,
    90 * SECOND,
    120 * SECOND,
    180 * SECOND,
    300 * SECOND,
    600 * SECOND,
    900 * SECOND,
];

/// Bounds of the time to the first output of a stream, in nanoseconds.
pub(super) static FIRST_OUTPUT: [u64; 16] = [
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    2_500 * MS,
    5 * SECOND,
    10 * SECOND,
    20 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
];

/// Bounds of the time between the chunks of a stream, in nanoseconds.
static GAP: [u64; 12] =
    [MS, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, SECOND, 2_500 * MS, 5 * SECOND, 10 * SECOND];

/// Bounds of the gateway's own time before a provider is called, in nanoseconds.
pub(super) static OVERHEAD: [u64; 12] =
    [25 * US, 50 * US, 100 * US, 250 * US, 500 * US, MS, 2_500 * US, 5 * MS, 10 * MS, 50 * MS, 250 * MS, SECOND];

/// Bounds of body sizes, in bytes.
pub(super) static BYTES: [u64; 8] = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Nanoseconds in a second, the divisor of the two time histograms.
pub(super) const NANOS: f64 = 1e9;

/// Counts of values by bucket.
#[derive(Debug, Clone)]
pub(super) struct Histogram<const N: usize> {
    /// Values at or under each bound and over the one before; larger ones are in `count` only.
    buckets: [u64; N],
    pub(super) count: u64,
    sum: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: [0; N], count: 0, sum: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts one value.
    pub(super) fn observe(&mut self, bounds: &[u64; N], value: u64) {
        if let Some(index) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[index] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Counts one duration against bounds in nanoseconds.
    pub(super) fn observe_time(&mut self, bounds: &[u64; N], value: Duration) {
        self.observe(bounds, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds another one's counts.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The form that is rendered; bounds and sum are divided by `unit`.
    pub(super) fn to_proto(&self, bounds: &[u64; N], unit: f64) -> proto::Histogram {
        let mut cumulative = 0;
        let buckets = bounds.iter().zip(self.buckets).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / unit);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.count);
        histogram.set_sample_sum(self.sum as f64 / unit);
        histogram
    }
}

/// Times between the chunks of one stream, and of many.
#[derive(Debug, Clone, Default)]
pub struct Gaps(Histogram<12>);

impl Gaps {
    /// Counts one.
    pub fn observe(&mut self, gap: Duration) {
        self.0.observe_time(&GAP, gap);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    pub(super) const fn bounds_and_counts(&self) -> (&'static [u64; 12], &Histogram<12>) {
        (&GAP, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_lies_in_its_bucket_and_a_huge_one_only_in_the_count() {
        let mut sizes = Histogram::default();
        sizes.observe(&BYTES, 100);
        sizes.observe(&BYTES, 101);
        sizes.observe(&BYTES, 2_000_000_000);
        let shown = sizes.to_proto(&BYTES, 1.0);
        let cumulative: Vec<_> = shown.get_bucket().iter().map(|b| b.cumulative_count()).collect();
        assert_eq!(cumulative, [1, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(shown.get_sample_count(), 3);
    }

    #[test]
    fn merging_adds_every_number() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.observe_time(&DURATION, Duration::from_millis(5));
        other.observe_time(&DURATION, Duration::from_millis(2_000));
        one.merge(&other);
        let shown = one.to_proto(&DURATION, NANOS);
        assert_eq!(shown.get_sample_sum(), 2.005);
        assert_eq!(shown.get_bucket()[0].cumulative_count(), 1);
        assert_eq!(shown.get_bucket()[8].cumulative_count(), 2);
        assert_eq!(shown.get_bucket()[8].upper_bound(), 2.5);
    }
}
