//! How long to wait after a failure: twice as long after each one in a row for an object, always the same for a watch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row, by namespace and name.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<(String, String), u32>>);

impl Backoff {
    /// Notes a failure; returns how long to wait.
    pub fn failed(&self, name: &(String, String)) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name.clone()).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(10)).min(LONGEST);
        *count += 1;
        wait
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, exists: impl Fn(&(String, String)) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| exists(name));
    }

    /// Notes a success.
    pub fn succeeded(&self, name: &(String, String)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
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
    }
}
