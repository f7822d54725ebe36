//! What is reported of a gateway: a pure function of what was read, decided, written and confirmed.

use bifrost_analysis::Report;
use bifrost_config::published::TrafficTable;
use bifrost_config::{Axis, Shadow};
use bifrost_crds::conditions::{
    ACCEPTED, AVAILABLE, DEGRADED, PAUSED, PROGRAMMED, PROGRESSING, READY, RECONCILING, RESOLVED_REFS, STALLED,
};
use bifrost_crds::{
    AnalysisStatus, BifrostGateway, BifrostGatewayStatus, Endpoints, ImageSpec, KeyCounts, MigrationStatus,
    RolloutStatus, ShadowStatus, Strategy, TrafficStatus,
};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;

use super::build::{preview_url, service_url};
use super::observe::Observed;
use super::refusal::{Failure, Refusal};
use super::revisions::trouble;
use super::target::is_of;
use super::validate::{Decision, Rejection};
use super::{compared, draft};
use crate::conditions::{Finding, conditions};
use crate::confirm::Summary;
use crate::events::Reason;
use crate::migration::describe;
use crate::migration::outlook::{Circumstances, Held, outlook};
use crate::migration::progress::Progress;
use crate::names;
use crate::rollout;
use crate::rollout::record::Record;

/// Reason of a spec that the API server does not take.
const REFUSED: &str = "Refused";
/// Reason of keys that are there and cannot be used.
const KEY_UNUSABLE: &str = "KeyUnusable";
/// Pods named in a message; there may be a thousand.
const NAMED_PODS: usize = 3;

/// What a report is made of.
pub struct Facts<'a> {
    /// What was read.
    pub observed: &'a Observed,
    /// What was decided.
    pub decision: &'a Decision,
    /// Where the migration is with what is published.
    pub progress: Option<&'a Progress>,
    /// How revisions of the gateway follow each other with it.
    pub record: Option<&'a Record>,
    /// The table that is published.
    pub table: Option<&'a TrafficTable>,
    /// How far the pods are with it.
    pub summary: &'a Summary,
    /// The Deployment as it is now.
    pub deployment: Option<&'a DynamicObject>,
    /// What the analysis says of it.
    pub report: Option<&'a Report>,
    /// What it says of the candidate.
    pub rollout_report: Option<&'a Report>,
    /// Why something could not be written.
    pub failure: Option<&'a Failure>,
}

impl Facts<'_> {
    /// What the API server will not take however often it is tried.
    fn refusal(&self) -> Option<&Refusal> {
        self.failure.and_then(|failure| failure.refusal.as_ref())
    }

    /// What may succeed when it is tried again.
    fn passing(&self) -> Option<&Failure> {
        self.failure.filter(|failure| failure.refusal.is_none())
    }

    /// Ready pods, whether or not anything is published to them.
    fn ready_pods(&self) -> usize {
        self.observed.pods.iter().filter(|pod| is_ready(pod)).count()
    }
}

/// The whole status.
pub fn status(facts: &Facts<'_>, now: Timestamp) -> BifrostGatewayStatus {
    let gateway = &facts.observed.gateway;
    let before = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation.unwrap_or(0);
    let existing: Vec<_> = facts.observed.pods.iter().filter(|pod| counts(pod)).collect();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    BifrostGatewayStatus {
        // A generation is observed when everything that it asks for was written, or will never be.
        observed_generation: if facts.passing().is_none() { Some(generation) } else { before.observed_generation },
        replicas: Some(count(existing.len())),
        ready_replicas: Some(count(facts.ready_pods())),
        selector: Some(names::selector_text(facts.observed.name())),
        endpoints: Some(Endpoints {
            service: Some(service_url(facts.observed)),
            preview: facts.table.and_then(|table| preview_url(facts.observed, table.strategy)),
        }),
        // What was published last is told even while it is lost: with everything else lost too, the next epoch follows from it.
        traffic: facts.table.map_or_else(|| lost(before.traffic), |table| Some(traffic(table, facts.summary))),
        migration: facts.table.map(|table| migration(facts, table, now)).or(before.migration),
        analysis: analysis(facts, before.analysis),
        shadow: facts.table.and_then(|table| table.shadow.as_ref()).map(|one| shadow(one, facts.summary)),
        rollout: rollout(facts, before.rollout, now),
        keys: Some(KeyCounts {
            selected: count(facts.decision.selected),
            ready: count(facts.decision.wanted.as_ref().map_or(0, |wanted| wanted.values.len())),
        }),
        conditions: conditions(&before.conditions, &findings(facts), generation, now),
    }
}

