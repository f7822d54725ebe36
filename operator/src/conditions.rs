//! Conditions as a pure function of what was reported before and what is true now: the time of the last transition stays unless
//! the status changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Most characters of a message; the API server allows 32 KiB, and people read less.
const MAX_MESSAGE: usize = 1024;

/// One condition as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Type of the condition.
    pub kind: &'static str,
    /// Whether it is so.
    pub so: bool,
    /// CamelCase reason.
    pub reason: String,
    /// One sentence for people. Holds no key material.
    pub message: String,
}

impl Finding {
    /// A condition.
    pub fn new(kind: &'static str, so: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, so, reason: reason.into(), message: message.into() }
    }
}

/// The conditions to report, in the order of the findings.
pub fn conditions(previous: &[Condition], findings: &[Finding], generation: i64, now: Timestamp) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = if finding.so { "True" } else { "False" };
            let before = previous.iter().find(|c| c.type_ == finding.kind && c.status == status);
            Condition {
                type_: finding.kind.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.clone(),
                message: shorten(&finding.message),
                observed_generation: Some(generation),
                // The API stores whole seconds; writing more would look like a change each time.
                last_transition_time: before
                    .map_or_else(|| Time(whole_seconds(now)), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The condition of a type, as last reported.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn shorten(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE - 1) {
        Some((end, _)) if message.chars().count() > MAX_MESSAGE => format!("{}…", &message[..end]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_stays_while_the_status_does() {
        let first = conditions(&[], &[Finding::new("Ready", false, "A", "one")], 1, at(100));
        let second = conditions(&first, &[Finding::new("Ready", false, "B", "two")], 2, at(200));
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("B", Some(2)));
        let third = conditions(&second, &[Finding::new("Ready", true, "C", "")], 2, at(300));
        assert_eq!(third[0].last_transition_time.0, at(300));
    }

    #[test]
    fn the_same_findings_are_no_change() {
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let first = conditions(&[], &[Finding::new("Ready", true, "A", "")], 1, now);
        assert_eq!(conditions(&first, &[Finding::new("Ready", true, "A", "")], 1, at(1)), first);
        assert_eq!(first[0].last_transition_time.0.subsec_nanosecond(), 0);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "ä".repeat(3000);
        let made = conditions(&[], &[Finding::new("Ready", true, "A", message)], 1, at(1));
        assert_eq!(made[0].message.chars().count(), MAX_MESSAGE);
        assert!(made[0].message.ends_with('…'));
    }
}
