//! What all requests share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use http::Request;

use crate::{
    accounts::Accounts,
    api::{ModelSpec, Vendor},
    config::Config,
    models::Models,
    records::Records,
    rules::Rules,
};

const STORED: usize = 20_000;

/// State of the process; every lock is held for a few instructions and never across an await.
pub(crate) struct Shared {
    hosts: Vec<(String, Vendor)>,
    accounts: RwLock<Accounts>,
    models: RwLock<Models>,
    rules: Mutex<Rules>,
    stored: Mutex<VecDeque<Stored>>,
    pub(crate) records: Arc<Records>,
    pub(crate) max_body: usize,
}

/// Something a vendor keeps for an account: a response, a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) account: String,
    /// The object as it is shown.
    pub(crate) object: Vec<u8>,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        let hosts = |of: &[String], vendor| of.iter().map(|h| (h.to_ascii_lowercase(), vendor)).collect::<Vec<_>>();
        let mut models = Models::default();
        let added = |of: &[String], vendor| {
            of.iter().map(|m| ModelSpec { vendor, model: m.clone(), enabled: true }).collect::<Vec<_>>()
        };
        added(&config.openai_models, Vendor::OpenAi).into_iter().for_each(|m| models.set(m));
        added(&config.anthropic_models, Vendor::Anthropic).into_iter().for_each(|m| models.set(m));
        Self {
            hosts: [hosts(&config.openai_hosts, Vendor::OpenAi), hosts(&config.anthropic_hosts, Vendor::Anthropic)]
                .concat(),
            accounts: RwLock::new(Accounts::new(config.keys.clone(), config.strict_keys)),
            models: RwLock::new(models),
            rules: Mutex::default(),
            stored: Mutex::default(),
            records: Arc::new(Records::new(config.records)),
            max_body: config.max_body,
        }
    }

    /// The vendor that a Host header addresses; a name in the list without a port stands for any port.
    pub(crate) fn vendor(&self, host: &str) -> Option<Vendor> {
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &host,
        };
        self.hosts.iter().find(|(h, _)| *h == host || h == name).map(|(_, v)| *v)
    }

    pub(crate) fn accounts(&self) -> RwLockReadGuard<'_, Accounts> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accounts_mut(&self) -> RwLockWriteGuard<'_, Accounts> {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn models(&self) -> RwLockReadGuard<'_, Models> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn models_mut(&self) -> RwLockWriteGuard<'_, Models> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> MutexGuard<'_, VecDeque<Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps something for an account; the oldest goes when there is too much.
    pub(crate) fn keep(&self, stored: Stored) {
        let mut all = self.stored();
        if all.len() >= STORED {
            all.pop_front();
        }
        all.push_back(stored);
    }

    /// What an account keeps under an id. What belongs to another account does not exist.
    pub(crate) fn kept(&self, account: &str, id: &str) -> Option<Stored> {
        self.stored().iter().rev().find(|s| s.id == id && s.account == account).cloned()
    }

    /// All an account keeps whose id begins like this.
    pub(crate) fn kept_all(&self, account: &str, prefix: &str) -> Vec<Stored> {
        self.stored().iter().filter(|s| s.account == account && s.id.starts_with(prefix)).cloned().collect()
    }

    /// Deletes what an account keeps under an id; false if there is no such thing.
    pub(crate) fn forget(&self, account: &str, id: &str) -> bool {
        let mut all = self.stored();
        let before = all.len();
        all.retain(|s| s.id != id || s.account != account);
        all.len() < before
    }
}

/// The host a request addresses: of the request line where that is absolute, else of the Host header.
pub(crate) fn host_of<B>(request: &Request<B>) -> String {
    let header = || request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok());
    request.uri().authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_decides_the_vendor() {
        let config = Config { openai_hosts: vec!["API.openai.com".into(), "x:81".into()], ..Config::default() };
        let shared = Shared::new(&config);
        assert_eq!(shared.vendor("api.OpenAI.com:443"), Some(Vendor::OpenAi));
        assert_eq!(shared.vendor("x:81"), Some(Vendor::OpenAi));
        assert_eq!(shared.vendor("x:82"), None);
        assert_eq!(shared.vendor("localhost:1"), Some(Vendor::Anthropic));
        assert_eq!(shared.vendor(""), None);
    }

    #[test]
    fn an_account_does_not_see_what_another_one_keeps() {
        let shared = Shared::new(&Config::default());
        shared.keep(Stored { id: "resp_1".into(), account: "a".into(), object: Vec::new() });
        assert!(shared.kept("a", "resp_1").is_some() && shared.kept("b", "resp_1").is_none());
        assert!(!shared.forget("b", "resp_1") && shared.forget("a", "resp_1"));
        assert!(shared.kept("a", "resp_1").is_none());
    }
}
