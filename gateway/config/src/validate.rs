//! The rules. A draft becomes a [`Config`] and a [`Plan`], or a list of all its problems.

mod migration;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::draft::{Draft, KeyDraft, NetworkDraft, ProviderDraft};
use crate::model::{Client, Config, Key, Network, Provider};
use crate::units::{parse_duration, parse_size};
use crate::{BaseUrl, Plan, Problem, check_ca_bundle};

/// Largest request body unless configured, in bytes.
const DEFAULT_MAX_REQUEST_BODY: u64 = 100 << 20;
/// Bounds of a configured `maxRequestBody`, in bytes.
const MAX_REQUEST_BODY: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bounds of every configured time limit.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// Whether a provider may lie at a loopback or link-local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRule {
    /// A resource may not: whoever writes one would reach into the pod and its node.
    NoLocal,
    /// A standalone file may name any address.
    Any,
}

/// Checks a draft. All problems are returned, in the order of the input.
pub fn validate(draft: &Draft, addresses: AddressRule) -> Result<(Config, Plan), Vec<Problem>> {
    let mut problems = Vec::new();
    let max_request_body = max_request_body(draft.max_request_body.as_ref(), &mut problems);
    if let Some((path, pem)) = &draft.ca_bundle
        && let Err(fault) = check_ca_bundle(pem)
    {
        problems.push(Problem::invalid(path, format!("the CA bundle cannot be used: {fault}")));
    }
    let mut names = BTreeSet::new();
    let mut providers = Vec::with_capacity(draft.providers.len());
    for entry in &draft.providers {
        if !names.insert(entry.name.as_str()) {
            problems.push(Problem::invalid(
                format!("{}.name", entry.path),
                format!("provider {:?} is listed twice", entry.name),
            ));
        }
        providers.extend(provider(entry, addresses, &mut problems));
    }
    let mut names = BTreeSet::new();
    let mut keys = Vec::with_capacity(draft.keys.len());
    for entry in &draft.keys {
        if !names.insert(entry.name.as_str()) {
            problems.push(Problem::invalid(
                entry.path.clone(),
                format!("key {:?} is listed twice: give each a name of its own", entry.name),
            ));
        }
        // A provider with problems of its own was reported above; its keys are not blamed for it.
        if draft.providers.iter().any(|p| p.name == entry.provider)
            && !providers.iter().any(|p| p.name == entry.provider)
        {
            continue;
        }
        match check_key(entry, &providers) {
            Ok(key) if entry.enabled => keys.push(key),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let plan = migration::plan(&draft.migration, &mut problems);
    migration::known_providers(&draft.migration, &draft.providers, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let ca_bundle = draft.ca_bundle.as_ref().map(|(_, pem)| pem.clone());
    let config = Config { client: Client { max_request_body }, ca_bundle, providers, keys };
    Ok((config, plan))
}

/// Checks one key against the providers. The operator asks for each key by itself, so that a bad one stops no other.
pub fn check_key(key: &KeyDraft, providers: &[Provider]) -> Result<Key, Problem> {
    let Some(provider) = providers.iter().find(|p| p.name == key.provider) else {
        let known: Vec<_> = providers.iter().map(|p| p.name.as_str()).collect();
        return Err(Problem::not_found(
            format!("{}.provider", key.path),
            format!("no provider is named {:?}; configured: {}", key.provider, known.join(", ")),
        ));
    };
    let host = &provider.base_url.host;
    let hosts: Vec<String> = if key.hosts.is_empty() {
        provider.provider_type.vendor().hosts.iter().map(|h| (*h).to_owned()).collect()
    } else {
        key.hosts.iter().map(|h| h.to_ascii_lowercase()).collect()
    };
    if !hosts.contains(host) {
        let message = if key.hosts.is_empty() {
            format!(
                "provider {:?} is at {host}, not at the vendor's own host: list {host} in hosts to allow the key to be sent there",
                provider.name
            )
        } else {
            format!("provider {:?} is at {host}, which is not among the hosts this key may be sent to", provider.name)
        };
        return Err(Problem::invalid(format!("{}.hosts", key.path), message));
    }
    if let Some(index) = key.models.iter().position(|m| m.trim().is_empty()) {
        return Err(Problem::invalid(format!("{}.models[{index}]", key.path), "a model's name is empty"));
    }
    Ok(Key {
        name: key.name.clone(),
        provider: key.provider.clone(),
        models: key.models.clone(),
        weight: key.weight,
        hosts,
    })
}

fn max_request_body(input: Option<&(String, String)>, problems: &mut Vec<Problem>) -> u64 {
    let Some((path, text)) = input else { return DEFAULT_MAX_REQUEST_BODY };
    match parse_size(text) {
        Some(size) if MAX_REQUEST_BODY.contains(&size) => size,
        _ => {
            problems.push(Problem::invalid(path, format!("{text:?} is no size between 1Ki and 1Gi, such as 100Mi")));
            DEFAULT_MAX_REQUEST_BODY
        }
    }
}

fn provider(entry: &ProviderDraft, addresses: AddressRule, problems: &mut Vec<Problem>) -> Option<Provider> {
    let before = problems.len();
    let label = entry.name.len() <= 63
        && entry.name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && entry.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if !label {
        let message = format!(
            "{:?} is no name for a provider: lower-case letters, digits, '-', '_' and '.', at most 63",
            entry.name
        );
        problems.push(Problem::invalid(format!("{}.name", entry.path), message));
    }
    let default_url = entry.provider_type.vendor().base_url.to_owned();
    let (path, text) = entry.base_url.clone().unwrap_or_else(|| (format!("{}.baseURL", entry.path), default_url));
    let base_url = match BaseUrl::parse(&text) {
        Ok(url) if addresses == AddressRule::NoLocal && url.is_local() => {
            problems.push(Problem::invalid(
                path,
                format!(
                    "{} is a loopback or link-local address, which leads into the gateway's own pod or node",
                    url.host
                ),
            ));
            None
        }
        Ok(url) => Some(url),
        Err(error) => {
            problems.push(Problem::invalid(path, error.to_string()));
            None
        }
    };
    let network = network(&entry.network, problems);
    (problems.len() == before).then_some(())?;
    Some(Provider { name: entry.name.clone(), provider_type: entry.provider_type, base_url: base_url?, network })
}

fn network(draft: &NetworkDraft, problems: &mut Vec<Problem>) -> Network {
    let mut limit = |input: &Option<(String, String)>, default: Duration| {
        let Some((path, text)) = input else { return default.as_millis() as u64 };
        match parse_duration(text) {
            Some(duration) if TIMEOUT.contains(&duration) => duration.as_millis() as u64,
            _ => {
                problems.push(Problem::invalid(
                    path,
                    format!("{text:?} is no duration between 100ms and 24h, such as 30s"),
                ));
                default.as_millis() as u64
            }
        }
    };
    Network {
        connect_timeout_ms: limit(&draft.connect_timeout, CONNECT_TIMEOUT),
        first_byte_timeout_ms: limit(&draft.first_byte_timeout, FIRST_BYTE_TIMEOUT),
        request_timeout_ms: limit(&draft.request_timeout, REQUEST_TIMEOUT),
        stream_idle_timeout_ms: limit(&draft.stream_idle_timeout, STREAM_IDLE_TIMEOUT),
    }
}
