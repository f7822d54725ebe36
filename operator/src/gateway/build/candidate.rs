//! What a candidate with an image of its own needs: pods that only the gateway's pods reach, by a Service and a port of their own. Nothing
//! that selects the gateway's pods selects them.

use std::net::IpAddr;

use bifrost_config::AddressRule;
use bifrost_config::report::{ADMIN_PORT, FORWARD_PORT};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::{FORWARD_PORT_NAME, build_candidate_deployment};
use super::network_policy::{every_pod, ingress, rule};
use super::{Observed, Part, meta};
use crate::cluster::Object;
use crate::cluster::object::Mode;
use crate::names;
use crate::rollout::revision::Revision;

/// Its objects.
pub(super) fn build_candidate(
    observed: &Observed,
    revision: &Revision,
    pods: usize,
    addresses: AddressRule,
) -> Vec<(Part, Object)> {
    let deployment = build_candidate_deployment(observed, revision, pods, addresses);
    let mut objects = vec![(Part::CandidateService, Object::new(Mode::Ports, &service(observed)))];
    if observed.gateway.spec.network_policy.enabled {
        objects.push((Part::CandidatePolicy, Object::new(Mode::Apply, &policy(observed))));
    }
    objects.push((Part::Candidate, Object::new(Mode::Apply, &deployment)));
    objects
}

/// Where the gateway's pods reach them: at the Service's address once it has one. Pods keep what a name stands for for half a minute, and
/// a Service that was made anew, for a candidate that is tried again, has another.
pub fn forward_url(observed: &Observed) -> String {
    let service = observed.own(Part::CandidateService);
    let address = service.and_then(|service| service.data.pointer("/spec/clusterIP")?.as_str()?.parse().ok());
    let host = match address {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        None => format!("{}.{}.svc", Part::CandidateService.name(observed.name()), observed.namespace()),
    };
    format!("http://{host}:{FORWARD_PORT}")
}

fn service(observed: &Observed) -> Service {
    Service {
        metadata: meta(observed, Part::CandidateService),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::candidate_selector(observed.name())),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                app_protocol: Some("http".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: i32::from(FORWARD_PORT),
                target_port: Some(IntOrString::String(FORWARD_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn policy(observed: &Observed) -> NetworkPolicy {
    let gateway = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(names::selector(observed.name())),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: meta(observed, Part::CandidatePolicy),
        spec: Some(ingress(
            names::candidate_selector(observed.name()),
            vec![rule(vec![gateway], &[i32::from(FORWARD_PORT)]), rule(vec![every_pod()], &[i32::from(ADMIN_PORT)])],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::deployment::{APP_PORT, PREVIEW_PORT};
    use super::super::network_policy::tests::{Source, admits};
    use super::*;
    use crate::gateway::tests::observed;
    use k8s_openapi::api::networking::v1::IPBlock;

    #[test]
    fn only_the_gateways_pods_forward_to_it() {
        let mut observed = observed();
        // Applications elsewhere that may use the gateway have nothing to do with it either.
        observed.gateway.spec.network_policy.from = vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: "203.0.113.0/24".into(), except: None }),
            ..NetworkPolicyPeer::default()
        }];
        let policy = policy(&observed);
        let selected = policy.spec.as_ref().unwrap().pod_selector.as_ref().unwrap();
        assert_eq!(selected.match_labels, Some(names::candidate_selector("ai")));

        let forward = i32::from(FORWARD_PORT);
        let gateway = Source::Labelled(names::selector("ai"));
        assert!(admits(&policy, &gateway, forward));
        let others = [
            Source::OwnNamespace,
            Source::Labelled(names::selector("another")),
            Source::Labelled(names::candidate_selector("ai")),
            Source::OtherNamespace,
            Source::Outside([203, 0, 113, 9]),
        ];
        for source in &others {
            assert!(!admits(&policy, source, forward), "{source:?}");
        }
        for source in others.iter().chain([&gateway]) {
            for port in [APP_PORT, PREVIEW_PORT, 22] {
                assert!(!admits(&policy, source, port), "{source:?} {port}");
            }
            let is_pod = !matches!(source, Source::Outside(_));
            assert_eq!(admits(&policy, source, i32::from(ADMIN_PORT)), is_pod, "{source:?}");
        }
    }
}
