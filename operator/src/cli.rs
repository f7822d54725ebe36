//! The command line. Every flag has an environment variable, which is what the chart sets.

use std::net::SocketAddr;
use std::path::PathBuf;

use bifrost_config::AddressRule;
use clap::{ArgAction, Parser, ValueEnum};

use crate::analysis::hosts::HostRule;
use crate::gateway::images::ImagePolicy;
use crate::prices::PriceList;

/// Operator of BifrostGateway and ProviderKey.
#[derive(Debug, Clone, Parser)]
#[command(name = "bifrost-operator", version)]
pub struct Cli {
    /// Namespaces whose gateways are served, comma separated; none: the operator's own.
    #[arg(long, env = "BIFROST_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Serve the gateways of every namespace; the list of namespaces then has no effect.
    #[arg(long, env = "BIFROST_WATCH_CLUSTER", default_value_t = false, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    watch_cluster: bool,
    /// The operator's own namespace.
    #[arg(long, env = "BIFROST_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The operator's pod: its identity in the Lease and in events.
    #[arg(long, env = "BIFROST_POD_NAME", default_value = "bifrost-operator")]
    pub pod_name: String,
    /// Image of gateways whose spec names none.
    #[arg(long, env = "BIFROST_GATEWAY_IMAGE")]
    gateway_image: String,
    /// Repositories that `spec.image.repository` may name, comma separated: exact, or a prefix that ends in `/`. The repository
    /// of the gateway image is always allowed.
    #[arg(long, env = "BIFROST_ALLOWED_IMAGE_REPOSITORIES", value_delimiter = ',')]
    allowed_image_repositories: Vec<String>,
    /// Whether a provider's `baseURL` may be a loopback or link-local address.
    #[arg(long, env = "BIFROST_ALLOW_LOCAL_ADDRESSES", default_value_t = false, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    allow_local_addresses: bool,
    /// The price list, a JSON file; it is read again when it changes. None: the analysis knows no cost.
    #[arg(long, env = "BIFROST_PRICES", value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Hosts that an analysis may ask for metrics (Prometheus, webhooks), comma separated: `HOST` for any port of it, or `HOST:PORT`.
    /// None: no metrics.
    #[arg(long, env = "BIFROST_ANALYSIS_HOSTS", value_name = "HOST[:PORT]", value_delimiter = ',')]
    analysis_hosts: Vec<String>,
    /// Whether replicas elect a leader by a Lease; false: this process works alone.
    #[arg(long, env = "BIFROST_LEADER_ELECTION", default_value_t = true, default_missing_value = "true",
          num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub leader_election: bool,
    /// Namespace of the Lease; none: the operator's own.
    #[arg(long, env = "BIFROST_LEADER_ELECTION_NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, env = "BIFROST_LEADER_ELECTION_LEASE", default_value = "bifrost-operator")]
    pub leader_election_lease: String,
    /// Where health and metrics are served.
    #[arg(long, env = "BIFROST_ADMIN_ADDRESS", default_value = "0.0.0.0:9090")]
    pub admin_address: SocketAddr,
    /// Form of the log.
    #[arg(long, env = "BIFROST_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Which log lines are written: tracing's filter directives.
    #[arg(long, env = "BIFROST_LOG", default_value = "info")]
    pub log: String,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// One set of watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Cli {
    /// What is watched; never empty.
    pub fn scopes(&self) -> Vec<Scope> {
        if self.watch_cluster {
            return vec![Scope::Cluster];
        }
        let mut named = non_empty(&self.watch_namespaces);
        if named.is_empty() {
            named.push(self.namespace.clone());
        }
        named.sort();
        named.dedup();
        named.into_iter().map(Scope::Namespace).collect()
    }

    /// Namespace of the Lease.
    pub fn lease_namespace(&self) -> &str {
        self.leader_election_namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.namespace)
    }

    /// Which gateway images may run.
    pub fn images(&self) -> ImagePolicy {
        ImagePolicy::new(&self.gateway_image, non_empty(&self.allowed_image_repositories))
    }

    /// What the models cost.
    pub fn prices(&self) -> PriceList {
        PriceList::new(self.prices.clone().filter(|path| !path.as_os_str().is_empty()))
    }

    /// Which hosts an analysis may ask for metrics; the error names the entry that is none.
    pub fn analysis_hosts(&self) -> Result<HostRule, String> {
        HostRule::new(&non_empty(&self.analysis_hosts), self.addresses())
    }

    /// Which addresses a provider may have.
    pub fn addresses(&self) -> AddressRule {
        if self.allow_local_addresses { AddressRule::Any } else { AddressRule::NoLocal }
    }
}

fn non_empty(list: &[String]) -> Vec<String> {
    list.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(args: &[&str]) -> Cli {
        let fixed = ["bifrost-operator", "--gateway-image", "r/g:1", "--namespace", "system"];
        Cli::try_parse_from(fixed.iter().chain(args)).unwrap()
    }

    #[test]
    fn the_own_namespace_is_watched_unless_others_are_named() {
        assert_eq!(cli(&[]).scopes(), [Scope::Namespace("system".into())]);
        assert_eq!(cli(&["--watch-namespaces", ""]).scopes(), [Scope::Namespace("system".into())]);
        let two = [Scope::Namespace("a".into()), Scope::Namespace("b".into())];
        assert_eq!(cli(&["--watch-namespaces", "b,a,b"]).scopes(), two);
        assert_eq!(cli(&["--watch-namespaces", "a", "--watch-cluster"]).scopes(), [Scope::Cluster]);
    }

    #[test]
    fn hosts_for_metrics_are_read_at_start() {
        let url = bifrost_config::BaseUrl::parse("http://p.example:9090").unwrap();
        let allows =
            |list: &str| cli(&["--analysis-hosts", list]).analysis_hosts().map(|rule| rule.check(&url).is_ok());
        assert_eq!(allows("j.example, p.example:9090"), Ok(true));
        assert_eq!(allows(""), Ok(false));
        assert!(allows("http://p.example").unwrap_err().contains("http://p.example"));
    }

    #[test]
    fn words_switch_flags() {
        assert!(!cli(&["--leader-election=false"]).leader_election);
        assert!(cli(&[]).leader_election);
        assert_eq!(cli(&["--allow-local-addresses=true"]).addresses(), AddressRule::Any);
        assert_eq!(cli(&[]).lease_namespace(), "system");
    }
}
