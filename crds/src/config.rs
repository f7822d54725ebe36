//! `spec.config` of a gateway: what its pods do with requests. Time limits and sizes are texts here; `bifrost_config` reads them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What the gateway's pods do with requests. Changes reach the pods in seconds, without a restart and without cutting a stream.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfig {
    /// How the gateway treats the applications that call it.
    #[serde(default)]
    pub client: ClientSpec,
    /// Certificates that the gateway trusts beside the well-known ones when it calls a provider: for providers behind a private CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// Vendors' endpoints that the gateway calls. The front /openai belongs to the only entry of type OpenAI, or to the one
    /// named openai where there are several; likewise /anthropic. Other entries are reached by writing the model as
    /// name/model.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub providers: Vec<ProviderSpec>,
}

/// How the gateway treats the applications that call it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientSpec {
    /// Largest request body that is accepted: a whole number of bytes, or one with Ki, Mi or Gi. A larger one is answered
    /// with 413.
    #[serde(default = "max_request_body")]
    #[schemars(schema_with = "schema::body_size")]
    pub max_request_body: String,
}

impl Default for ClientSpec {
    fn default() -> Self {
        Self { max_request_body: max_request_body() }
    }
}

/// A ConfigMap member with PEM certificates.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// Name of a ConfigMap in the gateway's namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Member of the ConfigMap that holds the certificates, PEM, one after the other. A change of it is followed without a
    /// restart.
    #[serde(default = "ca_bundle_key")]
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// One vendor's endpoint.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// Name of this entry, unique in the gateway: ProviderKeys and models written as name/model refer to it. A DNS-1035
    /// label of at most 45 characters.
    #[schemars(schema_with = "schema::provider_name")]
    pub name: String,
    /// Which vendor it is, or whose API it speaks: OpenAI or Anthropic.
    #[serde(rename = "type")]
    pub type_: ProviderType,
    /// Where the vendor is called: http:// or https://, host, and if needed port and path, without user name, query and
    /// fragment. Absent: the vendor's own address. Loopback and link-local addresses are refused. A ProviderKey must list
    /// any host that is not the vendor's own.
    #[serde(rename = "baseURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::base_url")]
    pub base_url: Option<String>,
    /// Time limits of calls to this provider.
    #[serde(default, skip_serializing_if = "NetworkSpec::is_empty")]
    pub network: NetworkSpec,
}

/// Vendors whose API the gateway knows.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderType {
    /// api.openai.com, and what speaks its API.
    OpenAI,
    /// api.anthropic.com.
    Anthropic,
}

/// Time limits of calls to one provider, as durations: whole numbers with ms, s, m or h, such as 90s or 1m30s. Their defaults
/// are not in the schema: kubectl apply takes a list whose entries were completed for a changed one.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Longest time until a connection stands, its TLS handshake included. Between 100ms and 24h. Absent: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timeout")]
    pub connect_timeout: Option<String>,
    /// Longest time from the end of the request until the answer begins. Between 100ms and 24h. Absent: 600s, because
    /// reasoning models are silent for minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timeout")]
    pub first_byte_timeout: Option<String>,
    /// Longest time of a whole call that is not streamed. Between 100ms and 24h. Absent: 600s. A stream is bounded by
    /// firstByteTimeout and streamIdleTimeout only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timeout")]
    pub request_timeout: Option<String>,
    /// Longest silence within a stream. Between 100ms and 24h. Absent: 300s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timeout")]
    pub stream_idle_timeout: Option<String>,
}

impl NetworkSpec {
    /// Whether no limit is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn max_request_body() -> String {
    "100Mi".into()
}

fn ca_bundle_key() -> String {
    "ca.crt".into()
}
