//! What of a status is worth an event: the difference between the one before and the one now. Pure.

use bifrost_crds::conditions::{ACCEPTED, DEGRADED, RESOLVED_REFS};
use bifrost_crds::{AnalysisStatus, BifrostGatewayStatus, MigrationPhase, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::validate::Decision;
use crate::conditions::find;
use crate::events::{Event, Reason};

/// Events for what a migration or a rollout waits for from now on, and for checks that fail from now on.
pub fn news(before: &BifrostGatewayStatus, after: &BifrostGatewayStatus) -> Vec<Event> {
    let of_migration = |status: &BifrostGatewayStatus| {
        let told = status.migration.as_ref();
        let phase = told.and_then(|migration| migration.phase);
        (phase, told.and_then(|migration| migration.message.clone()), status.analysis.clone())
    };
    let of_rollout = |status: &BifrostGatewayStatus| {
        let told = status.rollout.as_ref();
        let message = told.and_then(|rollout| rollout.message.as_ref()).map(|message| format!("rollout: {message}"));
        (told.and_then(|rollout| rollout.phase), message, told.and_then(|rollout| rollout.analysis.clone()))
    };
    let mut events = news_of(of_migration(before), of_migration(after));
    events.extend(news_of(of_rollout(before), of_rollout(after)));
    events
}

/// What is told of a migration or a rollout: phase, message and analysis.
type Told = (Option<MigrationPhase>, Option<String>, Option<AnalysisStatus>);

fn news_of((before, _, analysis_before): Told, (after, message, analysis): Told) -> Vec<Event> {
    let reason = match after.filter(|now| before != Some(*now)) {
        Some(MigrationPhase::Paused) => Some(Reason::StepPaused),
        Some(MigrationPhase::Inconclusive) => Some(Reason::AnalysisInconclusive),
        _ => None,
    };
    let mut events: Vec<_> =
        reason.zip(message).map(|(reason, message)| Event::new(reason, message)).into_iter().collect();
    let failed = |analysis: Option<AnalysisStatus>| {
        let checks = analysis.map(|one| one.checks).unwrap_or_default();
        checks.into_iter().filter(|check| check.verdict == Verdict::Fail)
    };
    let failed_before: Vec<_> = failed(analysis_before).map(|check| check.name).collect();
    let news = failed(analysis).filter(|check| !failed_before.contains(&check.name));
    events.extend(news.map(|check| Event::new(Reason::AnalysisFailed, check.message)));
    events
}

/// Events for conditions that changed.
pub fn transitions(before: &[Condition], after: &[Condition], decision: &Decision) -> Vec<Event> {
    let mut events = Vec::new();
    let news = |kind: &str| {
        let now = find(after, kind)?;
        let same = find(before, kind).is_some_and(|old| old.status == now.status && old.message == now.message);
        (!same).then_some(now)
    };
    if let Some(now) = news(ACCEPTED).filter(|now| now.status == "False") {
        let reason = decision.rejection.as_ref().map_or(Reason::ConfigRejected, |rejection| rejection.reason);
        events.push(Event::new(reason, &now.message));
    }
    if news(RESOLVED_REFS).is_some_and(|now| now.status == "False") {
        for reason in [Reason::SecretMissing, Reason::NotResolved] {
            let of_reason = decision.unresolved.iter().filter(|one| one.reason == reason);
            let messages: Vec<_> = of_reason.map(|one| one.message.clone()).collect();
            if !messages.is_empty() {
                events.push(Event::new(reason, messages.join("; ")));
            }
        }
    }
    match (find(before, DEGRADED), find(after, DEGRADED)) {
        (None, Some(now)) => events.push(Event::new(Reason::Degraded, &now.message)),
        (Some(_), None) => events.push(Event::new(Reason::Recovered, "the gateway works as the spec asks for again")),
        _ => {}
    }
    events
}
