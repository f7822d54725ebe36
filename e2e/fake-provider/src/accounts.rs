//! Whose a credential is. Known keys come from flags and the control API; unless keys are strict, any other one that
//! looks like the vendor's is an account of its own, and one that looks like somebody else's is refused.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::api::{KeySpec, Vendor};

/// Why a request has no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No credential.
    Missing,
    /// An unknown or disabled one.
    Invalid,
}

struct Known {
    account: String,
    enabled: bool,
}

pub(crate) struct Accounts {
    known: HashMap<(Vendor, String), Known>,
    strict: bool,
}

impl Accounts {
    pub(crate) fn new(keys: Vec<KeySpec>, strict: bool) -> Self {
        let mut accounts = Self { known: HashMap::new(), strict };
        keys.into_iter().for_each(|key| accounts.set(key));
        accounts
    }

    pub(crate) fn set(&mut self, spec: KeySpec) {
        let of = (spec.vendor, spec.key);
        let before = self.known.remove(&of).map(|k| k.account);
        let account = spec.account.or(before).unwrap_or_else(|| own_account(&of.1));
        self.known.insert(of, Known { account, enabled: spec.enabled });
    }

    /// The account of a credential.
    pub(crate) fn check(&self, vendor: Vendor, credential: Option<&str>) -> Result<String, Denied> {
        let credential = credential.filter(|c| !c.is_empty()).ok_or(Denied::Missing)?;
        match self.known.get(&(vendor, credential.to_owned())) {
            Some(known) if known.enabled => Ok(known.account.clone()),
            None if !self.strict && plausible(vendor, credential) => Ok(own_account(credential)),
            _ => Err(Denied::Invalid),
        }
    }
}

/// `sk-...`, but no virtual key of a gateway and no key of the other vendor.
fn plausible(vendor: Vendor, credential: &str) -> bool {
    let foreign = match vendor {
        Vendor::OpenAi => "sk-ant-",
        Vendor::Anthropic => "sk-proj-",
    };
    credential.len() > 3
        && credential.starts_with("sk-")
        && !credential.starts_with("sk-bf-")
        && !credential.starts_with(foreign)
}

fn own_account(credential: &str) -> String {
    let digest = Sha256::digest(credential.as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The organisation id of an account, as OpenAI names it in headers.
pub(crate) fn organization(account: &str) -> String {
    if account.starts_with("org-") { account.to_owned() } else { format!("org-{account}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, account: Option<&str>, enabled: bool) -> KeySpec {
        KeySpec { vendor: Vendor::OpenAi, key: key.to_owned(), account: account.map(str::to_owned), enabled }
    }

    #[test]
    fn unknown_keys_are_accepted_by_their_looks_unless_strict() {
        let open = Accounts::new(Vec::new(), false);
        assert!(open.check(Vendor::OpenAi, Some("sk-anything")).is_ok());
        assert_ne!(open.check(Vendor::OpenAi, Some("sk-a")), open.check(Vendor::OpenAi, Some("sk-b")));
        for refused in ["sk-ant-x", "sk-bf-x", "dummy", "sk-"] {
            assert_eq!(open.check(Vendor::OpenAi, Some(refused)), Err(Denied::Invalid), "{refused}");
        }
        assert!(open.check(Vendor::Anthropic, Some("sk-ant-x")).is_ok());
        assert_eq!(open.check(Vendor::OpenAi, None), Err(Denied::Missing));
        let strict = Accounts::new(vec![key("k1", Some("acme"), true)], true);
        assert_eq!(strict.check(Vendor::OpenAi, Some("k1")).as_deref(), Ok("acme"));
        assert_eq!(strict.check(Vendor::OpenAi, Some("sk-anything")), Err(Denied::Invalid));
    }

    #[test]
    fn a_disabled_key_is_invalid_and_keeps_its_account_when_it_comes_back() {
        let mut accounts = Accounts::new(vec![key("sk-1", Some("acme"), true)], false);
        accounts.set(key("sk-1", None, false));
        assert_eq!(accounts.check(Vendor::OpenAi, Some("sk-1")), Err(Denied::Invalid));
        accounts.set(key("sk-1", None, true));
        assert_eq!(accounts.check(Vendor::OpenAi, Some("sk-1")).as_deref(), Ok("acme"));
    }
}
