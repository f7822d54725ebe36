//! Checks of the gateway itself: accepted, ready, its keys, and what it needs to stay up.

use std::collections::BTreeSet;

use bifrost_config::BaseUrl;
use bifrost_config::catalog::ProviderType as Vendor;
use bifrost_config::units::parse_duration;
use bifrost_crds::conditions::{ACCEPTED, READY, RESOLVED};
use bifrost_crds::{ProviderKey, ProviderSpec, ProviderType};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::facts::Facts;
use super::finding::Finding;
use crate::compat::is_ready;
use crate::human::count;
use crate::keys::why;

impl Facts {
    /// `ai -n llm`.
    pub(super) fn target(&self) -> String {
        format!("{} -n {}", self.gateway.name_any(), self.gateway.namespace().unwrap_or_default())
    }

    fn condition(&self, type_: &str) -> Option<&Condition> {
        let conditions = &self.gateway.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the spec is not accepted.
    pub(super) fn is_refused(&self) -> bool {
        self.condition(ACCEPTED).is_some_and(|condition| condition.status == "False")
    }

    /// The command by which a spec is mended.
    pub(super) fn edit(&self) -> String {
        format!("kubectl edit bgw {}", self.target())
    }

    /// A command that changes the gateway.
    pub(super) fn patch(&self, patch: &str) -> String {
        format!("kubectl patch bgw {} --type=merge -p '{patch}'", self.target())
    }
}

/// Whether the newest spec is valid.
pub(super) fn accepted(facts: &Facts) -> Finding {
    match facts.condition(ACCEPTED) {
        Some(condition) if condition.observed_generation < facts.gateway.metadata.generation => {
            let fix = "kubectl get deploy -A -l app.kubernetes.io/name=bifrost-operator";
            Finding::fail(
                "accepted",
                "the operator has not looked at the newest spec: does it serve this namespace?",
                fix,
            )
        }
        Some(condition) if condition.status == "True" => Finding::ok("accepted", "the spec is valid"),
        Some(condition) => Finding::fail("accepted", condition.message.clone(), facts.edit()),
        None => Finding::fail(
            "accepted",
            "no operator has looked at it: the chart's watch.namespaces must name this namespace, by a helm upgrade",
            "helm get values bifrost -n bifrost-system",
        ),
    }
}

/// Whether it serves.
pub(super) fn ready(facts: &Facts) -> Finding {
    match facts.condition(READY) {
        Some(condition) if condition.status == "True" => Finding::ok("ready", "accepted, programmed and available"),
        condition => {
            let why = condition.map_or("nothing is reported", |condition| condition.message.as_str());
            Finding::fail("ready", why, format!("kubectl bifrost status {}", facts.target()))
        }
    }
}

/// Whether every provider has a key that can be used, and every key a value.
pub(super) fn keys(facts: &Facts) -> Vec<Finding> {
    let see = format!("kubectl bifrost keys {}", facts.target());
    let holds = |key: &ProviderKey, type_: &str| {
        let conditions = key.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    let enabled: Vec<_> = facts.keys.iter().filter(|key| key.spec.enabled).collect();
    let unresolved = enabled.iter().filter(|key| !holds(key, RESOLVED));
    let unresolved: Vec<_> = unresolved.map(|key| format!("{} ({})", key.name_any(), why(key))).collect();
    let resolved = match unresolved.is_empty() {
        true => Finding::ok("keys", format!("{} enabled, each with a value", count(enabled.len(), "key"))),
        false => Finding::fail("keys", format!("not resolved: {}", unresolved.join(", ")), see.clone()),
    };
    let providers = facts.gateway.spec.config.providers.iter().map(|provider| provider.name.as_str());
    let without = providers.filter(|name| !enabled.iter().any(|key| key.spec.provider == *name && holds(key, READY)));
    let without: Vec<_> = without.collect();
    let served = match without.is_empty() {
        true => Finding::ok("providers", "each has a key in use"),
        false => Finding::fail(
            "providers",
            format!("without a key in use, so the bifrost arm answers 503: {}", without.join(", ")),
            see,
        ),
    };
    vec![resolved, served]
}

/// The pods that do not get on, if there are any.
pub(super) fn stuck(facts: &Facts) -> Option<Finding> {
    let waits = |pod: &Pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
        let mut reasons = containers.iter().filter_map(|one| one.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        let reason = reasons.find(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
        Some((pod.name_any(), format!("{} waits: {reason}", pod.name_any())))
    };
    let pods = facts.pods.as_ref().ok()?.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let stuck: Vec<_> = pods.filter_map(waits).collect();
    let (first, _) = stuck.first()?;
    let texts: Vec<_> = stuck.iter().map(|(_, text)| text.as_str()).collect();
    let namespace = facts.gateway.namespace().unwrap_or_default();
    Some(Finding::fail("pods", texts.join(", "), format!("kubectl describe pod -n {namespace} {first}")))
}

/// Whether the Secrets exist.
pub(super) fn secrets(facts: &Facts) -> Finding {
    let namespace = facts.gateway.namespace().unwrap_or_default();
    let missing: Vec<_> =
        facts.secrets.iter().filter(|(_, found)| **found == Ok(false)).map(|(name, _)| name.as_str()).collect();
    let unread = facts.secrets.values().find_map(|found| found.as_ref().err());
    match (missing.first(), unread) {
        (Some(first), _) => Finding::fail(
            "secrets",
            format!("do not exist: {}", missing.join(", ")),
            format!("kubectl create secret generic {first} -n {namespace}{}", files(facts, first)),
        ),
        (None, Some(why)) => Finding::unknown("secrets", why, format!("kubectl get secret -n {namespace}")),
        (None, None) => Finding::ok("secrets", format!("{} of the keys exist", count(facts.secrets.len(), "Secret"))),
    }
}

/// Each member of a Secret that keys name, as a file.
fn files(facts: &Facts, secret: &str) -> String {
    let references = facts.keys.iter().map(|key| &key.spec.secret_ref);
    let members: BTreeSet<_> = references.filter(|one| one.name == secret).map(|one| one.key.as_str()).collect();
    members.into_iter().map(|member| format!(" --from-file={member}=FILE")).collect()
}

/// Whether each key may be sent to where its provider is.
pub(super) fn hosts(facts: &Facts) -> Finding {
    for key in &facts.keys {
        let provider = facts.gateway.spec.config.providers.iter().find(|provider| provider.name == key.spec.provider);
        let Some(host) = provider.and_then(host) else { continue };
        let vendors = provider.is_some_and(|provider| vendor(provider).vendor().hosts.contains(&host.as_str()));
        let listed = key.spec.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(&host));
        let allowed = if key.spec.hosts.is_empty() { vendors } else { listed };
        if !allowed {
            let name = key.name_any();
            let namespace = facts.gateway.namespace().unwrap_or_default();
            return Finding::fail(
                "hosts",
                format!("key {name} may not be sent to {host}, where provider {} is", key.spec.provider),
                format!(
                    "kubectl patch pk {name} -n {namespace} --type=merge -p '{{\"spec\":{{\"hosts\":[\"{host}\"]}}}}'"
                ),
            );
        }
    }
    Finding::ok("hosts", "every key may be sent to where its provider is")
}

fn host(provider: &ProviderSpec) -> Option<String> {
    let url = provider.base_url.as_deref().unwrap_or(vendor(provider).vendor().base_url);
    Some(BaseUrl::parse(url).ok()?.host)
}

const fn vendor(provider: &ProviderSpec) -> Vendor {
    match provider.type_ {
        ProviderType::OpenAI => Vendor::OpenAI,
        ProviderType::Anthropic => Vendor::Anthropic,
    }
}

/// Whether one pod may fail.
pub(super) fn replicas(facts: &Facts) -> Finding {
    match facts.gateway.spec.replicas {
        wanted @ 2.. => Finding::ok("replicas", format!("{wanted} are wanted")),
        wanted => {
            let sentence = format!("{wanted} wanted: at least 2 are needed for one to be away");
            Finding::fail("replicas", sentence, scale(facts))
        }
    }
}

fn scale(facts: &Facts) -> String {
    format!("kubectl scale bgw {} --replicas=3", facts.target())
}

/// Whether a node can be drained without taking all pods.
pub(super) fn disruption_budget(facts: &Facts) -> Finding {
    let see = format!("kubectl get pdb -n {}", facts.gateway.namespace().unwrap_or_default());
    let most = facts.gateway.spec.availability.pod_disruption_budget.max_unavailable;
    match &facts.budget {
        Ok(true) if most >= facts.gateway.spec.replicas && facts.gateway.spec.replicas > 0 => Finding::warn(
            "disruption",
            format!("the PodDisruptionBudget lets all pods be evicted at a time ({most})"),
            match facts.gateway.spec.replicas {
                ..=1 => scale(facts),
                _ => facts.patch(r#"{"spec":{"availability":{"podDisruptionBudget":{"maxUnavailable":1}}}}"#),
            },
        ),
        Ok(true) => Finding::ok("disruption", format!("the PodDisruptionBudget lets {most} be away at a time")),
        Ok(false) => Finding::fail(
            "disruption",
            "the PodDisruptionBudget does not exist: the operator makes it, is it running?",
            see,
        ),
        Err(why) => Finding::unknown("disruption", why, see),
    }
}

/// Whether one node may fail.
pub(super) fn spread(facts: &Facts) -> Finding {
    let see = format!("kubectl get pods -n {} -o wide", facts.gateway.namespace().unwrap_or_default());
    let pods = match &facts.pods {
        Ok(pods) => pods,
        Err(why) => return Finding::unknown("spread", why, see),
    };
    let ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let nodes: BTreeSet<_> = ready.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    match (ready.len(), nodes.len()) {
        (_, 2..) => Finding::ok("spread", format!("the ready pods are on {}", count(nodes.len(), "node"))),
        (pods, nodes) => {
            let (pods, nodes) = (count(pods, "ready pod"), count(nodes, "node"));
            Finding::warn("spread", format!("{pods} on {nodes}: with the node all would be away"), see)
        }
    }
}

/// Whether the pool is open to everybody.
pub(super) fn network_policy(facts: &Facts) -> Finding {
    match facts.gateway.spec.network_policy.enabled {
        true => Finding::ok("network", "a NetworkPolicy says who may call the gateway"),
        false => Finding::warn(
            "network",
            "there is no NetworkPolicy: whoever reaches the gateway spends the pool's keys",
            facts.patch(r#"{"spec":{"networkPolicy":{"enabled":true}}}"#),
        ),
    }
}

/// Whether the numbers can be read with which the arms are compared.
pub(super) fn monitoring(facts: &Facts) -> Finding {
    let fix = format!(
        "kubectl port-forward -n {} deploy/{} 9090",
        facts.gateway.namespace().unwrap_or_default(),
        facts.gateway.name_any()
    );
    match &facts.metrics {
        Ok(true) => Finding::ok("monitoring", "a pod shows the gateway's metrics on port 9090"),
        Ok(false) => {
            Finding::fail("monitoring", "localhost:9090/metrics of a pod shows no metrics of the gateway", fix)
        }
        Err(why) => Finding::unknown("monitoring", why, fix),
    }
}

/// Whether a pod that stops waits as long as an answer may take. A stream has no longest time, an answer that is not streamed has.
pub(super) fn drain(facts: &Facts) -> Finding {
    let text = &facts.gateway.spec.drain.timeout;
    let drain = parse_duration(text).unwrap_or_default();
    let limits = facts.gateway.spec.config.providers.iter().map(|provider| {
        let limit = provider.network.request_timeout.as_deref().unwrap_or("600s");
        (parse_duration(limit).unwrap_or_default(), limit, provider.name.as_str())
    });
    match limits.max() {
        Some((longest, limit, name)) if longest > drain => Finding::warn(
            "drain",
            format!(
                "drain.timeout {text} is shorter than the {limit} that an answer of {name} may take: a longer one, or stream, is cut when pods restart"
            ),
            facts.patch(&format!(r#"{{"spec":{{"drain":{{"timeout":"{limit}"}}}}}}"#)),
        ),
        _ => Finding::ok("drain", format!("a pod that stops waits {text} for what is under way")),
    }
}
