//! The parts of a gateway's spec that shape its Kubernetes objects: Service, pods, disruption budget, network policy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The Service that applications call.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'ClusterIP' || self.allowUnauthenticated")
        .message("a Service outside the cluster lets everyone who reaches it spend the provider keys: keep type ClusterIP, or set allowUnauthenticated: true")
        .field_path(".allowUnauthenticated")
        .reason(Reason::FieldValueForbidden)
)]
pub struct ServiceSpec {
    /// Type of the Service: ClusterIP, NodePort or LoadBalancer. All but ClusterIP need allowUnauthenticated: true.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service, 1 to 65535.
    #[serde(default = "service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Permits a Service that can be reached from outside the cluster. The gateway asks callers for no credential of its own,
    /// so whoever reaches the Service spends the provider keys. The field refuses no caller by itself.
    #[serde(default)]
    pub allow_unauthenticated: bool,
    /// Annotations that are added to the Service, for instance for a cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::extra_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that are added to the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::extra_labels")]
    pub labels: BTreeMap<String, String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: service_port(),
            allow_unauthenticated: false,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// Type of the Service.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// Only inside the cluster.
    #[default]
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// A load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// The type as a Service spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// How a pod leaves. The pod's termination grace period is readinessDelay + timeout + 15s.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// Longest time that open requests and streams may go on after a pod was told to stop. Between 1s and 24h. Streams that
    /// are still open then end with an error event.
    #[serde(default = "drain_timeout")]
    #[schemars(schema_with = "schema::drain_timeout")]
    pub timeout: String,
    /// How long a stopping pod, already not ready, still accepts requests, so that load balancers notice. Between 0s and 10m.
    #[serde(default = "readiness_delay")]
    #[schemars(schema_with = "schema::readiness_delay")]
    pub readiness_delay: String,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self { timeout: drain_timeout(), readiness_delay: readiness_delay() }
    }
}

/// What is set on the gateway's pods. A change restarts them one after the other, without cutting a stream.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Requests and limits of the gateway's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have to run a pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Rules about nodes and other pods that the scheduler follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<Affinity>")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread. Absent: over zones and nodes as evenly as possible, without ever keeping a pod from running.
    /// An empty list: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::spread")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Labels that are added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::extra_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that are added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::extra_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Secrets of the gateway's namespace with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::embedded::<Vec<LocalObjectReference>>")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Priority class of the pods. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub priority_class_name: Option<String>,
    /// Annotations that are added to the pods' ServiceAccount, for instance for a cloud's workload identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::extra_annotations")]
    pub service_account_annotations: BTreeMap<String, String>,
}

/// How many pods may be away at a time.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilitySpec {
    /// The PodDisruptionBudget, which node drains and upgrades respect.
    #[serde(default)]
    pub pod_disruption_budget: DisruptionBudgetSpec,
}

/// The PodDisruptionBudget.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudgetSpec {
    /// How many pods may be evicted at a time, at least 1, so that a node can always be drained.
    #[serde(default = "max_unavailable")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: i32,
}

impl Default for DisruptionBudgetSpec {
    fn default() -> Self {
        Self { max_unavailable: max_unavailable() }
    }
}

/// Who may open connections to the pods. Needs a cluster network that enforces NetworkPolicies.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Whether a NetworkPolicy is made: it admits the gateway's own namespace and the peers in from to the applications'
    /// ports, and every pod of the cluster to the port of health and metrics.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Further peers that may call the gateway, as a NetworkPolicy has them. Clients that come through a load balancer need
    /// an ipBlock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::embedded::<Vec<NetworkPolicyPeer>>")]
    pub from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: enabled(), from: Vec::new() }
    }
}

fn service_port() -> i32 {
    8080
}

fn drain_timeout() -> String {
    "300s".into()
}

fn readiness_delay() -> String {
    "5s".into()
}

fn max_unavailable() -> i32 {
    1
}

fn enabled() -> bool {
    true
}
