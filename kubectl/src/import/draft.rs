//! What an import found, in the words of the manifests.

use bifrost_config::{ProviderType, SecretValue};

/// Everything that can be carried, and what cannot.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Size of the largest request body, if it is not the default.
    pub(super) max_request_body: Option<String>,
    /// In the order of the file.
    pub(super) providers: Vec<Provider>,
    /// In the order of the file.
    pub(super) keys: Vec<Key>,
    /// `spec.migration.stickiness`, if it is not the default.
    pub(super) stickiness: Vec<(&'static str, String)>,
    /// What is not carried: path and why, one line each.
    pub(super) notes: Vec<String>,
    /// What is carried, but is not as it was: path and how, one line each.
    pub(super) changes: Vec<String>,
}

/// An entry of `config.providers`.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    /// A valid name.
    pub(super) name: String,
    pub(super) provider_type: ProviderType,
    /// None: the vendor's own.
    pub(super) base_url: Option<String>,
    /// Members of `network`.
    pub(super) network: Vec<(&'static str, String)>,
}

/// A ProviderKey with its Secret.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Where it stands in the file.
    pub(super) path: String,
    /// A valid name, also the Secret's.
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) value: Value,
    /// Empty: all.
    pub(super) models: Vec<String>,
    /// Relative to the provider's other keys, 1 to 1000.
    pub(super) weight: u32,
    pub(super) enabled: bool,
    /// Empty: the vendor's own.
    pub(super) hosts: Vec<String>,
}

/// Where a key's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// An environment variable.
    Env(String),
    /// It stands in the file.
    Literal(SecretValue),
}

impl Value {
    /// Whether it stands in the file.
    pub(super) const fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

impl Key {
    /// The variable that stands for the value.
    pub(super) fn variable(&self) -> String {
        match &self.value {
            Value::Env(name) => name.clone(),
            // No variable of the file may have the same name.
            Value::Literal(_) => format!("KEY_OF_{}", self.name.to_ascii_uppercase().replace('-', "_")),
        }
    }
}

/// Weights as ProviderKeys have them: whole numbers from 1 to 1000 in the same proportion. A weight of 0 beside others means that the
/// key is not used: such keys are switched off. Returns whether the proportion had to be rounded.
pub(super) fn scale_weights(keys: &mut [&mut Key]) -> bool {
    let Some(largest) = keys.iter().map(|key| key.weight).max().filter(|largest| *largest > 0) else {
        keys.iter_mut().for_each(|key| key.weight = 1);
        return false;
    };
    let common = keys.iter().fold(0, |divisor, key| gcd(divisor, key.weight));
    let mut is_rounded = false;
    for key in keys {
        if key.weight == 0 {
            (key.weight, key.enabled) = (1, false);
            continue;
        }
        let exact = key.weight / common;
        key.weight = match largest / common {
            0..=1000 => exact,
            top => (u64::from(exact) * 1000 / u64::from(top)).clamp(1, 1000) as u32,
        };
        is_rounded |= largest / common > 1000;
    }
    is_rounded
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(weights: &[u32]) -> (Vec<(u32, bool)>, bool) {
        let key = |weight: &u32| Key {
            path: String::new(),
            name: "k".into(),
            provider: "p".into(),
            value: Value::Env("N".into()),
            models: Vec::new(),
            weight: *weight,
            enabled: true,
            hosts: Vec::new(),
        };
        let mut keys: Vec<_> = weights.iter().map(key).collect();
        let is_rounded = scale_weights(&mut keys.iter_mut().collect::<Vec<_>>());
        (keys.iter().map(|key| (key.weight, key.enabled)).collect(), is_rounded)
    }

    #[test]
    fn weights_keep_their_proportion() {
        assert_eq!(scaled(&[1000]).0, [(1, true)]);
        assert_eq!(scaled(&[800, 200]).0, [(4, true), (1, true)]);
        assert_eq!(scaled(&[0, 0]).0, [(1, true), (1, true)]);
        assert_eq!(scaled(&[500, 0]).0, [(1, true), (1, false)]);
        assert_eq!(scaled(&[333_333, 1]), (vec![(1000, true), (1, true)], true));
    }
}