fn lost(before: Option<TrafficStatus>) -> Option<TrafficStatus> {
    before.map(|traffic| TrafficStatus { confirmed_replicas: Some(0), ..traffic })
}

fn migration(facts: &Facts<'_>, table: &TrafficTable, now: Timestamp) -> MigrationStatus {
    let Decision { plan, guard, judged, keyless, .. } = facts.decision;
    let held = held(facts.decision, plan.is_some());
    let (plan, judged, keyless) = (plan.as_ref(), judged.as_ref(), keyless.as_deref());
    let circumstances = Circumstances { plan, held, guard, judged, keyless };
    let outlook = facts.progress.map(|progress| outlook(Axis::Migration, circumstances, progress, now));
    let outlook = outlook.unwrap_or_default();
    MigrationStatus {
        strategy: Some(match table.strategy {
            bifrost_config::Strategy::DropIn => Strategy::DropIn,
            bifrost_config::Strategy::Gradual => Strategy::Gradual,
            bifrost_config::Strategy::Canary => Strategy::Canary,
            bifrost_config::Strategy::BlueGreen => Strategy::BlueGreen,
        }),
        ..outlook
    }
}

fn shadow(shadow: &Shadow, summary: &Summary) -> ShadowStatus {
    let told = summary.shadow.clone().unwrap_or_default();
    let mut parts = Vec::new();
    if shadow.prices.is_empty() {
        parts.push("nothing is copied: the operator has no prices of these providers' models".to_owned());
    }
    if let Some(least) = told.median_similarity() {
        parts.push(format!("the median copy's text is {least} to {} % similar to the first", least + 10));
    }
    if told.failed > 0 {
        parts.push(format!("{} copies got no whole answer", told.failed));
    }
    let skipped: Vec<_> = told.skipped.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if !skipped.is_empty() {
        parts.push(format!("not copied: {}", skipped.join(", ")));
    }
    let agreed = told.agreed.saturating_mul(100).checked_div(told.copied);
    ShadowStatus {
        copied: i64::try_from(told.copied).unwrap_or(i64::MAX),
        agreed_percent: agreed.and_then(|percent| i32::try_from(percent).ok()),
        spent: format!("{} {}", money(told.spent), shadow.currency).trim_end().to_owned(),
        message: parts.join("; "),
    }
}

/// An amount of micro-units as people write it, with two decimals at least.
fn money(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let zeros = text.len() - text.trim_end_matches('0').len();
    text[..text.len() - zeros.min(4)].to_owned()
}

fn analysis(facts: &Facts<'_>, before: Option<AnalysisStatus>) -> Option<AnalysisStatus> {
    facts.decision.guard.analysis.as_ref()?;
    compared::analysis(facts.report, facts.progress, before)
}

fn rollout(facts: &Facts<'_>, before: Option<RolloutStatus>, now: Timestamp) -> Option<RolloutStatus> {
    let Some(record) = facts.record else { return before };
    let wish = facts.decision.wish.as_ref();
    let held = held(facts.decision, wish.is_some());
    let is_wanted = is_stable(&facts.observed.gateway, record);
    let keyless = facts.decision.keyless_candidate.as_deref();
    let is_compared = facts.decision.wish.as_ref().is_some_and(|wish| wish.guard.analysis.is_some());
    let candidate = record.candidate.as_ref().filter(|_| is_compared);
    let analysis = candidate.and_then(|candidate| {
        compared::of_rollout(facts.rollout_report, &candidate.progress, before.and_then(|before| before.analysis))
    });
    let judged = candidate.map(|_| rollout::judged(facts.rollout_report));
    let (judged, ready) = (judged.as_ref(), facts.summary.candidates.0);
    let rolling = rolling(facts, record);
    let rolling = rolling.as_deref();
    let id = record.candidate.as_ref().map(|candidate| candidate.revision.id.as_str());
    let pods: Vec<_> = facts.observed.candidates.iter().filter(|pod| is_of(pod, id)).cloned().collect();
    let trouble = trouble(&pods);
    let trouble = trouble.as_deref();
    let facts =
        rollout::status::Facts { record, wish, held, is_wanted, rolling, keyless, judged, analysis, ready, trouble };
    Some(rollout::status::status(facts, now))
}

