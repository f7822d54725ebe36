//! What the operator counts, in Prometheus' text form.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bifrost_config::Axis;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    /// Reconciliations by controller and result (`ok`, `conflict`, `error`).
    pub reconciles: IntCounterVec,
    /// Time of a reconciliation by controller, in seconds.
    pub reconcile_seconds: HistogramVec,
    /// Writes of owned objects by kind and outcome (`created`, `changed`, `repaired`, `deleted`).
    pub writes: IntCounterVec,
    /// Time from publishing a table until every ready pod confirmed it, by gateway, in seconds.
    pub confirm_seconds: HistogramVec,
    /// Wanted share of the bifrost arm, by gateway, in percent.
    pub wanted_percent: IntGaugeVec,
    /// Stage of the migration, by gateway; 0 is the baseline.
    pub migration_stage: IntGaugeVec,
    /// Whether a rollback is in force, by gateway.
    pub rolled_back: IntGaugeVec,
    /// Share of a rollout's candidate, by gateway, in percent.
    pub rollout_percent: IntGaugeVec,
    /// Whether a candidate was taken back, by gateway.
    pub rollout_rolled_back: IntGaugeVec,
    /// Verdict of each check, by gateway and what it watches.
    verdicts: IntGaugeVec,
    /// The checks that are shown, by namespace and gateway.
    checks: Mutex<HashMap<(String, String), Vec<Check>>>,
    /// Whether the gateway is ready, by gateway.
    pub ready: IntGaugeVec,
    /// Whether this process leads.
    pub leader: IntGauge,
}

const GATEWAY: &[&str] = &["namespace", "gateway"];

/// A check: of what, and its name.
pub type Check = (Axis, String);

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
        };
        let quick = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let slow = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
        let metrics = Self {
            registry: Registry::new(),
            reconciles: IntCounterVec::new(
                Opts::new("bifrost_operator_reconciles_total", "Reconciliations by controller and result."),
                &["controller", "result"],
            )?,
            reconcile_seconds: histogram(
                "bifrost_operator_reconcile_duration_seconds",
                "Time of a reconciliation.",
                &["controller"],
                &quick,
            )?,
            writes: IntCounterVec::new(
                Opts::new("bifrost_operator_object_writes_total", "Writes of owned objects by kind and outcome."),
                &["kind", "outcome"],
            )?,
            confirm_seconds: histogram(
                "bifrost_operator_confirm_duration_seconds",
                "Time until every ready pod confirmed what was published.",
                GATEWAY,
                &slow,
            )?,
            wanted_percent: IntGaugeVec::new(
                Opts::new("bifrost_operator_gateway_wanted_percent", "Wanted share of the bifrost arm in percent."),
                GATEWAY,
            )?,
            migration_stage: IntGaugeVec::new(
                Opts::new(
                    "bifrost_operator_migration_stage",
                    "Stage of the migration: the number of the step or phase, 0 on the baseline.",
                ),
                GATEWAY,
            )?,
            rolled_back: IntGaugeVec::new(
                Opts::new("bifrost_operator_migration_rolled_back", "Whether a rollback is in force: 1 or 0."),
                GATEWAY,
            )?,
            rollout_percent: IntGaugeVec::new(
                Opts::new(
                    "bifrost_operator_rollout_percent",
                    "Share of a rollout's candidate in percent, 0 without one.",
                ),
                GATEWAY,
            )?,
            rollout_rolled_back: IntGaugeVec::new(
                Opts::new("bifrost_operator_rollout_rolled_back", "Whether a candidate was taken back: 1 or 0."),
                GATEWAY,
            )?,
            verdicts: IntGaugeVec::new(
                Opts::new(
                    "bifrost_operator_analysis_verdict",
                    "Verdict of a check: 1 Pass, 0 Inconclusive, -1 Fail. `of` says whether of the migration or of the rollout.",
                ),
                &["namespace", "gateway", "of", "check"],
            )?,
            checks: Mutex::default(),
            ready: IntGaugeVec::new(
                Opts::new("bifrost_operator_gateway_ready", "Whether the gateway is ready: 1 or 0."),
                GATEWAY,
            )?,
            leader: IntGauge::new("bifrost_operator_leader", "Whether this process leads: 1 or 0.")?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.reconcile_seconds.clone()))?;
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.confirm_seconds.clone()))?;
        registry.register(Box::new(metrics.wanted_percent.clone()))?;
        registry.register(Box::new(metrics.migration_stage.clone()))?;
        registry.register(Box::new(metrics.rolled_back.clone()))?;
        registry.register(Box::new(metrics.rollout_percent.clone()))?;
        registry.register(Box::new(metrics.rollout_rolled_back.clone()))?;
        registry.register(Box::new(metrics.verdicts.clone()))?;
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        Ok(metrics)
    }

    /// Shows the verdicts of a gateway's checks, and no others of it.
    pub fn show_verdicts(&self, namespace: &str, gateway: &str, verdicts: &[(Check, i64)]) {
        let labels =
            |(of, check): &Check| [namespace.to_owned(), gateway.to_owned(), of.noun().to_owned(), check.clone()];
        let mut shown = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let checks = verdicts.iter().map(|(check, _)| check.clone()).collect();
        let before = shown.insert((namespace.to_owned(), gateway.to_owned()), checks).unwrap_or_default();
        for gone in before.iter().filter(|check| verdicts.iter().all(|(other, _)| other != *check)) {
            let _ = self.verdicts.remove_label_values(&labels(gone));
        }
        for (check, verdict) in verdicts {
            self.verdicts.with_label_values(&labels(check)).set(*verdict);
        }
    }

    /// Forgets a gateway that is gone.
    pub fn forget(&self, namespace: &str, gateway: &str) {
        self.show_verdicts(namespace, gateway, &[]);
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), gateway.to_owned()));
        let labels = &[namespace, gateway];
        // Not there: there was nothing to report of it.
        let _ = self.wanted_percent.remove_label_values(labels);
        let _ = self.ready.remove_label_values(labels);
        let _ = self.migration_stage.remove_label_values(labels);
        let _ = self.rolled_back.remove_label_values(labels);
        let _ = self.rollout_percent.remove_label_values(labels);
        let _ = self.rollout_rolled_back.remove_label_values(labels);
        let _ = self.confirm_seconds.remove_label_values(labels);
    }

    /// Everything in Prometheus' text form.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_registered_and_a_gateway_can_be_forgotten() {
        let metrics = Metrics::new().unwrap();
        metrics.ready.with_label_values(&["llm", "ai"]).set(1);
        assert!(
            metrics.render().unwrap().contains(r#"bifrost_operator_gateway_ready{gateway="ai",namespace="llm"} 1"#)
        );
        metrics.forget("llm", "ai");
        assert!(!metrics.render().unwrap().contains("gateway_ready{"));
    }

    #[test]
    fn verdicts_are_those_of_now() {
        let metrics = Metrics::new().unwrap();
        let check = |name: &str| (Axis::Migration, name.to_owned());
        metrics.show_verdicts("llm", "ai", &[(check("errors"), 1), (check("latency"), 0)]);
        metrics.show_verdicts("llm", "ai", &[(check("errors"), -1)]);
        let text = metrics.render().unwrap();
        let line = r#"analysis_verdict{check="errors",gateway="ai",namespace="llm",of="migration"} -1"#;
        assert!(text.contains(line) && !text.contains("latency"), "{text}");
        metrics.forget("llm", "ai");
        assert!(!metrics.render().unwrap().contains("analysis_verdict{"));
    }
}
