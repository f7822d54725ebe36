//! A histogram of durations that merges by addition: eight buckets for each doubling, so a quantile is right to within 6 %. It is
//! for people who look at p50 and p95; no verdict is built on it.

use std::time::Duration;

/// Buckets for each doubling.
const PER_OCTAVE: u64 = 8;
/// Everything below 2^6 microseconds is in the first bucket.
const LOWEST_EXPONENT: u64 = 6;
/// The last bucket ends at 2^32 microseconds, 71 minutes.
pub(crate) const BUCKETS: usize = 208;

/// A histogram of durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.add(bucket(micros), 1);
    }

    /// Adds to a bucket; beyond the last one it is the last one.
    pub(crate) fn add(&mut self, bucket: usize, count: u32) {
        let place = bucket.min(BUCKETS - 1);
        self.counts[place] = self.counts[place].saturating_add(count);
    }

    /// Adds what another pod saw.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Buckets that hold something.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.counts.iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// The duration below which this share (0 to 1) of them lies; none when empty.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total = self.count();
        let wanted = (share.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.filled() {
            seen += u64::from(count);
            if seen >= wanted {
                return Some(middle(place));
            }
        }
        None
    }
}

fn bucket(micros: u64) -> usize {
    if micros < 1 << LOWEST_EXPONENT {
        return 0;
    }
    let exponent = u64::from(micros.ilog2());
    let part = (micros >> (exponent - 3)) & (PER_OCTAVE - 1);
    ((exponent - LOWEST_EXPONENT) * PER_OCTAVE + part) as usize
}

fn middle(bucket: usize) -> Duration {
    let (octave, part) = (bucket as u64 / PER_OCTAVE, bucket as u64 % PER_OCTAVE);
    let width = 1u64 << (octave + LOWEST_EXPONENT - 3);
    Duration::from_micros((PER_OCTAVE + part) * width + width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_six_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=10_000 {
            histogram.record(Duration::from_millis(millis));
        }
        for share in [0.1, 0.5, 0.95, 0.99] {
            let got = histogram.quantile(share).unwrap().as_secs_f64();
            assert!((got / (10.0 * share) - 1.0).abs() < 0.065, "{share}: {got}");
        }
    }

    #[test]
    fn any_duration_has_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantile(1.0).unwrap() > Duration::from_secs(3_600));
    }
}