/// What an image that takes over without a candidate waits for.
fn rolling(facts: &Facts<'_>, record: &Record) -> Option<String> {
    record.ran.as_ref()?;
    let waits = with_trouble(facts, facts.deployment.and_then(rolls_out)?);
    Some(format!("the Deployment is rolled to {}: {waits}", record.stable.image))
}

/// What the Deployment waits for, with what keeps a pod from being ready.
fn with_trouble(facts: &Facts<'_>, waits: String) -> String {
    trouble(&facts.observed.pods).map_or_else(|| waits.clone(), |trouble| format!("{waits}; {trouble}"))
}

/// Why a spec is not followed, where it is not.
fn held(decision: &Decision, is_valid: bool) -> Option<Held> {
    let why = if decision.paused && decision.rejection.is_none() { Held::Paused } else { Held::NotAccepted };
    (decision.held || !is_valid).then_some(why)
}

/// Whether the spec asks for the stable revision, as it spells it. An image that it does not name whole is as it runs.
fn is_stable(gateway: &BifrostGateway, record: &Record) -> bool {
    let named = |image: &ImageSpec| Some(format!("{}:{}", image.repository.as_ref()?, image.tag.as_ref()?));
    let image = gateway.spec.image.as_ref().and_then(named);
    draft::config_revision(gateway) == record.stable.config && image.is_none_or(|image| image == record.stable.image)
}

fn traffic(table: &TrafficTable, summary: &Summary) -> TrafficStatus {
    TrafficStatus {
        epoch: i64::try_from(table.epoch).ok(),
        confirmed_replicas: i32::try_from(summary.confirmed).ok(),
        wanted_percent: table.wanted_percent().map(i32::from),
        baseline_percent: summary.percents.map(|(baseline, _)| i32::from(baseline)),
        bifrost_percent: summary.percents.map(|(_, bifrost)| i32::from(bifrost)),
    }
}

fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let accepted = accepted(facts);
    let programmed = programmed(facts);
    let available = available(facts);
    let ready = ready(&[&accepted, &available, &programmed]);
    let mut findings = vec![accepted, resolved_refs(facts.decision), programmed, available, ready, progressing(facts)];
    findings.extend(stalled(facts));
    findings.extend(reconciling(facts));
    findings.extend(degraded(facts));
    if facts.decision.paused {
        findings.push(Finding::new(
            PAUSED,
            true,
            "Paused",
            "spec.paused holds back what adds or changes, the number of replicas included; what takes away goes on",
        ));
    }
    findings
}

fn accepted(facts: &Facts<'_>) -> Finding {
    match (&facts.decision.rejection, facts.refusal().filter(|refusal| refusal.of_spec)) {
        (Some(rejection), _) => Finding::new(ACCEPTED, false, rejected(rejection), &rejection.message),
        (None, Some(refusal)) => Finding::new(ACCEPTED, false, REFUSED, &refusal.message),
        (None, None) => Finding::new(ACCEPTED, true, "Accepted", "the spec is valid"),
    }
}

fn resolved_refs(decision: &Decision) -> Finding {
    let messages: Vec<_> = decision.unresolved.iter().map(|one| one.message.as_str()).collect();
    match messages.as_slice() {
        [] => Finding::new(RESOLVED_REFS, true, "ResolvedRefs", "every reference leads to a value"),
        all => Finding::new(RESOLVED_REFS, false, "NotResolved", all.join("; ")),
    }
}

fn programmed(facts: &Facts<'_>) -> Finding {
    let summary = facts.summary;
    let not = |reason, message: String| Finding::new(PROGRAMMED, false, reason, message);
    match (facts.table, facts.failure.filter(|failure| failure.withholds())) {
        (_, Some(failure)) => not("WriteFailed", failure.message.clone()),
        (None, _) => not("NotPublished", "nothing is published yet".to_owned()),
        (Some(_), _) if summary.ready == 0 => {
            not("NoReadyPods", "no pod is ready to confirm the configuration".to_owned())
        }
        (Some(table), _) if summary.programmed => {
            let message =
                format!("{} of {} ready pods confirm epoch {}", summary.confirmed, summary.ready, table.epoch);
            Finding::new(PROGRAMMED, true, "Confirmed", message)
        }
        (Some(table), _) => not(
            "WaitingForPods",
            format!(
                "{} of {} ready pods confirm epoch {}: {}",
                summary.confirmed,
                summary.ready,
                table.epoch,
                some_of(&summary.waiting)
            ),
        ),
    }
}

