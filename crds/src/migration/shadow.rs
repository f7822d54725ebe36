//! `spec.migration.shadow`: copies of one arm's requests to the other, to compare the answers before anybody depends on them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A share of one arm's requests is run on the other arm too, once they were answered. The copy's answer goes to nobody, it is only
/// compared with the first one. With any strategy. Copies cost money, and each model that is copied needs a price (value prices of the
/// operator's chart).
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShadowSpec {
    /// How many percent of the arm's eligible requests are copied, by chance, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Whose requests are copied to the other arm. Baseline: those that go straight to the vendor, so the copies take the pool's
    /// keys. Bifrost: those that go through the gateway, so the copies take the caller's own credential and its bill.
    #[serde(default)]
    #[schemars(schema_with = "schema::words::<ShadowedArm>")]
    pub of: ShadowedArm,
    /// The most that copies may cost in a day (UTC), over all pods, such as 10.00, in the currency of the price list. It becomes
    /// available over the day; when it is used up, nothing is copied. What could exceed it is not begun.
    #[schemars(schema_with = "schema::money")]
    pub daily_limit: String,
    /// Which requests are never copied. Those that make or name something stored at the vendor never are.
    #[serde(default)]
    pub skip: ShadowSkip,
}

/// An arm.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShadowedArm {
    /// Straight to the vendor.
    #[default]
    Baseline,
    /// Through the gateway.
    Bifrost,
}

/// Which requests are never copied.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShadowSkip {
    /// Requests with tools. What a model does with a tool may happen in the world, and a copy would make it happen twice.
    #[serde(default = "tools")]
    pub tools: bool,
    /// Requests whose body is larger than this: a whole number of bytes, or one with Ki or Mi, from 1Ki to 1Mi.
    #[serde(default = "size")]
    #[schemars(schema_with = "schema::shadow_size")]
    pub size: String,
    /// Requests with this header, whatever its value. Absent: no header is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::header_name")]
    pub header: Option<String>,
}

impl Default for ShadowSkip {
    fn default() -> Self {
        Self { tools: tools(), size: size(), header: None }
    }
}

const fn tools() -> bool {
    true
}

fn size() -> String {
    "256Ki".to_owned()
}
