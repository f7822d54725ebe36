//! What a rollout does, for people: its status.

use bifrost_config::Axis;
use bifrost_crds::{AnalysisStatus, MigrationPhase, MigrationStatus, RolloutStatus};
use k8s_openapi::jiff::Timestamp;

use super::plan::Wish;
use super::record::{Candidate, Record};
use crate::migration::Judged;
use crate::migration::outlook::{Circumstances, Held, cut, outlook};

/// What a status is made of.
pub struct Facts<'a> {
    /// What is noted.
    pub record: &'a Record,
    /// The spec's; none where that part of it is not valid.
    pub wish: Option<&'a Wish>,
    /// Why it is not followed, where it is not.
    pub held: Option<Held>,
    /// Whether the stable revision is what the spec asks for.
    pub is_wanted: bool,
    /// What the Deployment waits for on its way to the stable revision's image, in a sentence.
    pub rolling: Option<&'a str>,
    /// Which providers would have no key in use any more, in a sentence.
    pub keyless: Option<&'a str>,
    /// What the analysis comes to; none where there is none.
    pub judged: Option<&'a Judged>,
    /// The same as it is told.
    pub analysis: Option<AnalysisStatus>,
    /// Pods of the candidate's own that are ready.
    pub ready: usize,
    /// What keeps the others from it, in a sentence.
    pub trouble: Option<&'a str>,
}

/// The status.
pub fn status(facts: Facts<'_>, now: Timestamp) -> RolloutStatus {
    let Facts { record, wish, held, is_wanted, rolling, keyless, judged, analysis, ready, trouble } = facts;
    let status = RolloutStatus {
        stable_revision: Some(record.stable.id.clone()),
        stable_image: Some(record.stable.image.clone()),
        handled_request: record.requests().newest().map(str::to_owned),
        refusal: record.requests().refusal().map(cut),
        ..RolloutStatus::default()
    };
    let Some(candidate) = &record.candidate else {
        let (phase, message) = match (held, rolling) {
            (Some(held), _) if !is_wanted => (MigrationPhase::Paused, held.as_str()),
            (_, Some(rolling)) => (MigrationPhase::Progressing, rolling),
            _ => (MigrationPhase::Completed, "the stable revision is what the spec asks for"),
        };
        return RolloutStatus { phase: Some(phase), message: Some(cut(message)), ..status };
    };
    let own_pods = record.has_own_pods();
    let guard = wish.map(|wish| wish.guard.clone()).unwrap_or_default();
    let plan = wish.and_then(|wish| wish.plan.as_ref());
    // A candidate without a plan is one that another strategy takes over as soon as it is looked at.
    let held = held.or_else(|| plan.is_none().then_some(Held::Paused));
    let circumstances = Circumstances { plan, held, guard: &guard, judged, keyless };
    let told = outlook(Axis::Rollout, circumstances, &candidate.progress, now);
    let MigrationStatus { phase, step, message, step_started_at, hold_ends_at, rollback, .. } = told;
    let waits = waits_for(candidate, ready, trouble).filter(|_| held.is_none());
    RolloutStatus {
        candidate_revision: Some(candidate.revision.id.clone()),
        candidate_image: own_pods.then(|| candidate.revision.image.clone()),
        percent: Some(candidate.served.map_or(0, |served| i32::from(served.percent))),
        candidate_ready_replicas: i32::try_from(ready).ok().filter(|_| own_pods),
        // The last stage is over when the Deployment has followed.
        phase: if waits.is_some() { Some(MigrationPhase::Progressing) } else { phase },
        step,
        message: waits.map(|waits| cut(&waits)).or(message),
        step_started_at,
        hold_ends_at,
        rollback,
        analysis,
        ..status
    }
}

/// Which pods it waits for.
fn waits_for(candidate: &Candidate, ready: usize, trouble: Option<&str>) -> Option<String> {
    if candidate.progress.rollback.is_some() {
        return None;
    }
    if candidate.promoting {
        return Some("the Deployment is rolled to the candidate's image, which serves everything meanwhile".to_owned());
    }
    candidate.waiting?;
    match candidate.served?.pods {
        Some(wanted) if ready < wanted => {
            let trouble = trouble.map_or_else(String::new, |trouble| format!("; {trouble}"));
            Some(format!("waits for the candidate's pods: {ready} of {wanted} are ready{trouble}"))
        }
        Some(_) => Some("waits for every pod to confirm the candidate and to reach its pods".to_owned()),
        None => Some("waits for every pod to confirm the candidate".to_owned()),
    }
}