fn available(facts: &Facts<'_>) -> Finding {
    let (ready, wanted) = (facts.ready_pods(), facts.observed.gateway.spec.replicas);
    match (ready, wanted) {
        (0, 0) => Finding::new(AVAILABLE, false, "ScaledToZero", "spec.replicas is 0"),
        (0, wanted) => Finding::new(AVAILABLE, false, "NoReadyPods", format!("0 of {wanted} pods are ready")),
        (ready, wanted) => Finding::new(AVAILABLE, true, "PodsReady", format!("{ready} of {wanted} pods are ready")),
    }
}

/// The first that does not hold says why.
fn ready(parts: &[&Finding]) -> Finding {
    match parts.iter().find(|part| !part.so) {
        Some(part) => Finding::new(READY, false, part.reason.clone(), part.message.clone()),
        None => Finding::new(READY, true, "Ready", "accepted, programmed and available"),
    }
}

fn stalled(facts: &Facts<'_>) -> Option<Finding> {
    match (&facts.decision.rejection, facts.refusal()) {
        (Some(rejection), _) => Some(Finding::new(STALLED, true, rejected(rejection), &rejection.message)),
        (None, refusal) => refusal.map(|refusal| Finding::new(STALLED, true, REFUSED, &refusal.message)),
    }
}

/// Reason of the conditions of a spec that is not accepted.
fn rejected(rejection: &Rejection) -> String {
    match rejection.reason {
        Reason::ConfigRejected => "Invalid".to_owned(),
        other => other.to_string(),
    }
}

fn reconciling(facts: &Facts<'_>) -> Option<Finding> {
    let finding = |reason, message: String| Some(Finding::new(RECONCILING, true, reason, message));
    if let Some(failure) = facts.passing() {
        return finding("WriteFailed", failure.message.clone());
    }
    if !facts.decision.waits_for.is_empty() {
        let what = facts.decision.waits_for.join(", ");
        return finding(
            "WaitingForCollection",
            format!("{what} of an earlier gateway of this name must be collected first"),
        );
    }
    let (reason, why) = under_way(facts)?;
    finding(reason, why)
}

fn progressing(facts: &Facts<'_>) -> Finding {
    if let Some((reason, why)) = facts.deployment.and_then(gave_up) {
        return Finding::new(PROGRESSING, false, reason, why);
    }
    let candidate = facts.record.and_then(|record| record.candidate.as_ref());
    let under_way = under_way(facts).or_else(|| {
        let candidate = candidate.filter(|candidate| candidate.progress.rollback.is_none())?;
        Some(("RolloutUnderWay", format!("candidate {} is tried beside the stable revision", candidate.revision.id)))
    });
    match under_way {
        Some((reason, why)) => Finding::new(PROGRESSING, true, reason, why),
        None => Finding::new(PROGRESSING, false, "Settled", "no rollout and no confirmation is under way"),
    }
}

/// What the pods are still about, with a reason.
fn under_way(facts: &Facts<'_>) -> Option<(&'static str, String)> {
    if let Some(why) = facts.deployment.and_then(rolls_out) {
        return Some(("RollingOut", with_trouble(facts, why)));
    }
    if let Some(why) = facts.record.and_then(candidate_moves) {
        return Some(("RollingOut", why));
    }
    let waits = facts.table.is_some() && facts.summary.ready > 0 && !facts.summary.programmed;
    waits.then(|| ("WaitingForPods", some_of(&facts.summary.waiting)))
}

/// Whether pods of a candidate are on their way, or those of the Deployment to its image.
fn candidate_moves(record: &Record) -> Option<String> {
    let candidate = record.candidate.as_ref()?;
    let moves = candidate.promoting || candidate.waiting.is_some();
    moves.then(|| format!("the pods of candidate {} are on their way", candidate.revision.id))
}

