//! Which provider keys a gateway uses, and with which values. Pure. A bad key never stops a good one, and a value whose Secret is
//! gone goes on serving.

use std::collections::BTreeMap;

use bifrost_config::{Key, KeyValues, Problem, Provider, Reason, SecretValue, check_key};
use kube::ResourceExt;

use super::draft;
use super::observe::ObservedKey;
use crate::events::Reason as EventReason;

/// What became of the selected keys. Not `Debug`: it holds values.
#[derive(Clone, Default)]
pub struct KeyDecision {
    /// Keys that the configuration names, by name.
    pub keys: Vec<Key>,
    /// Their values.
    pub values: KeyValues,
    /// Keys whose Secret gives no value.
    pub unresolved: Vec<Unresolved>,
    /// One sentence for each key that cannot be used for another reason.
    pub unusable: Vec<String>,
}

/// A reference that leads nowhere, or to something that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The event.
    pub reason: EventReason,
    /// One sentence, with what was named and what is wrong with it.
    pub message: String,
}

/// What the selected keys are decided from.
#[derive(Clone, Copy)]
pub struct Selected<'a> {
    /// Keys that can be read.
    pub keys: &'a [ObservedKey],
    /// Why others cannot, by name.
    pub unreadable: &'a BTreeMap<String, String>,
    /// Keys that are published.
    pub published: &'a [Key],
    /// Values that are published.
    pub carried: &'a KeyValues,
}

/// Takes every enabled key that fits a provider and has a value.
pub fn decide(selected: Selected<'_>, providers: &[Provider]) -> KeyDecision {
    let mut decision = KeyDecision::default();
    for observed in selected.keys.iter().filter(|observed| observed.key.spec.enabled) {
        match check_key(&draft::key(&observed.key), providers) {
            Ok(key) => decision.take(key, observed, selected.carried),
            // A key of another gateway's provider is none of ours.
            Err(Problem { reason: Reason::NotFound, .. }) => {}
            Err(problem) => decision.unusable.push(format!("ProviderKey {}: {problem}", observed.key.name_any())),
        }
    }
    decision.keep_unreadable(selected, providers);
    decision
}

/// While changes are held back: the published keys without those that were disabled, deleted, or may not be sent there any more.
/// Their values are followed.
pub fn hold(selected: Selected<'_>, providers: &[Provider]) -> KeyDecision {
    let mut decision = KeyDecision::default();
    for key in selected.published {
        let observed = selected.keys.iter().find(|observed| observed.key.name_any() == key.name);
        let Some(observed) = observed.filter(|observed| observed.key.spec.enabled) else { continue };
        if check_key(&draft::key(&observed.key), providers).is_ok() {
            decision.take(key.clone(), observed, selected.carried);
        }
    }
    decision.keep_unreadable(selected, providers);
    decision
}

/// The providers that no key serves, by name: the bifrost arm answers their requests with 503.
pub fn without_key<'a>(providers: &'a [Provider], keys: &[Key]) -> Vec<&'a str> {
    let is_served = |provider: &&Provider| keys.iter().any(|key| key.provider == provider.name);
    providers.iter().filter(|provider| !is_served(provider)).map(|provider| provider.name.as_str()).collect()
}

/// The same as a sentence; none where there is no such provider.
pub fn keyless(providers: &[&str]) -> Option<String> {
    match providers {
        [] => None,
        [one] => Some(format!("provider {one} has no key in use")),
        several => Some(format!("providers {} have no key in use", several.join(", "))),
    }
}

impl KeyDecision {
    /// A key that this operator cannot read, one of a newer version for instance, was neither deleted nor disabled for all it knows:
    /// it stays as it is published. Unless its provider is gone, or has moved to a host that it may not be sent to.
    fn keep_unreadable(&mut self, selected: Selected<'_>, providers: &[Provider]) {
        for (name, why) in selected.unreadable {
            let kept = selected.published.iter().find(|key| key.name == *name).filter(|key| {
                let provider = providers.iter().find(|provider| provider.name == key.provider);
                provider.is_some_and(|provider| key.hosts.contains(&provider.base_url.host))
            });
            let value = selected.carried.get(name);
            let then = match (kept, value) {
                (Some(key), Some(value)) => {
                    self.values.insert(name.clone(), value.clone());
                    self.keys.push(key.clone());
                    "it stays as it was published"
                }
                _ => "the key is not used",
            };
            self.unusable
                .push(format!("ProviderKey {name} cannot be read by this version of the operator ({why}); {then}"));
        }
        self.keys.sort_by(|one, other| one.name.cmp(&other.name));
    }

