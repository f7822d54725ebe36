//! `spec.migration` of a gateway: which share of the traffic goes through it and which straight to the vendor.

mod analysis;
mod blue_green;
mod canary;
mod gradual;
mod shadow;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::analysis::{
    AnalysisCheck, AnalysisMetric, AnalysisSpec, CheckAction, CheckType, FailureClass, PrometheusMetric, RollbackSpec,
    RollbackTarget, WebhookMetric,
};
pub use self::blue_green::{BlueGreenSpec, Colour, PreviewSpec};
pub use self::canary::{CanarySpec, CanaryStep};
pub use self::gradual::{Advance, EndpointKind, GradualSpec, HeaderMatch, Phase, PhaseRule, RequestMatch};
pub use self::shadow::{ShadowSkip, ShadowSpec, ShadowedArm};
use crate::schema;

/// Which share of the eligible requests takes the gateway's pipeline (bifrost arm); the others are passed on to the vendor
/// unchanged, with the caller's own credential (baseline arm).
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.canaryPercent) || !has(self.strategy) || self.strategy == 'Canary'")
        .message("canaryPercent belongs to strategy Canary: take canaryPercent out, or set strategy: Canary")
        .field_path(".canaryPercent")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.canary) || !has(self.strategy) || self.strategy == 'Canary'")
        .message("canary belongs to strategy Canary: take canary out, or set strategy: Canary")
        .field_path(".canary")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.canary) || !has(self.canaryPercent)")
        .message("canaryPercent moves by hand, canary.steps by themselves: take one of the two out")
        .field_path(".canaryPercent")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.gradual) || (has(self.strategy) && self.strategy == 'Gradual')")
        .message("gradual belongs to strategy Gradual: take gradual out, or set strategy: Gradual")
        .field_path(".gradual")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.blueGreen) || (has(self.strategy) && self.strategy == 'BlueGreen')")
        .message("blueGreen belongs to strategy BlueGreen: take blueGreen out, or set strategy: BlueGreen")
        .field_path(".blueGreen")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!(has(self.strategy) && self.strategy == 'Canary') || has(self.canaryPercent) || has(self.canary)")
        .message("strategy Canary needs canaryPercent, a whole number from 0 to 100, or canary.steps")
        .field_path(".canaryPercent")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!(has(self.strategy) && self.strategy == 'Gradual') || has(self.gradual)")
        .message("strategy Gradual needs gradual: its phases, and currentPhase")
        .field_path(".gradual")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!(has(self.strategy) && self.strategy == 'BlueGreen') || has(self.blueGreen)")
        .message("strategy BlueGreen needs blueGreen.active: Blue or Green")
        .field_path(".blueGreen")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!(self.stickiness.key in ['None', 'Credential']) || !has(self.gradual) || self.gradual.phases.all(p, p.rules.all(r, !has(r.match.users) || size(r.match.users) == 0))")
        .message("rules of gradual name users, and with this key no request says whose it is: set key to Auto, Body or Header, or take users out")
        .field_path(".stickiness.key"),
    validation = Rule::new("!has(self.analysis) || (has(self.strategy) ? self.strategy != 'DropIn' : (has(self.canaryPercent) || has(self.canary)))")
        .message("under DropIn there is no baseline arm to compare with: take analysis out, or choose another strategy")
        .field_path(".analysis")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.analysis) || !has(self.analysis.checks) || has(self.shadow) || self.analysis.checks.all(c, c.type != 'ShadowAgreement')")
        .message("a check of type ShadowAgreement needs copies: set shadow, or take the check out")
        .field_path(".shadow")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.analysis) || !has(self.blueGreen) || has(self.blueGreen.preview) || has(self.blueGreen.watch)")
        .message("analysis would never look at green: set watch, such as 30m, or preview, or take analysis out")
        .field_path(".blueGreen.watch")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.rollback) || has(self.analysis) || has(self.canary) || (has(self.gradual) && self.gradual.advance == 'Automatic') || (has(self.blueGreen) && (has(self.blueGreen.preview) || has(self.blueGreen.watch)))")
        .message("nothing rolls back by itself here: set analysis as well, or take rollback out")
        .field_path(".rollback")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.rollback) || self.rollback.to != 'PreviousStep' || !has(self.canaryPercent)")
        .message("canaryPercent by hand has no step before: set to: Baseline, or write canary.steps")
        .field_path(".rollback.to"),
    validation = Rule::new("!has(self.shadow) || self.shadow.of == 'Bifrost' || (has(self.strategy) ? self.strategy != 'DropIn' : (has(self.canaryPercent) || has(self.canary)))")
        .message("under DropIn no request takes the baseline arm, so there is none to copy: set of: Bifrost, or take shadow out")
        .field_path(".shadow.of")
)]
pub struct MigrationSpec {
    /// How traffic moves to the gateway. DropIn: all eligible requests take the bifrost arm. Gradual: those that the rules of
    /// the phases name. Canary: a percentage of the users, by hand or by steps. BlueGreen: none (Blue) or all (Green), and
    /// a preview of the other. Absent: Canary where canaryPercent or canary is set, else DropIn. Once one of the three was
    /// set, an update must set one of them: say DropIn to end a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<Strategy>")]
    pub strategy: Option<Strategy>,
    /// Strategy Canary by hand: how many percent of the eligible users take the bifrost arm, 0 to 100. Raising it never moves
    /// a user back; 0 sends everybody straight to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub canary_percent: Option<i32>,
    /// Strategy Canary by steps that are taken one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanarySpec>,
    /// Strategy Gradual: phases, each with the requests that it adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradual: Option<GradualSpec>,
    /// Strategy BlueGreen: blue is straight to the vendor, green through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreenSpec>,
    /// How the arms are compared while traffic moves: the next step waits until it passes, and a failure goes back. Not with
    /// DropIn, where there is nothing to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisSpec>,
    /// What a failed analysis, or a gateway container that ends, leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackSpec>,
    /// Copies of one arm's requests to the other, to compare the answers. With any strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowSpec>,
    /// What keeps a user on the same arm.
    #[serde(default)]
    pub stickiness: Stickiness,
    /// Whether an eligible request may choose its arm itself by the header x-bf-arm (bifrost or baseline), so that a team can
    /// try the gateway at 0 %. Such requests do not count in the observed percent. Otherwise the header is ignored.
    #[serde(default)]
    pub allow_arm_header: bool,
}

/// How traffic moves to the gateway.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All eligible requests take the bifrost arm.
    DropIn,
    /// The requests that rules name take the bifrost arm.
    Gradual,
    /// A share of the eligible requests takes the bifrost arm.
    Canary,
    /// None or all of the eligible requests take the bifrost arm.
    BlueGreen,
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
