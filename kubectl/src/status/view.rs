//! What is shown of a gateway, as data: a pure function of the objects.

use bifrost_crds::conditions::{ACCEPTED, DEGRADED, PAUSED, PROGRESSING, READY, RECONCILING, STALLED};
use bifrost_crds::{
    AnalysisStatus, BifrostGateway, BifrostGatewayStatus, KeyCounts, MigrationStatus, RolloutStatus, ShadowStatus,
    TrafficStatus,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::Serialize;

/// A gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) name: String,
    pub(super) namespace: String,
    /// `True`, `False` or `Unknown`.
    pub(super) ready: String,
    /// Reason and words of the condition Ready.
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether the status describes an older spec.
    pub(super) outdated: bool,
    pub(super) paused: bool,
    pub(super) strategy: String,
    pub(super) rollout_strategy: String,
    pub(super) wanted_replicas: i32,
    pub(super) ready_replicas: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) migration: Option<MigrationStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<TrafficStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) analysis: Option<AnalysisStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow: Option<ShadowStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rollout: Option<RolloutStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<KeyCounts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<Endpoint>,
    /// Conditions that are not as they should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) conditions: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pods: Vec<PodView>,
    /// Pods of the candidate's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) candidate_pods: Vec<PodView>,
    /// Why the pods cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pods_fault: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Endpoint {
    pub(super) what: &'static str,
    pub(super) url: String,
}

/// A condition that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fault {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) since: Time,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodView {
    pub(super) name: String,
    /// `ready`, or what it is instead.
    pub(super) state: String,
    pub(super) restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Time>,
}

impl View {
    /// Whether the spec is not accepted.
    pub(super) fn is_refused(&self) -> bool {
        self.conditions.iter().any(|fault| fault.type_ == ACCEPTED && fault.status == "False")
    }
}

/// Gathers what is shown, of the gateway, its pods and those of the candidate.
pub(super) fn view(gateway: &BifrostGateway, own: &[Pod], candidates: &[Pod]) -> View {
    let status = gateway.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
    let (reason, message) = ready.map_or_else(
        || ("NotSeen".to_owned(), "no operator has reported on it: see `kubectl bifrost preflight`".to_owned()),
        |condition| (condition.reason.clone(), condition.message.clone()),
    );
    let strategy = status.migration.as_ref().and_then(|migration| migration.strategy);
    let strategy = strategy.unwrap_or_else(|| crate::change::strategy(&gateway.spec.migration));
    View {
        name: gateway.name_any(),
        namespace: gateway.namespace().unwrap_or_default(),
        ready: ready.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone()),
        reason,
        message,
        outdated: status.observed_generation != gateway.metadata.generation,
        paused: gateway.spec.paused,
        strategy: format!("{strategy:?}"),
        rollout_strategy: format!("{:?}", gateway.spec.rollout.strategy),
        wanted_replicas: gateway.spec.replicas,
        ready_replicas: status.ready_replicas.unwrap_or(0),
        endpoints: endpoints(&status),
        conditions: status.conditions.iter().filter(|condition| !is_fine(condition)).map(fault).collect(),
        migration: status.migration,
        traffic: status.traffic,
        analysis: status.analysis,
        shadow: status.shadow,
        rollout: status.rollout,
        keys: status.keys,
        pods: pods(own),
        candidate_pods: pods(candidates),
        pods_fault: None,
    }
}

fn endpoints(status: &BifrostGatewayStatus) -> Vec<Endpoint> {
    let endpoints = status.endpoints.clone().unwrap_or_default();
    let named = [("service", endpoints.service), ("preview", endpoints.preview)];
    named.into_iter().filter_map(|(what, url)| Some(Endpoint { what, url: url? })).collect()
}

/// Some conditions are good news when they hold, some are bad. Ready stands in the first line.
fn is_fine(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        READY => true,
        STALLED | RECONCILING | PROGRESSING | DEGRADED | PAUSED => condition.status == "False",
        _ => condition.status == "True",
    }
}

fn fault(condition: &Condition) -> Fault {
    Fault {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.clone(),
    }
}

fn pods(pods: &[Pod]) -> Vec<PodView> {
    let mut views: Vec<_> = pods.iter().map(pod).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

fn pod(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    PodView {
        name: pod.name_any(),
        state: state(pod, containers),
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        since: status.start_time,
    }
}

fn state(pod: &Pod, containers: &[ContainerStatus]) -> String {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
    if pod.metadata.deletion_timestamp.is_some() {
        return "ending".to_owned();
    }
    if holds("Ready") {
        return "ready".to_owned();
    }
    let states = containers.iter().filter_map(|container| container.state.as_ref());
    let waiting = states.filter_map(|state| state.waiting.as_ref()?.reason.clone()).next();
    let unscheduled =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    waiting
        .or_else(|| unscheduled.map(|condition| condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned())))
        .unwrap_or_else(|| "not ready".to_owned())
}
