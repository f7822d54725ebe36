//! Signs of life of the runtimes that serve requests. `/livez` fails when one is silent for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Silence after which a runtime counts as stuck.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// On a cache line of its own: each runtime writes only its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Beat(AtomicU64);

/// When each runtime was last seen, in seconds since the start.
#[derive(Debug)]
pub struct Heartbeats {
    start: Instant,
    beats: Box<[Beat]>,
}

impl Heartbeats {
    /// For this many runtimes; each counts as seen now.
    pub fn new(runtimes: usize) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), beats: (0..runtimes).map(|_| Beat::default()).collect() })
    }

    /// Runtime `index` lives.
    pub fn beat(&self, index: usize) {
        self.beat_at(index, self.start.elapsed());
    }

    /// The first runtime that was silent for longer than [`SILENCE_LIMIT`], and for how long.
    pub fn silent(&self) -> Option<(usize, Duration)> {
        self.silent_at(self.start.elapsed())
    }

    fn beat_at(&self, index: usize, now: Duration) {
        if let Some(beat) = self.beats.get(index) {
            beat.0.store(now.as_secs(), Ordering::Relaxed);
        }
    }

    fn silent_at(&self, now: Duration) -> Option<(usize, Duration)> {
        let silences =
            self.beats.iter().map(|beat| now.saturating_sub(Duration::from_secs(beat.0.load(Ordering::Relaxed))));
        silences.enumerate().find(|(_, silence)| *silence > SILENCE_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_stuck_once_it_was_silent_for_more_than_ten_seconds() {
        let beats = Heartbeats::new(2);
        let at = Duration::from_secs;
        assert_eq!(beats.silent_at(at(10)), None);
        beats.beat_at(0, at(9));
        assert_eq!(beats.silent_at(at(11)), Some((1, at(11))));
        beats.beat_at(1, at(11));
        assert_eq!(beats.silent_at(at(19)), None);
        assert_eq!(beats.silent_at(at(20)), Some((0, at(11))));
    }
}
