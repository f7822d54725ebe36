//! How long to wait after a failure: twice as long after each one in a row for an object, always the same for a watch.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row, by namespace and name.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: Mutex<HashMap<(String, String), u32>>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Waits that begin with the one and end with the other.
    pub fn between(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: Mutex::default() }
    }

    /// Notes a failure; returns how long to wait.
    pub fn failed(&self, name: &(String, String)) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(name.clone()).or_default();
        let wait = self.first.saturating_mul(1 << (*count).min(10)).min(self.longest);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, exists: impl Fn(&(String, String)) -> bool) {
        self.lock().retain(|name, _| exists(name));
    }

    /// Notes a success.
    pub fn succeeded(&self, name: &(String, String)) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All watches of a controller wait together when one of them fails. So the wait is short: after an outage of the API server, or
/// while one watch is refused, the others must not be held up.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchBackoff;

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(FIRST)
    }
}

impl kube::runtime::utils::Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let (backoff, name) = (Backoff::default(), ("llm".to_owned(), "ai".to_owned()));
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(&name).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        backoff.succeeded(&name);
        assert_eq!(backoff.failed(&name), FIRST);
        backoff.retain(|_| false);
        assert_eq!(backoff.failed(&name), FIRST);
        let short = Backoff::between(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..5).map(|_| short.failed(&name).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
    }
}
