//! What is reported of a key. Pure.

use bifrost_crds::conditions::{READY, RESOLVED};
use bifrost_crds::{ProviderKey, ProviderKeyStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::validate::{Answer, Verdict};
use crate::conditions::{Finding, conditions, find};
use crate::events::{Event, Reason};

/// The whole status.
pub fn status(key: &ProviderKey, verdict: &Verdict, now: Timestamp) -> ProviderKeyStatus {
    let generation = key.metadata.generation.unwrap_or(0);
    let before = key.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let finding = |kind, answer: &Answer| Finding::new(kind, answer.so, answer.reason, &answer.message);
    let findings = [finding(READY, &verdict.ready), finding(RESOLVED, &verdict.resolved)];
    ProviderKeyStatus {
        observed_generation: Some(generation),
        conditions: conditions(before, &findings, generation, now),
    }
}

/// Events for conditions that changed.
pub fn transitions(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let mut events = Vec::new();
    let resolved = find(after, RESOLVED);
    if let Some(now) = resolved.filter(|now| now.status == "False") {
        let same = find(before, RESOLVED).is_some_and(|old| old.status == now.status && old.message == now.message);
        if !same {
            let missing = ["SecretMissing", "MemberMissing"].contains(&now.reason.as_str());
            let reason = if missing { Reason::SecretMissing } else { Reason::NotResolved };
            events.push(Event::new(reason, &now.message));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::observed_key;

    fn verdict(resolved: bool) -> Verdict {
        let answer = |so, reason, message: &str| Answer { so, reason, message: message.into() };
        Verdict {
            resolved: answer(resolved, if resolved { "Resolved" } else { "SecretMissing" }, "Secret openai"),
            ready: answer(true, "InUse", "used by ai"),
        }
    }

    #[test]
    fn a_secret_that_goes_missing_is_an_event_once() {
        let mut key = observed_key("main", "openai", Ok("sk")).key;
        let now = Timestamp::UNIX_EPOCH;
        let good = status(&key, &verdict(true), now);
        assert!(transitions(&[], &good.conditions).is_empty());
        key.status = Some(good.clone());
        let bad = status(&key, &verdict(false), now);
        assert_eq!(transitions(&good.conditions, &bad.conditions)[0].reason, Reason::SecretMissing);
        key.status = Some(bad.clone());
        let again = status(&key, &verdict(false), now);
        assert_eq!(again, bad);
        assert!(transitions(&bad.conditions, &again.conditions).is_empty());
    }

    #[test]
    fn a_value_that_cannot_be_used_is_no_missing_secret() {
        let key = observed_key("main", "openai", Ok("sk")).key;
        let mut unusable = verdict(false);
        unusable.resolved.reason = "ValueUnusable";
        let status = status(&key, &unusable, Timestamp::UNIX_EPOCH);
        assert_eq!(transitions(&[], &status.conditions)[0].reason, Reason::NotResolved);
    }
}
