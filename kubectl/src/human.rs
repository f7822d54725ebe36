//! Times and numbers as people read them.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// A duration in its two largest units: `3d4h`, `7m12s`, `2.5s`, `420ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, l: &str, small: u64, s: &str| match small {
        0 => format!("{large}{l}"),
        small => format!("{large}{l}{small}{s}"),
    };
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// How long it is from one time to another, none if it does not lie behind.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Option<Duration> {
    to.duration_since(from).try_into().ok()
}

/// A number with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(duration(Duration::from_millis(420)), "420ms");
        assert_eq!(duration(Duration::from_millis(2500)), "2.5s");
        assert_eq!([shown(59), shown(60), shown(432)], ["59s", "1m", "7m12s"]);
        assert_eq!([shown(3600), shown(90_000), shown(3 * 86400)], ["1h", "1d1h", "3d"]);
    }

    #[test]
    fn a_time_that_has_passed_is_no_time_to_wait() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        assert_eq!(between(early, late), Some(Duration::from_secs(60)));
        assert_eq!(between(late, early), None);
    }
}
