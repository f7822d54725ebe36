//! Which provider keys a gateway uses, and with which values. Pure. A bad key never stops a good one, and a value whose Secret is
//! gone goes on serving.

use bifrost_config::{Config, Key, KeyValues, Problem, Provider, Reason, SecretValue, check_key};
use kube::ResourceExt;

use super::draft;
use super::observe::ObservedKey;

/// What became of the selected keys. Not `Debug`: it holds values.
#[derive(Clone, Default)]
pub struct KeyDecision {
    /// Keys that the configuration names, by name.
    pub keys: Vec<Key>,
    /// Their values.
    pub values: KeyValues,
    /// One sentence for each key that is not as it should be.
    pub faults: Vec<String>,
}

/// Takes every enabled key that fits a provider and has a value.
pub fn decide(observed: &[ObservedKey], providers: &[Provider], carried: &KeyValues) -> KeyDecision {
    let mut decision = KeyDecision::default();
    for observed in observed.iter().filter(|observed| observed.key.spec.enabled) {
        match check_key(&draft::key(&observed.key), providers) {
            Ok(key) => decision.take(key, observed, carried),
            // A key of another gateway's provider is none of ours.
            Err(Problem { reason: Reason::NotFound, .. }) => {}
            Err(problem) => decision.faults.push(format!("ProviderKey {}: {problem}", observed.key.name_any())),
        }
    }
    decision
}

/// While changes are held back: the published keys without those that were disabled, deleted, or may not be sent there any more.
/// Their values are followed.
pub fn hold(published: &Config, observed: &[ObservedKey], carried: &KeyValues) -> KeyDecision {
    let mut decision = KeyDecision::default();
    for key in &published.keys {
        let observed = observed.iter().find(|observed| observed.key.name_any() == key.name);
        let Some(observed) = observed.filter(|observed| observed.key.spec.enabled) else { continue };
        if check_key(&draft::key(&observed.key), &published.providers).is_ok() {
            decision.take(key.clone(), observed, carried);
        }
    }
    decision
}

impl KeyDecision {
    fn take(&mut self, key: Key, observed: &ObservedKey, carried: &KeyValues) {
        let carried: Option<&SecretValue> = carried.get(&key.name);
        let value = match &observed.value {
            Some(Ok(value)) => Some(value),
            Some(Err(why)) => {
                let name = &key.name;
                self.faults.push(match carried {
                    Some(_) => format!("ProviderKey {name}: {why}; the last value goes on serving"),
                    None => format!("ProviderKey {name}: {why}; the key is not used"),
                });
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
        let decision = decide(&[bad, other, off, good], &config().providers, &KeyValues::new());
        assert_eq!(names(&decision), ["good"]);
        assert_eq!(decision.values["good"].expose(), "sk-1");
        assert_eq!(decision.faults.len(), 1, "{:?}", decision.faults);
        assert!(decision.faults[0].contains("ProviderKey bad: spec.hosts"), "{:?}", decision.faults);
    }

    #[test]
    fn a_missing_secret_keeps_the_last_value_and_a_new_key_waits_for_one() {
        let missing = |name| observed_key(name, "openai", Err(NoValue::Secret("openai".into())));
        let decision = decide(&[missing("new"), missing("old")], &config().providers, &carried(&[("old", "sk-old")]));
        assert_eq!(names(&decision), ["old"]);
        assert_eq!(decision.values["old"].expose(), "sk-old");
        assert_eq!(
            decision.faults,
            [
                "ProviderKey new: Secret openai does not exist; the key is not used",
                "ProviderKey old: Secret openai does not exist; the last value goes on serving",
            ]
        );
    }

    #[test]
    fn while_held_keys_only_go_and_rotate() {
        let keys = [observed_key("main", "openai", Ok("sk-rotated")), observed_key("new", "openai", Ok("sk-new"))];
        let held = hold(&config(), &keys, &carried(&[("main", "sk-1"), ("gone", "sk-2")]));
        assert_eq!(names(&held), ["main"]);
        assert_eq!(held.values["main"].expose(), "sk-rotated");
        assert!(hold(&config(), &[], &carried(&[("main", "sk-1")])).keys.is_empty());
    }
}
