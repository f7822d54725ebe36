//! The members of the gateway's Secret: which values, under which generations. Pure.
//!
//! A key's value comes in before the ConfigMap names the key, and goes out only after every running pod acts upon a ConfigMap that
//! does not name it any more.

use std::collections::BTreeMap;

use bifrost_config::KeyValues;
use bifrost_config::published::{ADMIN_TOKEN, GENERATIONS, KEY_PREFIX, PublishedKeys};

/// The Secret as it shall be. Not `Debug`: it holds values.
pub struct SecretPlan {
    /// `data` of the Secret, not yet in base64.
    pub data: BTreeMap<String, String>,
    /// How often each value changed.
    pub generations: BTreeMap<String, u64>,
    /// Keys whose value changed.
    pub rotated: Vec<String>,
    /// Keys that go out now: no pod uses them any more.
    pub released: Vec<String>,
    /// Keys that are still in, though the configuration does not want them.
    pub retained: Vec<String>,
}

/// Decides what the Secret shall hold. `may_go` says whether a key that is not wanted can go out now; `new_token` is used when there
/// is no admin token yet.
pub fn plan(
    live: &PublishedKeys,
    wanted: &KeyValues,
    may_go: impl Fn(&str) -> bool,
    new_token: impl FnOnce() -> String,
) -> SecretPlan {
    let mut plan = SecretPlan {
        data: BTreeMap::new(),
        generations: BTreeMap::new(),
        rotated: Vec::new(),
        released: Vec::new(),
        retained: Vec::new(),
    };
    let mut values = wanted.clone();
    for (name, value) in live.values.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        if may_go(name) {
            plan.released.push(name.clone());
        } else {
            plan.retained.push(name.clone());
            values.insert(name.clone(), value.clone());
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
            None => before.saturating_add(1),
        };
        plan.generations.insert(name.clone(), generation);
        plan.data.insert(format!("{KEY_PREFIX}{name}"), value.expose().to_owned());
    }
    // A map of texts and numbers always serialises.
    plan.data.insert(GENERATIONS.to_owned(), serde_json::to_string(&plan.generations).unwrap_or_default());
    let token = live.admin_token.as_ref().filter(|token| !token.is_empty());
    plan.data.insert(ADMIN_TOKEN.to_owned(), token.map_or_else(new_token, |token| token.expose().to_owned()));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use bifrost_config::SecretValue;

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

    fn no_token() -> String {
        unreachable!("there is a token")
    }

    #[test]
    fn the_token_is_made_once() {
        let first = plan(&PublishedKeys::default(), &values(&[("a", "1")]), |_| true, || "new".into());
        assert_eq!(first.data[ADMIN_TOKEN], "new");
        assert_eq!(first.data["key.a"], "1");
        assert_eq!(first.data[GENERATIONS], r#"{"a":1}"#);
        assert!(first.rotated.is_empty());
        assert_eq!(plan(&live(&[]), &values(&[]), |_| true, no_token).data[ADMIN_TOKEN], "token");
    }

    #[test]
    fn a_generation_rises_only_with_the_value() {
        let same = plan(&live(&[("a", "1", 3)]), &values(&[("a", "1")]), |_| true, no_token);
        assert_eq!((same.generations["a"], same.rotated.len()), (3, 0));
        let rotated = plan(&live(&[("a", "1", 3)]), &values(&[("a", "2")]), |_| true, no_token);
        assert_eq!((rotated.generations["a"], rotated.rotated), (4, vec!["a".to_owned()]));
    }

    #[test]
    fn a_key_stays_until_no_pod_uses_it() {
        let kept = plan(&live(&[("a", "1", 1), ("b", "2", 1)]), &values(&[("a", "1")]), |_| false, no_token);
        assert_eq!(kept.data["key.b"], "2");
        assert_eq!((kept.retained.as_slice(), kept.released.len()), (&["b".to_owned()][..], 0));
        let gone = plan(&live(&[("a", "1", 1), ("b", "2", 1)]), &values(&[("a", "1")]), |_| true, no_token);
        assert!(!gone.data.contains_key("key.b"));
        assert_eq!(gone.released, ["b"]);
        assert_eq!(gone.data[GENERATIONS], r#"{"a":1}"#);
    }
}
