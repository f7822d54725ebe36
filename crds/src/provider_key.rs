//! The kind ProviderKey: one credential of a vendor. The value itself stays in its Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which credential it is and what it may be used for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bifrost.dev",
    version = "v1alpha1",
    kind = "ProviderKey",
    plural = "providerkeys",
    shortname = "pk",
    category = "bifrost",
    namespaced,
    status = "ProviderKeyStatus",
    derive = "PartialEq",
    doc = "A vendor's credential that the gateways of its namespace may use. Several keys of a provider share its load by weight. The value lies in a Secret; whoever writes a ProviderKey must be allowed to get that Secret.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether gateways use it."
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.provider",
        description = "Provider it belongs to."
    ),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".spec.weight", description = "Relative weight."),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled", description = "The kill switch."),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or why not."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
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
pub struct ProviderKeySpec {
    /// Name of the entry of a gateway's config.providers that this key belongs to. It cannot be changed: make a new
    /// ProviderKey instead.
    #[schemars(schema_with = "schema::provider_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("cannot be changed: make a new ProviderKey for the other provider"))]
    pub provider: String,
    /// Where the credential's value lies.
    pub secret_ref: SecretKeyRef,
    /// Models that this key may be used for, as the vendor spells them. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::models")]
    pub models: Vec<String>,
    /// Share of the load among the keys that serve a model, relative to the weights of the others, 1 to 1000.
    #[serde(default = "weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: i32,
    /// Whether the key is used. false takes it out of every pod within seconds.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Hosts that the key may be sent to. Empty: the vendor's own. Must list the host of the provider's baseURL where that is
    /// another; a pod sends the key nowhere else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::hosts")]
    pub hosts: Vec<String>,
}

/// A member of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in the same namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Member of the Secret that holds the value. A change of it is followed in seconds, without a restart.
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// What became of the key.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProviderKeyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Ready: gateways use the key. Resolved: its Secret exists and holds the member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

fn weight() -> i32 {
    1
}

fn enabled() -> bool {
    true
}
