//! The kind BifrostGateway: one gateway, its providers and how traffic moves to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::config::GatewayConfig;
use crate::migration::MigrationSpec;
use crate::rollout::RolloutSpec;
use crate::schema;
use crate::status::BifrostGatewayStatus;
use crate::workload::{AvailabilitySpec, DrainSpec, NetworkPolicySpec, PodSettings, ServiceSpec};

/// What the gateway shall be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bifrost.dev",
    version = "v1alpha1",
    kind = "BifrostGateway",
    plural = "bifrostgateways",
    shortname = "bgw",
    category = "bifrost",
    namespaced,
    status = "BifrostGatewayStatus",
    derive = "PartialEq",
    doc = "A gateway for the traffic of LLM applications: pods behind a Service that serve the vendors' own APIs, the vendors they call, and the share of the traffic that takes the gateway's pipeline instead of going straight to the vendor.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Accepted, programmed and available."
    ),
    printcolumn(
        name = "Strategy",
        type_ = "string",
        json_path = ".status.migration.strategy",
        description = "Strategy in force."
    ),
    printcolumn(
        name = "Bifrost%",
        type_ = "integer",
        json_path = ".status.traffic.wantedPercent",
        description = "Percent of the eligible requests that take the bifrost arm."
    ),
    printcolumn(
        name = "Step",
        type_ = "string",
        json_path = ".status.migration.step",
        description = "Where the migration is: the step of how many, the phase or the colour."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Ready pods."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or why not."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keys.ready",
        description = "Provider keys in use.",
        priority = 1
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoints.service",
        description = "Base address for applications inside the cluster.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "The reason in words.",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 45 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS-1035 label of at most 45 characters: lower-case letters, digits and '-', a letter first, no '-' at the end")
)]
#[x_kube(
    validation = Rule::new("!(has(oldSelf.migration) && (has(oldSelf.migration.strategy) || has(oldSelf.migration.canaryPercent) || has(oldSelf.migration.canary))) || (has(self.migration) && (has(self.migration.strategy) || has(self.migration.canaryPercent) || has(self.migration.canary)))")
        .message("without strategy, canaryPercent and canary all traffic would move to the gateway at once: if that is meant, set strategy: DropIn; else keep what was set")
        .field_path(".migration")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!(has(self.rollout) && self.rollout.strategy == 'BlueGreen') || !(has(self.migration) && has(self.migration.strategy) && self.migration.strategy == 'BlueGreen')")
        .message("the one preview cannot show a colour of the migration and a candidate of the rollout: roll out by Canary or Rolling while the migration is BlueGreen")
        .field_path(".rollout.strategy")
        .reason(Reason::FieldValueForbidden)
)]
pub struct BifrostGatewaySpec {
    /// How many pods serve, 0 to 1000.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Image of the gateway. Absent: the one that runs already; for a new gateway, the one of the operator's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,
    /// Holds back what adds or changes: a new image, new configuration, new pods, a rising percent. What takes away goes on:
    /// a lower percent, disabled or deleted keys, rotated Secrets.
    #[serde(default)]
    pub paused: bool,
    /// Which ProviderKeys of the gateway's namespace it uses, by their labels. Empty: all.
    #[serde(default)]
    #[schemars(schema_with = "schema::label_selector")]
    pub provider_key_selector: LabelSelector,
    /// What the pods do with requests.
    pub config: GatewayConfig,
    /// The Service that applications call.
    #[serde(default)]
    pub service: ServiceSpec,
    /// How a pod leaves: at a rolling update, a node drain or when there are fewer replicas.
    #[serde(default)]
    pub drain: DrainSpec,
    /// What is set on the pods.
    #[serde(default)]
    pub pod: PodSettings,
    /// How many pods may be away at a time.
    #[serde(default)]
    pub availability: AvailabilitySpec,
    /// Who may open connections to the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// Which share of the traffic takes the gateway's pipeline, and which goes straight to the vendor.
    #[serde(default)]
    pub migration: MigrationSpec,
    /// How a change of config or image takes over from what runs. Whatever else changes is no part of it: provider keys and the
    /// migration take effect at once, in the stable revision and in the candidate, other settings of the pods pod by pod.
    #[serde(default)]
    pub rollout: RolloutSpec,
}

/// Image of the gateway. A part that is absent is the one that runs already; for a new gateway, the one of the operator's
/// release.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// Registry and name, without tag. The operator must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image_repository")]
    pub repository: Option<String>,
    /// Tag, with or without a digest: 0.1.0, or 0.1.0@sha256: and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image_tag")]
    pub tag: Option<String>,
}

fn replicas() -> i32 {
    3
}