/// What the Deployment is still about, as `kubectl rollout status` says it.
pub(super) fn rolls_out(deployment: &DynamicObject) -> Option<String> {
    let typed: Deployment = deployment.clone().try_parse().ok()?;
    let status = typed.status.unwrap_or_default();
    if status.observed_generation < typed.metadata.generation {
        return Some("the Deployment has a new spec".to_owned());
    }
    let wanted = typed.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let DeploymentStatus { replicas, updated_replicas, available_replicas, .. } = status;
    let (all, updated, available) =
        (replicas.unwrap_or(0), updated_replicas.unwrap_or(0), available_replicas.unwrap_or(0));
    if updated < wanted {
        return Some(format!("{updated} of {wanted} pods are up to date"));
    }
    if all > updated {
        return Some(format!("{} old pods are still ending", all - updated));
    }
    (available < updated).then(|| format!("{available} of {updated} updated pods are available"))
}

/// All that is wrong, the most urgent first: that gives the reason.
fn degraded(facts: &Facts<'_>) -> Option<Finding> {
    let Decision { unusable, keyless, .. } = facts.decision;
    let faults = some(&facts.summary.faults).map(|why| ("PodFault".to_owned(), why));
    let failure = facts.failure.filter(|_| facts.table.is_some());
    let failure = failure.map(|failure| ("WriteFailed".to_owned(), failure.message.clone()));
    let gave_up = facts.deployment.and_then(gave_up);
    let is_back = facts.progress.is_some_and(|progress| progress.rollback.is_some());
    let serves = facts.table.is_some_and(serves_bifrost);
    let keyless = keyless.as_ref().filter(|_| serves || is_back).map(|keyless| {
        let why = "and the bifrost arm answers such requests with 503: add or enable a ProviderKey, or take the provider out of spec.config.providers";
        let reason = if unusable.is_empty() { "NoKeyInUse" } else { KEY_UNUSABLE };
        (reason.to_owned(), format!("{keyless}, {why}"))
    });
    let rolled_back = facts.progress.and_then(|progress| progress.rollback.as_ref()).map(|rollback| {
        let from = describe(Axis::Migration, rollback.from.as_ref());
        ("RolledBack".to_owned(), format!("from {from}: {}", rollback.message))
    });
    let candidate = facts.record.and_then(|record| record.candidate.as_ref());
    let taken_back = candidate.and_then(|one| Some((&one.revision.id, one.progress.rollback.as_ref()?)));
    let taken_back = taken_back.map(|(id, rollback)| {
        ("RolledBack".to_owned(), format!("the rollout of {id} was taken back: {}", rollback.message))
    });
    let unusable = some(unusable).map(|why| (KEY_UNUSABLE.to_owned(), why));
    // After a rollback nothing is sent there, and a retry would be.
    let (now, later) = if serves { (keyless, None) } else { (None, keyless) };
    let all: Vec<_> =
        [faults, failure, gave_up, now, rolled_back, taken_back, later, unusable].into_iter().flatten().collect();
    let (reason, _) = all.first()?;
    let messages: Vec<_> = all.iter().map(|(_, message)| message.as_str()).collect();
    Some(Finding::new(DEGRADED, true, reason, messages.join("; ")))
}

/// Whether an eligible request may take the bifrost arm.
fn serves_bifrost(table: &TrafficTable) -> bool {
    table.percent > 0 || !table.rules.is_empty()
}

/// Why the Deployment's controller has given up a rollout: reason and message.
fn gave_up(deployment: &DynamicObject) -> Option<(String, String)> {
    let typed: Deployment = deployment.clone().try_parse().ok()?;
    let progressing = typed.status?.conditions?.into_iter().find(|condition| condition.type_ == "Progressing")?;
    (progressing.status == "False").then(|| {
        let reason = progressing.reason.unwrap_or_else(|| "RolloutFailed".to_owned());
        (reason, progressing.message.unwrap_or_default())
    })
}

fn some(list: &[String]) -> Option<String> {
    (!list.is_empty()).then(|| some_of(list))
}

fn some_of(list: &[String]) -> String {
    let named = list.iter().take(NAMED_PODS).cloned().collect::<Vec<_>>().join("; ");
    match list.len().checked_sub(NAMED_PODS) {
        None | Some(0) => named,
        Some(more) => format!("{named}; and {more} more"),
    }
}

/// Whether a pod is one of the replicas: it has not ended and is not about to.
pub(super) fn counts(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod is ready and not about to stop.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    counts(pod) && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests;
