//! The members of the gateway's Secret: which values, under which generations. Pure.
//!
//! A key's value comes in before the ConfigMap names the key, and goes out only after every running pod acts upon a ConfigMap that
//! does not name it any more.

use std::collections::BTreeMap;

use bifrost_config::published::{ADMIN_TOKEN, GENERATIONS, KEY_PREFIX, PublishedKeys};
use bifrost_config::{KeyValues, SecretValue};

/// Digits of an admin token: 32 random bytes.
const TOKEN_DIGITS: usize = 64;

/// The Secret as it shall be. Not `Debug`: it holds values.
pub struct SecretPlan {
    /// `data` of the Secret, not yet in base64.
    pub data: BTreeMap<String, String>,
    /// How often each value changed.
    pub generations: BTreeMap<String, u64>,
    /// Keys whose published value is another or gone.
    pub rotated: Vec<String>,
    /// Keys that go out now: no pod uses them any more.
    pub released: Vec<String>,
    /// Members in the place of keys that somebody else wrote.
    pub foreign: Vec<String>,
}

/// Decides what the Secret shall hold. `is_published` says whether the published configuration names a key, `released` whether every
/// running pod acts upon that configuration.
pub fn plan(
    live: &PublishedKeys,
    wanted: &KeyValues,
    token: &SecretValue,
    is_published: impl Fn(&str) -> bool,
    released: bool,
) -> SecretPlan {
    let mut plan = SecretPlan {
        data: BTreeMap::new(),
        generations: BTreeMap::new(),
        rotated: Vec::new(),
        released: Vec::new(),
        foreign: Vec::new(),
    };
    let mut values = wanted.clone();
    for (name, value) in live.values.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        match (is_published(name), live.generations.contains_key(name)) {
            (false, false) => plan.foreign.push(name.clone()),
            (false, true) if released => plan.released.push(name.clone()),
            _ => {
                values.insert(name.clone(), value.clone());
            }
        }
    }
    for (name, value) in &values {
        let before = live.generations.get(name).copied().unwrap_or(0);
        let generation = match live.values.get(name) {
            Some(old) if old == value => before.max(1),
            Some(_) => {
                plan.rotated.push(name.clone());
                before.saturating_add(1)
            }
            None => {
                // It was there once: somebody took it out.
                plan.rotated.extend((before > 0).then(|| name.clone()));
                before.saturating_add(1)
            }
        };
        plan.generations.insert(name.clone(), generation);
    }
    plan.fill(&values, token);
    plan
}

/// The Secret as it is, for a plan that leaves it alone.
pub fn unchanged(live: &PublishedKeys, token: &SecretValue) -> SecretPlan {
    let mut plan = plan(live, &live.values, token, |_| true, false);
    plan.generations.clone_from(&live.generations);
    plan
}

impl SecretPlan {
    fn fill(&mut self, values: &KeyValues, token: &SecretValue) {
        let members = values.iter().map(|(name, value)| (format!("{KEY_PREFIX}{name}"), value.expose().to_owned()));
        self.data.extend(members);
        // A map of texts and numbers always serialises.
        self.data.insert(GENERATIONS.to_owned(), serde_json::to_string(&self.generations).unwrap_or_default());
        self.data.insert(ADMIN_TOKEN.to_owned(), token.expose().to_owned());
    }
}

/// The admin token to go on with: the one that was published last, else the one that is there, if it has the form of one that this
/// operator made. Whoever may write the Secret must not choose what opens the admin port.
pub fn running_token<'a>(published: Option<&'a SecretValue>, live: Option<&'a SecretValue>) -> Option<&'a SecretValue> {
    let is_own = |token: &&SecretValue| {
        let text = token.expose();
        text.len() == TOKEN_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    published.or(live.filter(is_own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> KeyValues {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), SecretValue::new(value))).collect()
    }

    fn live(pairs: &[(&str, &str, u64)]) -> PublishedKeys {
        PublishedKeys {
            values: pairs.iter().map(|(name, value, _)| ((*name).to_owned(), SecretValue::new(value))).collect(),
            generations: pairs.iter().map(|(name, _, generation)| ((*name).to_owned(), *generation)).collect(),
            admin_token: Some(SecretValue::new("token")),
        }
    }

    fn planned(live: &PublishedKeys, wanted: &[(&str, &str)], published: &[&str], released: bool) -> SecretPlan {
        plan(live, &values(wanted), &SecretValue::new("token"), |name| published.contains(&name), released)
    }

    #[test]
    fn a_new_secret_holds_values_generations_and_the_token() {
        let first = planned(&PublishedKeys::default(), &[("a", "1")], &[], true);
        assert_eq!(first.data[ADMIN_TOKEN], "token");
        assert_eq!(first.data["key.a"], "1");
        assert_eq!(first.data[GENERATIONS], r#"{"a":1}"#);
        assert!(first.rotated.is_empty());
    }

    #[test]
    fn the_token_that_runs_goes_on_and_one_of_another_hand_is_not_taken() {
        let own = SecretValue::new(&"0123456789abcdef".repeat(4));
        let edited = SecretValue::new("easy");
        assert_eq!(running_token(None, Some(&own)), Some(&own));
        assert_eq!(running_token(None, Some(&edited)), None);
        assert_eq!(running_token(Some(&own), Some(&edited)), Some(&own));
        assert_eq!(running_token(None, Some(&SecretValue::new(&"0123456789ABCDEF".repeat(4)))), None);
    }

    #[test]
    fn a_generation_rises_only_with_the_value() {
        let same = planned(&live(&[("a", "1", 3)]), &[("a", "1")], &["a"], true);
        assert_eq!((same.generations["a"], same.rotated.len()), (3, 0));
        let rotated = planned(&live(&[("a", "1", 3)]), &[("a", "2")], &["a"], true);
        assert_eq!((rotated.generations["a"], rotated.rotated), (4, vec!["a".to_owned()]));
        let mut taken = live(&[("a", "1", 3)]);
        taken.values.clear();
        let back = planned(&taken, &[("a", "1")], &["a"], true);
        assert_eq!((back.generations["a"], back.rotated), (4, vec!["a".to_owned()]));
    }

    #[test]
    fn a_key_stays_until_no_pod_uses_it() {
        let both = live(&[("a", "1", 1), ("b", "2", 1)]);
        for (published, released) in [(&["a", "b"][..], true), (&["a"], false)] {
            let kept = planned(&both, &[("a", "1")], published, released);
            assert_eq!((kept.data["key.b"].as_str(), kept.released.len()), ("2", 0));
        }
        let gone = planned(&both, &[("a", "1")], &["a"], true);
        assert!(!gone.data.contains_key("key.b"));
        assert_eq!(gone.released, ["b"]);
        assert_eq!(gone.data[GENERATIONS], r#"{"a":1}"#);
    }

    #[test]
    fn a_member_that_never_was_a_key_goes_at_once() {
        let mut edited = live(&[("a", "1", 1)]);
        edited.values.insert("x".into(), SecretValue::new("planted"));
        let plan = planned(&edited, &[("a", "1")], &["a"], false);
        assert!(!plan.data.contains_key("key.x"));
        assert_eq!((plan.foreign, plan.released.len()), (vec!["x".to_owned()], 0));
    }

    #[test]
    fn a_plan_that_leaves_it_alone_says_what_is_there() {
        let live = live(&[("a", "1", 4)]);
        let same = unchanged(&live, &SecretValue::new("token"));
        assert_eq!((same.generations, same.rotated.len()), (live.generations, 0));
    }
}
