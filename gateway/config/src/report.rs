//! What a gateway pod reports about itself on its admin port at [`PATH`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Path of the report on the admin port; asks for `Authorization: Bearer <admin token>`.
pub const PATH: &str = "/state";
/// Path of what was counted for the analysis; same token.
pub const ANALYSIS_PATH: &str = "/analysis";
/// Path on the admin port that makes the pod read its ConfigMap and Secret anew; same token.
pub const REFRESH_PATH: &str = "/refresh";
/// The port of the preview.
pub const PREVIEW_PORT: u16 = 8081;
/// The admin port.
pub const ADMIN_PORT: u16 = 9090;

/// The state of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateReport {
    /// UID of the BifrostGateway whose tables are loaded; empty before the first and when standalone.
    pub gateway_uid: String,
    /// Epoch of the traffic table in use.
    pub epoch: u64,
    /// Digest of the bytes of the members in use ([`crate::published::digest`]).
    pub digest: String,
    /// Generation of each key value in use.
    pub keys: BTreeMap<String, u64>,
    /// Why the newest published members are not in use, or what of them cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Eligible requests answered since this table's percent was loaded.
    pub eligible: ArmCounts,
    /// Version of the gateway.
    pub version: String,
}

/// Requests by arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArmCounts {
    /// Passed straight to the provider.
    pub baseline: u64,
    /// Went through the pipeline.
    pub bifrost: u64,
}

impl StateReport {
    /// Whether this pod acts upon exactly this: the condition of `Programmed`.
    pub fn confirms(&self, gateway_uid: &str, epoch: u64, digest: &str, keys: &BTreeMap<String, u64>) -> bool {
        self.gateway_uid == gateway_uid && self.epoch == epoch && self.digest == digest && self.keys == *keys
    }
}
