//! Who may connect to the pods.

use std::collections::BTreeMap;

use bifrost_config::report::ADMIN_PORT;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::{APP_PORT, PREVIEW_PORT};
use super::{Observed, Part, meta};
use crate::names;

/// Until callers have credentials of their own, who reaches the applications' ports spends the key pool: they are open to the own
/// namespace and to the peers of the spec. The admin port is open to every pod of the cluster, where the operator and Prometheus
/// live; what is not for everybody wants a token there.
pub(super) fn build_network_policy(observed: &Observed) -> NetworkPolicy {
    let own_namespace =
        NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    let mut applications = vec![own_namespace];
    applications.extend(observed.gateway.spec.network_policy.from.iter().cloned());
    NetworkPolicy {
        metadata: meta(observed, Part::NetworkPolicy),
        spec: Some(ingress(
            names::selector(observed.name()),
            vec![rule(applications, &[APP_PORT, PREVIEW_PORT]), rule(vec![every_pod()], &[i32::from(ADMIN_PORT)])],
        )),
    }
}

/// Who may connect to the pods with these labels.
pub(super) fn ingress(pods: BTreeMap<String, String>, rules: Vec<NetworkPolicyIngressRule>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(pods), ..LabelSelector::default() }),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(rules),
        ..NetworkPolicySpec::default()
    }
}

/// Of whichever namespace.
pub(super) fn every_pod() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

pub(super) fn rule(from: Vec<NetworkPolicyPeer>, ports: &[i32]) -> NetworkPolicyIngressRule {
    let port = |port: &i32| NetworkPolicyPort {
        protocol: Some("TCP".to_owned()),
        port: Some(IntOrString::Int(*port)),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule { from: Some(from), ports: Some(ports.iter().map(port).collect()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gateway::tests::observed;
    use bifrost_config::report::FORWARD_PORT;
    use k8s_openapi::api::networking::v1::IPBlock;

    /// Where a connection comes from.
    #[derive(Debug)]
    pub(in super::super) enum Source {
        /// A pod of the own namespace that has nothing to do with the gateway.
        OwnNamespace,
        /// A pod of the own namespace with these labels.
        Labelled(BTreeMap<String, String>),
        OtherNamespace,
        Outside([u8; 4]),
    }

    /// Whether the policy admits a connection, by the rules of Kubernetes for the peers that occur here.
    pub(in super::super) fn admits(policy: &NetworkPolicy, source: &Source, port: i32) -> bool {
        let spec = policy.spec.as_ref().unwrap();
        assert_eq!(spec.policy_types.as_deref(), Some(&["Ingress".to_owned()][..]));
        spec.ingress.iter().flatten().any(|rule| {
            let ports = rule.ports.as_ref().unwrap();
            ports.iter().any(|p| p.port == Some(IntOrString::Int(port)) && p.protocol.as_deref() == Some("TCP"))
                && rule.from.as_ref().unwrap().iter().any(|peer| peer_admits(peer, source))
        })
    }

    fn peer_admits(peer: &NetworkPolicyPeer, source: &Source) -> bool {
        let everything = LabelSelector::default();
        match (source, &peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Source::Outside(address), Some(block), ..) => {
                let network = block.cidr.strip_suffix(".0/24").unwrap();
                address[..3].iter().map(ToString::to_string).collect::<Vec<_>>().join(".") == network
            }
            (Source::Outside(_), ..) => false,
            (Source::OwnNamespace, None, None, Some(pods)) => *pods == everything,
            (Source::Labelled(labels), None, None, Some(pods)) => selects(pods, labels),
            (_, None, Some(namespaces), None) => *namespaces == everything,
            _ => false,
        }
    }

    fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
        assert!(selector.match_expressions.is_none());
        selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value))
    }

    #[test]
    fn each_port_is_open_to_whom_it_is_meant_for() {
        let mut observed = observed();
        observed.gateway.spec.network_policy.from = vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: "203.0.113.0/24".into(), except: None }),
            ..NetworkPolicyPeer::default()
        }];
        let policy = build_network_policy(&observed);
        for port in [APP_PORT, PREVIEW_PORT] {
            assert!(admits(&policy, &Source::OwnNamespace, port));
            assert!(!admits(&policy, &Source::OtherNamespace, port));
            assert!(admits(&policy, &Source::Outside([203, 0, 113, 9]), port));
            assert!(!admits(&policy, &Source::Outside([198, 51, 100, 9]), port));
        }
        assert!(admits(&policy, &Source::OwnNamespace, 9090));
        assert!(admits(&policy, &Source::OtherNamespace, 9090));
        assert!(!admits(&policy, &Source::Outside([203, 0, 113, 9]), 9090));
        // Nothing is forwarded to the gateway's own pods.
        let gateway = Source::Labelled(names::selector("ai"));
        let candidate = Source::Labelled(names::candidate_selector("ai"));
        let others = [Source::OwnNamespace, Source::OtherNamespace, Source::Outside([203, 0, 113, 9])];
        for source in others.iter().chain([&gateway, &candidate]) {
            for port in [i32::from(FORWARD_PORT), 22] {
                assert!(!admits(&policy, source, port), "{source:?} {port}");
            }
        }
    }

    #[test]
    fn it_is_about_this_gateways_pods_only() {
        let policy = build_network_policy(&observed()).spec.unwrap();
        assert_eq!(policy.pod_selector.unwrap().match_labels, Some(names::selector("ai")));
    }
}
