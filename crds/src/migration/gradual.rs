//! `spec.migration.gradual`: phases of rules, and the pointer to one of them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Phases, each with rules that say which requests it adds.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.currentPhase) || self.phases.exists(p, p.name == self.currentPhase)")
        .message("must be the name of one of the phases")
        .field_path(".currentPhase"),
    validation = Rule::new("self.advance == 'Automatic' || self.phases.all(p, !has(p.hold) && !has(p.pause))")
        .message("hold and pause belong to advance Automatic: take them out, or set advance: Automatic")
        .field_path(".advance"),
    validation = Rule::new("self.advance != 'Automatic' || self.phases.all(p, has(p.hold) || (has(p.pause) && p.pause) || p.name == self.phases[size(self.phases) - 1].name)")
        .message("a phase without hold and pause is over within seconds: give each but the last a hold, or pause: true; hold: 0s says that this is meant")
        .field_path(".phases")
        .reason(Reason::FieldValueRequired)
)]
pub struct GradualSpec {
    /// The phases in their order. A request takes the bifrost arm if a rule of the current phase or of one before it fits.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub phases: Vec<Phase>,
    /// Name of the phase to reach. Moving it back is the rollback; absent, every request goes straight to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::phase_name")]
    pub current_phase: Option<String>,
    /// Manual: currentPhase is taken at once. Automatic: the phases up to currentPhase are taken one after the other, each
    /// after the hold and the pause of the one before.
    #[serde(default)]
    pub advance: Advance,
}

/// How the phases follow each other.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advance {
    /// By the pointer alone.
    #[default]
    Manual,
    /// One after the other, up to the pointer.
    Automatic,
}

/// A phase.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// Unique name: lower-case letters, digits and '-'.
    #[schemars(schema_with = "schema::phase_name")]
    pub name: String,
    /// Which requests the phase adds: those that one of these rules fits.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<PhaseRule>,
    /// Advance Automatic: how long every ready pod must have confirmed this phase before the next one, such as 24h. Each phase
    /// but the last needs it, or pause: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold")]
    pub hold: Option<String>,
    /// Advance Automatic: whether the next phase waits until somebody asks for it: kubectl bifrost promote, or the annotation
    /// bifrost.dev/request: promote/ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}

/// A rule.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
// A member that is misspelt is dropped before the rules look, and what is left of such a match must not fit everything.
#[x_kube(
    validation = Rule::new("(has(self.match.paths) && size(self.match.paths) > 0) || (has(self.match.endpoints) && size(self.match.endpoints) > 0) || (has(self.match.models) && size(self.match.models) > 0) || (has(self.match.providers) && size(self.match.providers) > 0) || (has(self.match.features) && size(self.match.features) > 0) || (has(self.match.headers) && size(self.match.headers) > 0) || (has(self.match.users) && size(self.match.users) > 0) || has(self.match.userPercent)")
        .message("names no condition that is known, so it would fit every request: name one, or say paths: ['/*'] if every request is meant")
        .field_path(".match")
)]
pub struct PhaseRule {
    /// What a request must be like. Every condition that is given must hold, and there is one at least: every eligible request is
    /// paths: ['/*'].
    #[serde(rename = "match")]
    pub matches: RequestMatch,
}

/// What a request must be like.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// Paths as the vendor has them, such as /v1/chat/completions, or with a * at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::match_paths")]
    pub paths: Vec<String>,
    /// Kinds of request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub endpoints: Vec<EndpointKind>,
    /// Models as requests name them, such as gpt-4o, or with a * at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::match_models")]
    pub models: Vec<String>,
    /// Names of providers: entries of config.providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::match_providers")]
    pub providers: Vec<String>,
    /// Values of the header x-bf-feature, by which an application names the feature that asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::match_texts")]
    pub features: Vec<String>,
    /// Headers that the request must have, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderMatch>,
    /// Users, by what the stickiness reads from the request: with its keys Auto, Header and Body only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::match_texts")]
    pub users: Vec<String>,
    /// How many percent of the users, 0 to 100. The same users as under canaryPercent; raising it never moves a user back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub user_percent: Option<i32>,
}

/// A header that a request must have.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name of the header.
    #[schemars(schema_with = "schema::header_name")]
    pub name: String,
    /// Its whole value. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::header_value")]
    pub value: Option<String>,
}

/// A kind of inference request.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// OpenAI's chat completions.
    ChatCompletions,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
    /// Anthropic's token counting.
    CountTokens,
}
