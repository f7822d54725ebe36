//! `spec.migration` of a gateway: which share of the traffic goes through it and which straight to the vendor.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which share of the eligible requests takes the gateway's pipeline (bifrost arm); the others are passed on to the vendor
/// unchanged, with the caller's own credential (baseline arm).
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.strategy) && self.strategy == 'DropIn' && has(self.canaryPercent))")
        .message("canaryPercent belongs to strategy Canary: under DropIn all eligible requests take the bifrost arm, so take canaryPercent out, or set strategy: Canary")
        .field_path(".canaryPercent")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!(has(self.strategy) && self.strategy == 'Canary') || has(self.canaryPercent)")
        .message("strategy Canary needs canaryPercent, a whole number from 0 to 100")
        .field_path(".canaryPercent")
        .reason(Reason::FieldValueRequired)
)]
pub struct MigrationSpec {
    /// How traffic moves to the gateway. DropIn: all eligible requests take the bifrost arm. Canary: canaryPercent of them
    /// do. Absent: Canary where canaryPercent is set, else DropIn. Once strategy or canaryPercent was set, an update must
    /// set one of them: say DropIn to end a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<Strategy>")]
    pub strategy: Option<Strategy>,
    /// Strategy Canary: how many percent of the eligible users take the bifrost arm, 0 to 100. Raising it never moves a user
    /// back; 0 sends everybody straight to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub canary_percent: Option<i32>,
    /// What keeps a user on the same arm.
    #[serde(default)]
    pub stickiness: Stickiness,
}

/// How traffic moves to the gateway.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All eligible requests take the bifrost arm.
    DropIn,
    /// A share of the eligible requests takes the bifrost arm.
    Canary,
}

/// What keeps a user on the same arm.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.key != 'Header' || has(self.header)")
        .message("key Header needs the header's name: set header")
        .field_path(".header")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("self.key == 'Header' || !has(self.header)")
        .message("header belongs to key Header: take it out, or set key: Header")
        .field_path(".header")
        .reason(Reason::FieldValueForbidden)
)]
pub struct Stickiness {
    /// Where a request says whose it is. Auto: the header x-bf-session-id, else safety_identifier, user or metadata.user_id
    /// in the body. Header: the header named in header. Body: the members of the body only. Credential: the caller's
    /// credential, so that whole applications move together. None: each request by itself. A request that says nothing is
    /// decided by chance.
    #[serde(default)]
    pub key: StickinessKey,
    /// Key Header: name of the request header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::header_name")]
    pub header: Option<String>,
    /// Salt of the hash that assigns users to arms. Absent: namespace/name of the gateway. Gateways with the same salt choose
    /// the same users; a changed salt chooses others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::salt")]
    pub salt: Option<String>,
}

/// Where a request says whose it is.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StickinessKey {
    /// The session header, else the user in the body.
    #[default]
    Auto,
    /// A header of the gateway's owner's choice.
    Header,
    /// The user in the body.
    Body,
    /// The caller's credential.
    Credential,
    /// Each request by itself.
    None,
}
