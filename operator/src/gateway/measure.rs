//! What is shown of a gateway as metrics: what its status says, as numbers.

use bifrost_config::published::TrafficTable;
use bifrost_config::{Axis, Plan};
use bifrost_crds::conditions::READY;
use bifrost_crds::{BifrostGatewayStatus, Verdict};

use crate::conditions::find;
use crate::confirm::Summary;
use crate::events::{Event, Reason};
use crate::metrics::Metrics;
use crate::migration::progress::Progress;

/// Namespace and name.
pub(super) type Labels<'a> = [&'a str; 2];

/// Readiness, the rollout and each verdict.
pub(super) fn show(metrics: &Metrics, status: &BifrostGatewayStatus, labels: Labels<'_>) {
    let ready = find(&status.conditions, READY).is_some_and(|condition| condition.status == "True");
    metrics.ready.with_label_values(&labels).set(i64::from(ready));
    if let Some(rollout) = &status.rollout {
        metrics.rollout_percent.with_label_values(&labels).set(i64::from(rollout.percent.unwrap_or(0)));
        metrics.rollout_rolled_back.with_label_values(&labels).set(i64::from(rollout.rollback.is_some()));
    }
    show_verdicts(metrics, status, labels);
}

fn show_verdicts(metrics: &Metrics, status: &BifrostGatewayStatus, [namespace, gateway]: Labels<'_>) {
    let of_rollout = status.rollout.as_ref().and_then(|rollout| rollout.analysis.as_ref());
    let all = [(Axis::Migration, status.analysis.as_ref()), (Axis::Rollout, of_rollout)];
    let checks = all.into_iter().flat_map(|(of, analysis)| {
        analysis.into_iter().flat_map(|analysis| &analysis.checks).map(move |check| (of, check))
    });
    let verdicts: Vec<_> = checks
        .map(|(of, check)| {
            let verdict = match check.verdict {
                Verdict::Pass => 1,
                Verdict::Inconclusive => 0,
                Verdict::Fail => -1,
            };
            ((of, check.name.clone()), verdict)
        })
        .collect();
    metrics.show_verdicts(namespace, gateway, &verdicts);
}

/// Where the migration is.
pub(super) fn show_migration(metrics: &Metrics, plan: Option<&Plan>, progress: &Progress, labels: Labels<'_>) {
    metrics.rolled_back.with_label_values(&labels).set(i64::from(progress.rollback.is_some()));
    let level = plan.and_then(|plan| plan.level_of(progress.position.as_ref()));
    if let Some(level) = level.and_then(|level| i64::try_from(level).ok()) {
        metrics.migration_stage.with_label_values(&labels).set(level);
    }
}

/// What is sent to the bifrost arm.
pub(super) fn show_share(metrics: &Metrics, table: &TrafficTable, labels: Labels<'_>) {
    // Under rules nobody knows the percent beforehand.
    match table.wanted_percent() {
        Some(percent) => metrics.wanted_percent.with_label_values(&labels).set(i64::from(percent)),
        None => drop(metrics.wanted_percent.remove_label_values(&labels)),
    }
}

/// The event of requests that are far from divided as users are.
pub(super) fn skew(table: &TrafficTable, summary: &Summary) -> Option<Event> {
    let (_, seen) = summary.percents.filter(|_| summary.skewed)?;
    let note = format!("{} % of the users were asked for, and {seen} % of the requests are theirs", table.percent);
    Some(Event::new(Reason::SkewedCohort, note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{observed, policy, publish_all};
    use crate::gateway::validate::validate;
    use serde_json::json;

    const LABELS: Labels<'_> = ["llm", "ai"];

    fn status(text: serde_json::Value) -> BifrostGatewayStatus {
        serde_json::from_value(text).unwrap()
    }

    /// The lines of this gateway, without the prefix and the labels that all have.
    fn shown(metrics: &Metrics) -> Vec<String> {
        let text = metrics.render().unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("bifrost_operator_"));
        lines
            .filter(|line| line.contains('{'))
            .map(|line| line.replace(r#"gateway="ai",namespace="llm""#, ""))
            .collect()
    }

    fn table() -> TrafficTable {
        publish_all(observed()).live.published.unwrap().traffic
    }

    #[test]
    fn metrics_show_what_the_status_says_and_nothing_that_it_said_before() {
        let metrics = Metrics::new().unwrap();
        let check = |name: &str, verdict: &str| json!({"name": name, "verdict": verdict, "message": "because"});
        let at = "2026-01-01T00:00:00Z";
        let ready =
            json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": at}]);
        let told = json!({
            "conditions": ready,
            "analysis": {"verdict": "Inconclusive", "checks": [check("errors", "Inconclusive"), check("latency", "Pass")]},
            "rollout": {
                "percent": 25,
                "analysis": {"verdict": "Fail", "checks": [check("errors", "Fail")]},
            },
        });
        show(&metrics, &status(told), LABELS);
        let expected = [
            r#"analysis_verdict{check="errors",,of="migration"} 0"#,
            r#"analysis_verdict{check="errors",,of="rollout"} -1"#,
            r#"analysis_verdict{check="latency",,of="migration"} 1"#,
            "gateway_ready{} 1",
            "rollout_percent{} 25",
            "rollout_rolled_back{} 0",
        ];
        assert_eq!(shown(&metrics), expected);
        let rollback = json!({"at": at, "from": "25 %", "reason": "AnalysisFailed", "message": "because"});
        show(&metrics, &status(json!({"rollout": {"rollback": rollback}})), LABELS);
        assert_eq!(shown(&metrics), ["gateway_ready{} 0", "rollout_percent{} 0", "rollout_rolled_back{} 1"]);
    }

    #[test]
    fn the_stage_is_a_number_where_the_plan_knows_it() {
        let metrics = Metrics::new().unwrap();
        let seen = publish_all(observed());
        let progress = seen.live.state.migration.clone().unwrap();
        show_migration(&metrics, None, &progress, LABELS);
        assert_eq!(shown(&metrics), ["migration_rolled_back{} 0"]);
        show_migration(&metrics, validate(&seen, &policy()).plan.as_ref(), &progress, LABELS);
        assert_eq!(shown(&metrics), ["migration_rolled_back{} 0", "migration_stage{} 1"]);
    }

    #[test]
    fn the_share_of_rules_is_no_number() {
        let (metrics, mut table) = (Metrics::new().unwrap(), table());
        show_share(&metrics, &table, LABELS);
        assert_eq!(shown(&metrics), ["gateway_wanted_percent{} 10"]);
        table.strategy = bifrost_config::Strategy::Gradual;
        table.rules = vec![bifrost_config::MatchRule::default()];
        show_share(&metrics, &table, LABELS);
        assert_eq!(shown(&metrics), [] as [&str; 0]);
    }

    #[test]
    fn a_skewed_cohort_is_an_event_that_names_both_shares() {
        let summary = |skewed| Summary { skewed, percents: Some((60, 40)), ..Summary::default() };
        let event = skew(&table(), &summary(true)).unwrap();
        let note = "10 % of the users were asked for, and 40 % of the requests are theirs";
        assert_eq!((event.reason, event.note.as_str()), (Reason::SkewedCohort, note));
        assert!(skew(&table(), &summary(false)).is_none());
    }
}
