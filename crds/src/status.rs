//! What the operator reports of a gateway. A report only: nothing is read back from it that would be lost with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::migration::Strategy;
use crate::schema;

/// What the gateway is.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BifrostGatewayStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ready_replicas: Option<i32>,
    /// Labels of the pods, as a selector in text form: for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Where applications reach the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// How the traffic is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficStatus>,
    /// How traffic moves to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    /// How the arms compare. Absent while nothing is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStatus>,
    /// What became of copies. Absent while nothing is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
    /// How a new revision of the gateway itself takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Provider keys of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyCounts>,
    /// Accepted, ResolvedRefs, Programmed, Available, Ready, and Stalled, Reconciling, Degraded and Paused while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Where applications reach the gateway.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Address inside the cluster, such as http://ai.llm.svc:8080; a front such as /openai is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub service: Option<String>,
    /// Strategy BlueGreen: address that serves the colour that is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub preview: Option<String>,
}

/// How the traffic is split.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TrafficStatus {
    /// Number of the newest traffic table. It only rises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,
    /// Ready pods that have confirmed this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub confirmed_replicas: Option<i32>,
    /// Percent of the eligible users that the newest traffic table gives to the bifrost arm. Absent under strategy Gradual, where
    /// rules decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub wanted_percent: Option<i32>,
    /// Percent of the eligible requests that took the baseline arm, as the pods counted lately. Absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub baseline_percent: Option<i32>,
    /// Percent of the eligible requests that took the bifrost arm, as the pods counted lately. Absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub bifrost_percent: Option<i32>,
}

/// How traffic moves to the gateway.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// Strategy in force, also where the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<Strategy>")]
    pub strategy: Option<Strategy>,
    /// What it does: Progressing towards the next step, Paused until somebody asks for it, Inconclusive until the analysis passes, Completed where the spec wants it,
    /// RolledBack until a retry or a change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<MigrationPhase>")]
    pub phase: Option<MigrationPhase>,
    /// Where it is: the step of how many, the phase, or the colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub step: Option<String>,
    /// What comes next and what it waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When this step was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub step_started_at: Option<Time>,
    /// When the hold of this step ends; absent where there is none to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub hold_ends_at: Option<Time>,
    /// Short name of what is being moved to: spec.migration and spec.config. A request can be pinned to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// The newest value of the annotation bifrost.dev/request that was handled, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub handled_request: Option<String>,
    /// Why handledRequest was refused; absent where it was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub refusal: Option<String>,
    /// The rollback that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,
}

/// What a migration does.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPhase {
    /// The next step comes by itself.
    Progressing,
    /// The next step waits for somebody.
    Paused,
    /// The hold is over, and the analysis has not passed.
    Inconclusive,
    /// It is where the spec wants it.
    Completed,
    /// It went back, and stays there.
    RolledBack,
}

/// A rollback.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStatus {
    /// When.
    #[schemars(schema_with = "schema::time")]
    pub at: Time,
    /// From which step, phase or colour.
    #[schemars(length(max = 128))]
    pub from: String,
    /// Aborted: somebody asked for it. AnalysisFailed: the bifrost arm, or the candidate, was worse than allowed. GatewayCrash: a
    /// gateway container ended. ProgressDeadlineExceeded: the candidate's pods were not ready in time.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in words.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When the step is tried again by itself. Absent: when somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub retry_at: Option<Time>,
}

/// How a new revision of the gateway itself takes over.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The stable revision: spec.config and image that serve. Answers name it in x-bf-revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stable_revision: Option<String>,
    /// Image of the stable revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub stable_image: Option<String>,
    /// The revision that is to replace it, also one that was taken back. Absent where the spec asks for the stable one. A request can
    /// be pinned to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub candidate_revision: Option<String>,
    /// Image of the candidate, where it has another than the stable revision: then pods of its own serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub candidate_image: Option<String>,
    /// Percent of the users that the candidate serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// Pods of the candidate's own that are ready. Absent where it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub candidate_ready_replicas: Option<i32>,
    /// What it does: Progressing towards the next step, Paused until somebody asks for it, Inconclusive until the analysis passes,
    /// Completed where the spec's revision is the stable one, RolledBack until a retry or a change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<MigrationPhase>")]
    pub phase: Option<MigrationPhase>,
    /// Where it is: the step of how many, or the colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub step: Option<String>,
    /// What comes next and what it waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When this step was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub step_started_at: Option<Time>,
    /// When the hold of this step ends; absent where there is none to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub hold_ends_at: Option<Time>,
    /// The newest value of the annotation bifrost.dev/rollout-request that was handled, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub handled_request: Option<String>,
    /// Why handledRequest was refused; absent where it was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub refusal: Option<String>,
    /// The rollback that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,
    /// How candidate and stable revision compare. Absent while nothing is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStatus>,
}

/// How the arms compare at the present step.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// Pass: the next step may come. Fail: the bifrost arm is worse than allowed. Inconclusive: too little is known.
    #[schemars(schema_with = "schema::words::<Verdict>")]
    pub verdict: Verdict,
    /// The checks, the metrics, and what is always watched: GrossFailure and GatewayCrash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 26), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<CheckStatus>,
}

/// A check.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its verdict.
    #[schemars(schema_with = "schema::words::<Verdict>")]
    pub verdict: Verdict,
    /// What was measured where, and against what.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What an analysis says.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next step may come.
    Pass,
    /// The bifrost arm is worse than allowed.
    Fail,
    /// Too little is known.
    Inconclusive,
}

/// What became of copies, as the ready pods tell it: since each of them started.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ShadowStatus {
    /// Requests that were run on the other arm too.
    #[schemars(range(min = 0))]
    pub copied: i64,
    /// Percent of the copies whose answer has the structure of the first one: a whole 2xx, ended for the same reason, with text and
    /// tool calls where that has them. Absent while there are no copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub agreed_percent: Option<i32>,
    /// What copies have cost today (UTC), with its currency.
    #[schemars(length(max = 64))]
    pub spent: String,
    /// What else there is to say: how similar the texts are, and why requests were not copied.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Provider keys of the gateway.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct KeyCounts {
    /// ProviderKeys that the selector chooses.
    #[schemars(range(min = 0))]
    pub selected: i32,
    /// Of these, the ones that are enabled and have a value.
    #[schemars(range(min = 0))]
    pub ready: i32,
}
