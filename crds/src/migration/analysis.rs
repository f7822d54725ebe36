//! `spec.migration.analysis` and `spec.migration.rollback`: what the new arm must keep to, and what follows if it does not.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How both arms are compared. The pods count, the operator merges and decides; no Prometheus is needed. Whatever the checks are,
/// a gateway container that ends, and failures of nearly everything, send the traffic back.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.metrics) || (has(self.checks) && size(self.checks) > 0 ? self.metrics.all(m, self.checks.all(c, c.name != m.name)) : self.metrics.all(m, m.name != 'errors'))")
        .message("a check has the name of a metric: rename one of the two (without checks there is one that is called errors)")
        .field_path(".metrics")
)]
pub struct AnalysisSpec {
    /// What is checked. Absent: ErrorRate, at most half a percentage point more than on the baseline arm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<AnalysisCheck>,
    /// How many requests of an arm a check needs before it can pass. With fewer it is Inconclusive: nothing advances and
    /// nothing goes back.
    #[serde(default = "min_requests")]
    #[schemars(range(min = 20, max = 1_000_000))]
    pub min_requests: i32,
    /// In how many of 100 migrations a rollback may be a false alarm, over all checks, steps and looks together.
    #[serde(default = "false_alarm_percent")]
    #[schemars(range(min = 1, max = 20))]
    pub false_alarm_percent: i32,
    /// What others measured, asked for beside the checks: Prometheus queries and webhooks, on hosts that whoever runs the operator
    /// allows (value analysis.allowedHosts of its chart).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub metrics: Vec<AnalysisMetric>,
}

/// A measurement of others.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.prometheus) || has(self.webhook)")
        .message("the metric needs a source: set prometheus, or webhook")
        .field_path(".prometheus")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.prometheus) || !has(self.webhook)")
        .message("a metric has one source: take prometheus or webhook out, or make two metrics")
        .field_path(".webhook")
        .reason(Reason::FieldValueForbidden)
)]
pub struct AnalysisMetric {
    /// Unique name, for reports; no check has it.
    #[schemars(schema_with = "schema::phase_name")]
    pub name: String,
    /// A query whose one value is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetric>,
    /// Something that is asked for a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookMetric>,
    /// How often it is asked for, and how long after a step begins for the first time. Absent: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::metric_interval")]
    pub interval: Option<String>,
    /// What follows if it fails twice in a row. Rollback: traffic goes back. Pause: the migration waits for somebody. Warn: an
    /// event. Absent: Rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<CheckAction>")]
    pub action: Option<CheckAction>,
}

/// A Prometheus query.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.max) || has(self.min)")
        .message("the query needs a limit: set max, or min, or both")
        .field_path(".max")
        .reason(Reason::FieldValueRequired)
)]
pub struct PrometheusMetric {
    /// Where Prometheus is, such as http://prometheus.monitoring.svc:9090, without /api/v1/query.
    #[schemars(schema_with = "schema::metric_url")]
    pub url: String,
    /// An instant query with one value: a scalar, or a vector of one sample. {{namespace}} and {{gateway}} stand for this gateway's.
    #[schemars(length(min = 1, max = 1024))]
    pub query: String,
    /// The most that passes, such as 0.02.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::decimal")]
    pub max: Option<String>,
    /// The least that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::decimal")]
    pub min: Option<String>,
}

/// A webhook.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookMetric {
    /// What is asked by POST with {"gateway": {"namespace", "name"}, "step", "revision", "percent"}, and answers {"verdict": "Pass"},
    /// "Fail" or "Inconclusive".
    #[schemars(schema_with = "schema::metric_url")]
    pub url: String,
}

