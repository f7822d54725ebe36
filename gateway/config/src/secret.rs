//! Values of provider keys. They never show: not in `Debug`, not in an error, not in a serialised form.

use std::collections::BTreeMap;
use std::fmt;

/// A secret text. `Debug` shows only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// Takes the value as it was read, without the white space that editors and `echo` leave at its ends.
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// The value itself: only for the header that carries it to the provider.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it can stand in an HTTP header (visible ASCII), which every vendor's key can.
    pub fn is_header_safe(&self) -> bool {
        self.0.bytes().all(|b| (0x21..=0x7e).contains(&b))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// The value of each provider key, by the key's name.
pub type KeyValues = BTreeMap<String, SecretValue>;
