//! `spec.rollout` of a gateway: how a new revision of the gateway itself, its configuration or its image, takes over.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::migration::AnalysisSpec;
use crate::schema;

/// How a change of spec.config or of the image takes over from what runs.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.canary) || self.strategy == 'Canary'")
        .message("canary belongs to strategy Canary: take canary out, or set strategy: Canary")
        .field_path(".canary")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.blueGreen) || self.strategy == 'BlueGreen'")
        .message("blueGreen belongs to strategy BlueGreen: take blueGreen out, or set strategy: BlueGreen")
        .field_path(".blueGreen")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.strategy != 'Canary' || has(self.canary)")
        .message("strategy Canary needs canary.steps, such as [{percent: 10, hold: 10m}]")
        .field_path(".canary")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("self.strategy != 'BlueGreen' || has(self.blueGreen)")
        .message("strategy BlueGreen needs blueGreen: a preview, such as {pause: true}, or a watch, such as 30m, or both")
        .field_path(".blueGreen")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.analysis) || self.strategy != 'Rolling'")
        .message("under Rolling there is no candidate beside the stable revision to compare: take analysis out, or choose another strategy")
        .field_path(".analysis")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.analysis) || !has(self.analysis.checks) || self.analysis.checks.all(c, c.type != 'ShadowAgreement')")
        .message("copies compare the arms of a migration and say nothing of a candidate: take the check of type ShadowAgreement out")
        .field_path(".analysis.checks")
        .reason(Reason::FieldValueForbidden)
)]
pub struct RolloutSpec {
    /// Rolling: new configuration is in force at once, a new image pod by pod. Canary: the candidate gets a rising share of the
    /// users and replaces the stable revision after the last step. BlueGreen: the candidate is tried on the preview port,
    /// then gets everything at once.
    #[serde(default)]
    #[schemars(schema_with = "schema::words::<RolloutStrategy>")]
    pub strategy: RolloutStrategy,
    /// Strategy Canary: its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<RolloutCanarySpec>,
    /// Strategy BlueGreen: what is waited for before and after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<RolloutBlueGreenSpec>,
    /// How the candidate is compared with the stable revision. Below, baseline arm means the stable revision, bifrost arm the
    /// candidate, and migration the rollout. Absent: only containers that end, and the progress deadline, send the candidate back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisSpec>,
    /// How long a step may wait for its pods, such as 10m: for candidates that must become ready, for pods that must load the
    /// configuration, for the rolling update at the end. After that the candidate is taken back.
    #[serde(default = "progress_deadline")]
    #[schemars(schema_with = "schema::progress_deadline")]
    pub progress_deadline: String,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::Rolling,
            canary: None,
            blue_green: None,
            analysis: None,
            progress_deadline: progress_deadline(),
        }
    }
}

fn progress_deadline() -> String {
    "10m".to_owned()
}

/// How a new revision takes over.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RolloutStrategy {
    /// At once.
    #[default]
    Rolling,
    /// By a rising share.
    Canary,
    /// All at once, after a preview.
    BlueGreen,
}

/// The steps of a candidate, taken one after the other.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.steps.map(s, s.percent).isSorted() && self.steps.all(s, self.steps.exists_one(t, t.percent == s.percent))")
        .message("every step's percent must lie above the one before: sort the steps, and take out what is there twice")
        .field_path(".steps"),
    validation = Rule::new("self.steps.all(s, has(s.hold) || (has(s.pause) && s.pause) || s.percent == 100)")
        .message("a step without hold and pause is over within seconds: give each below 100 a hold, or pause: true; hold: 0s says that this is meant")
        .field_path(".steps")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("self.steps.all(s, s.percent != 100 || !has(s.pause) || !s.pause)")
        .message("at 100 percent the candidate serves everything, and nothing is left to wait for somebody: pause on the step before")
        .field_path(".steps")
        .reason(Reason::FieldValueForbidden)
)]
pub struct RolloutCanarySpec {
    /// The steps in the order in which they are taken, each with a higher percent than the one before. After the last one the
    /// candidate gets everything and becomes the stable revision; a step of 100 only says how long it is watched before that.
    #[schemars(length(min = 1, max = 32))]
    pub steps: Vec<RolloutStep>,
}

/// A step of a candidate.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStep {
    /// How many percent of the users the candidate serves, 1 to 100. What a user is, spec.migration.stickiness says; a request
    /// without one is decided by chance.
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
    /// How long every ready pod must have confirmed this step before the next one, such as 10m. Absent: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub hold: Option<String>,
    /// Whether the next step waits until somebody asks for it: kubectl bifrost promote --rollout, or the annotation
    /// bifrost.dev/rollout-request: promote/ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}

/// What is waited for before and after the switch to the candidate.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.preview) || has(self.watch)")
        .message("without preview and watch this is strategy Rolling: set preview, such as {pause: true}, or watch, such as 30m, or both")
        .field_path(".preview")
        .reason(Reason::FieldValueRequired)
)]
pub struct RolloutBlueGreenSpec {
    /// What must be waited for while only the preview Service, NAME-bifrost-preview at port 8081, serves the candidate. Absent: the
    /// candidate gets everything as soon as it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<RolloutPreviewSpec>,
    /// How long the candidate is watched after the switch, such as 30m, before it becomes the stable revision: until then a failed
    /// analysis, or a container that ends, switches back. Absent: it is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub watch: Option<String>,
}

/// What must be waited for before the switch.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.hold) || self.pause")
        .message("a preview without hold and pause ends at once: set hold, such as 10m, or pause: true")
        .field_path(".hold")
        .reason(Reason::FieldValueRequired)
)]
pub struct RolloutPreviewSpec {
    /// How long the preview must have been there before the switch, such as 10m. Absent: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub hold: Option<String>,
    /// Whether somebody must ask for the switch besides: kubectl bifrost promote --rollout, or the annotation
    /// bifrost.dev/rollout-request: promote/ID.
    #[serde(default)]
    pub pause: bool,
}
