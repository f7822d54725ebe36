//! What the pods shall confirm, and which pods.

use bifrost_config::SecretValue;
use bifrost_config::published::TrafficTable;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::build::Plan;
use super::context::{Context, Error};
use super::observe::Observed;
use super::part::Part;
use super::status::is_ready;
use crate::confirm::{Pod as PodAddress, Target};
use crate::names;

/// Bytes of an admin token.
const TOKEN_BYTES: usize = 32;

/// The table that pods can know of, and the question whether they do.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The table.
    pub table: TrafficTable,
    /// The question.
    pub target: Target,
}

impl InForce {
    /// Of what was written just now, else of what was read. `None`: nothing is published.
    pub fn of(observed: &Observed, written: Option<&Plan>) -> Option<Self> {
        let (table, digest, keys, token) = match written {
            Some(plan) => {
                let publication = &plan.publication;
                let keys = plan.secret.generations.clone();
                (publication.traffic.clone(), publication.digest.clone(), keys, plan.token.clone())
            }
            None => {
                let live = observed.live.published.as_ref()?;
                let token = observed.secret.admin_token.clone()?;
                (live.traffic.clone(), live.digest.clone(), observed.secret.generations.clone(), token)
            }
        };
        let candidate = table.rollout.as_ref().map(|rollout| rollout.revision.clone());
        let target = Target {
            gateway_uid: observed.uid().to_owned(),
            epoch: table.epoch,
            digest,
            keys,
            wanted_percent: table.wanted_percent(),
            pods: running(observed, candidate.as_deref()),
            candidate,
            token,
        };
        Some(Self { table, target })
    }
}

/// Pods whose gateway runs: only they can hold a table. Of a candidate's own, those of an earlier candidate are not ready for this one.
fn running(observed: &Observed, candidate: Option<&str>) -> Vec<PodAddress> {
    let own = observed.pods.iter().filter_map(|pod| address(pod, false));
    let is_of_it = |pod: &Pod| is_of(pod, candidate);
    let of_candidate = observed.candidates.iter().filter_map(|pod| {
        let address = address(pod, true)?;
        Some(PodAddress { ready: address.ready && is_of_it(pod), ..address })
    });
    own.chain(of_candidate).collect()
}

/// Whether a pod is one of this candidate's own.
pub(super) fn is_of(pod: &Pod, candidate: Option<&str>) -> bool {
    candidate.is_some() && pod.labels().get(names::LABEL_REVISION).map(String::as_str) == candidate
}

fn address(pod: &Pod, of_candidate: bool) -> Option<PodAddress> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.iter().flatten().find(|status| status.name == names::CONTAINER)?;
    container.state.as_ref()?.running.as_ref()?;
    let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    Some(PodAddress { uid: pod.uid()?, name: pod.name_any(), ip, ready: is_ready(pod), of_candidate })
}

/// Greatest epoch that is known from elsewhere than the ConfigMap. Pods are asked only when the ConfigMap is gone.
pub async fn known_epoch(context: &Context, observed: &Observed) -> u64 {
    let traffic = observed.gateway.status.as_ref().and_then(|status| status.traffic.as_ref());
    let status = traffic.and_then(|traffic| traffic.epoch).and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0);
    let (Some(token), None) = (&observed.secret.admin_token, observed.own(Part::Published)) else { return status };
    let reports = context.confirmations.ask_once(&running(observed, None), token).await;
    let own = reports.iter().filter(|report| report.gateway_uid == observed.uid());
    own.map(|report| report.epoch).max().unwrap_or(0).max(status)
}

/// A token that nobody can guess, in hexadecimal digits.
pub fn new_token() -> Result<SecretValue, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(SecretValue::new(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{observed, pod, publish_all};

    #[test]
    fn pods_that_stop_are_asked_but_not_as_ready_ones_and_pods_that_do_not_run_are_not() {
        let mut stopping = pod("b", true);
        stopping.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let mut crashed = pod("c", true);
        crashed.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].state = None;
        let pods = vec![pod("a", true), stopping, crashed, pod("d", false)];
        let asked = running(&Observed { pods, ..observed() }, None);
        let shown: Vec<_> = asked.iter().map(|pod| (pod.name.as_str(), pod.ready)).collect();
        assert_eq!(shown, [("ai-a", true), ("ai-b", false), ("ai-d", false)]);
    }

    #[test]
    fn what_is_asked_for_is_what_is_published() {
        assert!(InForce::of(&observed(), None).is_none());
        let seen = publish_all(observed());
        let in_force = InForce::of(&seen, None).unwrap();
        assert_eq!((in_force.target.epoch, in_force.table.percent), (1, 10));
        assert_eq!(in_force.target.digest, seen.live.published.as_ref().unwrap().digest);
        assert_eq!(in_force.target.keys["main"], 1);
    }

    #[test]
    fn pods_of_an_earlier_candidate_are_not_ready_for_this_one() {
        let of = |suffix: &str, revision: &str| {
            let mut pod = pod(suffix, true);
            pod.metadata.labels = Some([(names::LABEL_REVISION.to_owned(), revision.to_owned())].into());
            pod
        };
        let seen =
            Observed { candidates: vec![of("b", "old"), of("c", "new")], pods: vec![pod("a", true)], ..observed() };
        let shown = |candidate| {
            let asked = running(&seen, candidate);
            asked.iter().map(|pod| (pod.of_candidate, pod.ready)).collect::<Vec<_>>()
        };
        assert_eq!(shown(Some("new")), [(false, true), (true, false), (true, true)]);
        assert_eq!(shown(None), [(false, true), (true, false), (true, false)]);
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(one.expose().len(), 2 * TOKEN_BYTES);
        assert_ne!(one, two);
        assert!(crate::gateway::secret::running_token(None, Some(&one)).is_some(), "its form is known again");
    }
}