/// One check.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.max) && has(self.maxIncrease))")
        .message("max is absolute, maxIncrease against the baseline arm: take one of the two out, or make two checks")
        .field_path(".max")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.type in ['ErrorRate', 'ShadowAgreement'] || has(self.max) || has(self.maxIncrease)")
        .message("the check needs a limit: set max, or maxIncrease")
        .field_path(".maxIncrease")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("self.type != 'ShadowAgreement' || has(self.min)")
        .message("the check needs a limit: set min, such as 95%")
        .field_path(".min")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.min) || self.min.matches('^(100([.]0{1,3})?|[0-9]{1,2}([.][0-9]{1,3})?)%$')")
        .message("must be a percentage of the copies from 0% to 100%, such as 95%")
        .field_path(".min"),
    validation = Rule::new("self.type == 'ShadowAgreement' || !has(self.min)")
        .message("min belongs to type ShadowAgreement: set max or maxIncrease in its place")
        .field_path(".min")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.type != 'ShadowAgreement' || !has(self.max)")
        .message("type ShadowAgreement has a least and no most: set min in place of max")
        .field_path(".max")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.type != 'ShadowAgreement' || !has(self.maxIncrease)")
        .message("type ShadowAgreement has a least and no most: set min in place of maxIncrease")
        .field_path(".maxIncrease")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.type == 'ErrorRate' || !has(self.failures)")
        .message("failures belong to type ErrorRate: take them out")
        .field_path(".failures")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.max) || !(self.type in ['ErrorRate', 'EmptyResponseRate', 'InvalidToolCallRate']) || self.max.matches('^(100([.]0{1,3})?|[0-9]{1,2}([.][0-9]{1,3})?)%$')")
        .message("must be a percentage of the requests from 0% to 100%, such as 2%")
        .field_path(".max"),
    validation = Rule::new("!has(self.max) || !(self.type in ['Latency', 'TimeToFirstToken', 'GatewayOverhead']) || (self.max.matches('^[0-9]{1,8}(ms|s|m)$') && duration(self.max) >= duration('1ms') && duration(self.max) <= duration('24h'))")
        .message("must be a duration from 1ms to 24h in one unit, such as 800ms")
        .field_path(".max"),
    validation = Rule::new("!has(self.max) || self.type != 'OutputTokens' || self.max.matches('^[1-9][0-9]*$')")
        .message("must be a whole number of tokens from 1 on, such as 500")
        .field_path(".max"),
    validation = Rule::new("!has(self.max) || self.type != 'CostPerRequest' || (self.max.matches('^[0-9]{1,6}([.][0-9]{1,6})?$') && self.max.matches('[1-9]'))")
        .message("must be an amount of money above 0 in the currency of the price list, such as 0.002")
        .field_path(".max"),
    validation = Rule::new("!has(self.maxIncrease) || !(self.type in ['ErrorRate', 'EmptyResponseRate', 'InvalidToolCallRate']) || self.maxIncrease.matches('^(100([.]0{1,3})?|[0-9]{1,2}([.][0-9]{1,3})?)%$')")
        .message("of a share it is percentage points: must lie between 0% and 100%, such as 0.5%")
        .field_path(".maxIncrease")
)]
pub struct AnalysisCheck {
    /// Unique name, for reports.
    #[schemars(schema_with = "schema::phase_name")]
    pub name: String,
    /// What is measured. ErrorRate: the share of requests that failed. Latency, TimeToFirstToken (of streams), GatewayOverhead:
    /// the typical (geometric mean) time of successful requests. OutputTokens: the mean of an answer. CostPerRequest: the
    /// mean, by the price list that the operator was given (value prices of its chart). EmptyResponseRate: the share of
    /// answers without content. InvalidToolCallRate: of the answers that call tools, the share with arguments that are no valid JSON.
    /// ShadowAgreement: the share of the copies of spec.migration.shadow whose answer agrees with the first one.
    #[serde(rename = "type")]
    #[schemars(schema_with = "schema::words::<CheckType>")]
    pub type_: CheckType,
    /// Type ErrorRate: which failures count. Absent: all but ClientError.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub failures: Vec<FailureClass>,
    /// The most there may be on the bifrost arm: a percentage such as 2%, a duration in ms, s or m such as 800ms, a number of
    /// tokens, or money such as 0.002.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::check_max")]
    pub max: Option<String>,
    /// By how much the bifrost arm may exceed the baseline arm, such as 0.5%: percentage points for shares, else percent of the
    /// baseline's value. Type ErrorRate without both limits: 0.5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::check_increase")]
    pub max_increase: Option<String>,
    /// Type ShadowAgreement: the least share of copies whose answer agrees, such as 95%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::check_min")]
    pub min: Option<String>,
    /// What follows if it fails. Rollback: traffic goes back. Pause: the migration waits for somebody. Warn: an event. Absent:
    /// Rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::words::<CheckAction>")]
    pub action: Option<CheckAction>,
}

/// What a check measures.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckType {
    /// The share of requests that failed.
    ErrorRate,
    /// From the request's last byte to the answer's last.
    Latency,
    /// From the request's last byte to the first event with output.
    TimeToFirstToken,
    /// What the gateway itself adds.
    GatewayOverhead,
    /// Tokens of an answer.
    OutputTokens,
    /// What the tokens of a request and its answer cost.
    CostPerRequest,
    /// The share of answers without content.
    EmptyResponseRate,
    /// Of the answers that call tools, the share with arguments that are no valid JSON.
    InvalidToolCallRate,
    /// The share of copies whose answer agrees with the first one.
    ShadowAgreement,
}

/// Why a request failed.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The vendor did not answer in time.
    Timeout,
    /// The vendor could not be reached.
    Unreachable,
    /// The vendor answered with 5xx.
    Upstream5xx,
    /// The vendor answered with 429 or 529.
    RateLimited,
    /// The vendor answered with another 4xx: most often the caller's own mistake.
    ClientError,
    /// The gateway itself refused the request.
    Gateway,
    /// The answer began, and broke off or held an error.
    BrokenStream,
}

/// What follows if a check fails.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckAction {
    /// Traffic goes back.
    Rollback,
    /// The migration waits for somebody.
    Pause,
    /// An event says so.
    Warn,
}

/// What a rollback does, and whether it is tried again.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RollbackSpec {
    /// Where traffic goes when the analysis fails. Baseline: straight to the vendor. PreviousStep: to the step or phase before,
    /// and further back if it fails there too.
    #[serde(default)]
    #[schemars(schema_with = "schema::words::<RollbackTarget>")]
    pub to: RollbackTarget,
    /// How often the failed step is tried again by itself. A rollback that somebody asked for is not.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub retries: i32,
    /// How long after a rollback it is tried again.
    #[serde(default = "cooldown")]
    #[schemars(schema_with = "schema::cooldown")]
    pub cooldown: String,
}

/// Where a rollback goes.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RollbackTarget {
    /// Straight to the vendor.
    #[default]
    Baseline,
    /// To the step before.
    PreviousStep,
}

const fn min_requests() -> i32 {
    100
}

const fn false_alarm_percent() -> i32 {
    1
}

fn cooldown() -> String {
    "10m".to_owned()
}
