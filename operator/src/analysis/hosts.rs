//! Which hosts the operator asks for metrics. A resource names URLs, and whoever may write one must not reach with the operator's
//! hands what he cannot reach with his own.

use std::sync::Arc;

use bifrost_config::{AddressRule, BaseUrl, Problem};

use crate::migration::metric::Metric;

/// Hosts that may be asked.
#[derive(Debug, Clone)]
pub struct HostRule {
    /// None: any, where nothing is asked at all.
    hosts: Option<Arc<[Host]>>,
    /// Whether they may be loopback or link-local addresses.
    addresses: AddressRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// Lower-case name or address, without a dot at the end.
    name: String,
    /// None: any port.
    port: Option<u16>,
}

/// Why a URL is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody allowed it.
    #[error(
        "{0} is not among the hosts that an analysis may ask: let whoever runs the operator add it (value analysis.allowedHosts of its chart), or take the metric out"
    )]
    Host(String),
    /// It leads back into the operator.
    #[error("{0} is a loopback or link-local address, which leads into the operator's own pod or node: name another")]
    Local(String),
}

impl HostRule {
    /// Of a list of `HOST` or `HOST:PORT`; the error names the entry that is none.
    pub fn new(list: &[String], addresses: AddressRule) -> Result<Self, String> {
        let hosts =
            list.iter().map(|text| Host::parse(text).ok_or_else(|| format!("{text:?} is no HOST or HOST:PORT")));
        Ok(Self { hosts: Some(hosts.collect::<Result<_, _>>()?), addresses })
    }

    /// Where nobody knows what the operator allows, and nothing is asked.
    pub const fn unknown(addresses: AddressRule) -> Self {
        Self { hosts: None, addresses }
    }

    /// Which addresses a host's name may lead to.
    pub const fn addresses(&self) -> AddressRule {
        self.addresses
    }

    /// Whether a URL may be asked.
    pub fn check(&self, url: &BaseUrl) -> Result<(), Refused> {
        if self.addresses == AddressRule::NoLocal && url.is_local() {
            return Err(Refused::Local(url.host.clone()));
        }
        let name = url.host.trim_end_matches('.');
        let allows = |host: &Host| host.name == name && host.port.is_none_or(|port| port == url.port);
        match &self.hosts {
            Some(hosts) if !hosts.iter().any(allows) => Err(Refused::Host(url.authority())),
            _ => Ok(()),
        }
    }

    /// What is to be said of the metrics of a spec.
    pub fn problems(&self, metrics: &[Metric]) -> Vec<Problem> {
        let refused = metrics.iter().filter_map(|metric| Some((metric, self.check(metric.url()).err()?)));
        let at = |metric: &Metric| format!("{}.{}.url", metric.path, metric.source_name());
        refused.map(|(metric, refused)| Problem::invalid(at(metric), refused.to_string())).collect()
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let [plain, tls] = ["http", "https"].map(|scheme| BaseUrl::parse(&format!("{scheme}://{text}")).ok());
        let (plain, tls) = (plain?, tls?);
        let is_alone = !text.contains('/');
        // A port that is written is the same with both.
        let port = (plain.port == tls.port).then_some(plain.port);
        is_alone.then(|| Self { name: plain.host.trim_end_matches('.').to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(list: &[&str], addresses: AddressRule) -> Result<HostRule, String> {
        HostRule::new(&list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), addresses)
    }

    fn check(rule: &HostRule, url: &str) -> Result<(), Refused> {
        rule.check(&BaseUrl::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_allowed_as_it_is_listed() {
        let rule =
            rule(&["Prometheus.monitoring.svc:9090", "judge.example", "[2001:db8::1]"], AddressRule::NoLocal).unwrap();
        for url in [
            "http://prometheus.monitoring.svc:9090/x",
            "http://judge.example",
            "https://judge.example.:8443",
            "http://[2001:db8::1]:1",
        ] {
            assert_eq!(check(&rule, url), Ok(()), "{url}");
        }
        for url in [
            "http://prometheus.monitoring.svc",
            "http://prometheus.monitoring.svc:9091",
            "http://a.judge.example",
            "http://judge.example.com",
        ] {
            assert!(matches!(check(&rule, url), Err(Refused::Host(_))), "{url}");
        }
    }

    #[test]
    fn local_addresses_are_another_rule() {
        let list = ["127.0.0.1", "localhost", "169.254.169.254"];
        let (strict, open) = (rule(&list, AddressRule::NoLocal).unwrap(), rule(&list, AddressRule::Any).unwrap());
        for url in ["http://127.0.0.1:9090", "http://localhost", "http://169.254.169.254/latest"] {
            assert!(matches!(check(&strict, url), Err(Refused::Local(_))), "{url}");
            assert_eq!(check(&open, url), Ok(()), "{url}");
        }
        assert!(matches!(check(&open, "http://127.1"), Err(Refused::Host(_))), "spelled as it is listed");
    }

    #[test]
    fn an_empty_list_allows_nothing_and_a_bad_one_is_refused() {
        let none = rule(&[], AddressRule::Any).unwrap();
        assert_eq!(check(&none, "http://a.example"), Err(Refused::Host("a.example".to_owned())));
        for text in ["http://a.example", "a.example/x", "a b", "a:0", "*", "u@a"] {
            assert!(rule(&[text], AddressRule::Any).unwrap_err().contains(text), "{text}");
        }
    }
}