    fn take(&mut self, key: Key, observed: &ObservedKey, carried: &KeyValues) {
        let carried: Option<&SecretValue> = carried.get(&key.name);
        let value = match &observed.value {
            Some(Ok(value)) => Some(value),
            Some(Err(why)) => {
                let then = if carried.is_some() { "the last value goes on serving" } else { "the key is not used" };
                let message = format!("ProviderKey {}: {why}; {then}", key.name);
                self.unresolved.push(Unresolved { reason: why.event(), message });
                carried
            }
            None => carried,
        };
        if let Some(value) = value {
            self.values.insert(key.name.clone(), value.clone());
            self.keys.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{config, observed_key};
    use crate::secrets::NoValue;

    fn carried(pairs: &[(&str, &str)]) -> KeyValues {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), SecretValue::new(value))).collect()
    }

    fn names(decision: &KeyDecision) -> Vec<&str> {
        decision.keys.iter().map(|key| key.name.as_str()).collect()
    }

    fn selected<'a>(keys: &'a [ObservedKey], published: &'a [Key], carried: &'a KeyValues) -> Selected<'a> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        Selected { keys, unreadable: &NONE, published, carried }
    }

    #[test]
    fn a_bad_key_stops_no_good_one() {
        let mut bad = observed_key("bad", "openai", Ok("sk-2"));
        bad.key.spec.hosts = vec!["elsewhere.example".into()];
        let other = observed_key("other", "not-here", Ok("sk-3"));
        let off = {
            let mut key = observed_key("off", "openai", Ok("sk-4"));
            key.key.spec.enabled = false;
            key
        };
        let good = observed_key("good", "openai", Ok("sk-1"));
        let decision = decide(selected(&[bad, other, off, good], &[], &KeyValues::new()), &config().providers);
        assert_eq!(names(&decision), ["good"]);
        assert_eq!(decision.values["good"].expose(), "sk-1");
        assert!(decision.unresolved.is_empty());
        assert_eq!(decision.unusable.len(), 1, "{:?}", decision.unusable);
        assert!(decision.unusable[0].contains("ProviderKey bad: spec.hosts"), "{:?}", decision.unusable);
    }

    #[test]
    fn a_missing_secret_keeps_the_last_value_and_a_new_key_waits_for_one() {
        let missing = |name| observed_key(name, "openai", Err(NoValue::Secret("openai".into())));
        let (keys, carried) = ([missing("new"), missing("old")], carried(&[("old", "sk-old")]));
        let decision = decide(selected(&keys, &[], &carried), &config().providers);
        assert_eq!(names(&decision), ["old"]);
        assert_eq!(decision.values["old"].expose(), "sk-old");
        assert!(decision.unresolved.iter().all(|one| one.reason == EventReason::SecretMissing));
        assert_eq!(
            decision.unresolved.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(),
            [
                "ProviderKey new: Secret openai does not exist; the key is not used",
                "ProviderKey old: Secret openai does not exist; the last value goes on serving",
            ]
        );
    }

    #[test]
    fn while_held_keys_only_go_and_rotate() {
        let keys = [observed_key("main", "openai", Ok("sk-rotated")), observed_key("new", "openai", Ok("sk-new"))];
        let (config, carried) = (config(), carried(&[("main", "sk-1"), ("gone", "sk-2")]));
        let held = hold(selected(&keys, &config.keys, &carried), &config.providers);
        assert_eq!(names(&held), ["main"]);
        assert_eq!(held.values["main"].expose(), "sk-rotated");
        assert!(hold(selected(&[], &config.keys, &carried), &config.providers).keys.is_empty());
    }

    #[test]
    fn a_key_that_cannot_be_read_stays_as_it_was_published() {
        let (config, carried) = (config(), carried(&[("main", "sk-1")]));
        let unreadable = BTreeMap::from([("main".into(), "unknown variant".into()), ("new".into(), "x".into())]);
        let selected = Selected { keys: &[], unreadable: &unreadable, published: &config.keys, carried: &carried };
        for decision in [decide(selected, &config.providers), hold(selected, &config.providers)] {
            assert_eq!(names(&decision), ["main"]);
            assert_eq!(decision.values["main"].expose(), "sk-1");
            assert!(decision.unusable[0].ends_with("it stays as it was published"), "{:?}", decision.unusable);
            assert!(decision.unusable[1].ends_with("the key is not used"), "{:?}", decision.unusable);
        }
        let mut moved = config.providers.clone();
        moved[0].base_url = bifrost_config::BaseUrl::parse("https://elsewhere.example").unwrap();
        assert!(decide(selected, &moved).keys.is_empty(), "it may not be sent there");
    }
}
