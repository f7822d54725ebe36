//! `spec.migration.canary`: the steps of a canary.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The steps of a canary, taken one after the other.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.steps.map(s, s.percent).isSorted() && self.steps.all(s, self.steps.exists_one(t, t.percent == s.percent))")
        .message("every step's percent must lie above the one before: sort the steps, and take out what is there twice")
        .field_path(".steps"),
    validation = Rule::new("self.steps.all(s, has(s.hold) || (has(s.pause) && s.pause) || s.percent == self.steps[size(self.steps) - 1].percent)")
        .message("a step without hold and pause is over within seconds: give each but the last a hold, or pause: true; hold: 0s says that this is meant")
        .field_path(".steps")
        .reason(Reason::FieldValueRequired)
)]
pub struct CanarySpec {
    /// The steps in the order in which they are taken, each with a higher percent than the one before. The last one says how
    /// far the canary goes: taking steps away at the end goes back at once.
    #[schemars(length(min = 1, max = 32))]
    pub steps: Vec<CanaryStep>,
}

/// A step of a canary.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStep {
    /// How many percent of the eligible users take the bifrost arm, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
    /// How long every ready pod must have confirmed this step before the next one, such as 10m. Absent: no time; each step but
    /// the last needs hold or pause: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub hold: Option<String>,
    /// Whether the next step waits until somebody asks for it: kubectl bifrost promote, or the annotation
    /// bifrost.dev/request: promote/ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}
