//! What is seen and recorded of the revisions of a gateway, for the rules of a rollout ([`crate::rollout`]).

use bifrost_config::{Config, Strategy};
use bifrost_crds::RolloutStatus;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::observe::Observed;
use super::part::Part;
use super::status::is_ready;
use super::target::is_of;
use super::validate::{Policy, cause, last_candidate, last_config};
use super::{draft, images};
use crate::migration::Seen;
use crate::migration::crash::crash;
use crate::migration::progress::{Progress, Rollback};
use crate::rollout::plan::Wish;
use crate::rollout::record::{Candidate, Record};
use crate::rollout::revision::{Revision, meaning};
use crate::rollout::{self, Outcome, Sight};

/// Where the rollout is to go from here. `keyless`: which providers would lose their last key with the candidate.
pub(super) fn follow(
    observed: &Observed,
    newest: &Config,
    wanted: &Revision,
    wish: &Wish,
    keyless: Option<&str>,
    policy: &Policy,
) -> Outcome {
    let mut record = last_record(observed, Some(newest), wanted, policy);
    // Another spelling is no other revision: nothing would change, and a later operator may spell it otherwise.
    let newest = meaning(newest);
    let is_same = last_config(observed).is_some_and(|last| meaning(last) == newest);
    if is_same && record.stable.image == wanted.image {
        record.stable = wanted.clone();
    }
    if let Some(candidate) = &mut record.candidate
        && candidate.meaning == newest
        && candidate.revision.image == wanted.image
    {
        candidate.revision = wanted.clone();
        candidate.progress.revision.clone_from(&wanted.id);
        candidate.progress.config.clone_from(&wanted.config);
    }
    let mut outcome = with_sight(observed, &record, |sight| {
        let sight = Sight { seen: Seen { keyless, ..sight.seen }, ..sight };
        rollout::decide::decide(wish, wanted, &record, sight, observed.now)
    });
    if let Some(candidate) = &mut outcome.record.candidate {
        candidate.meaning = newest;
    }
    outcome
}

/// Where it stays, less what is to be taken back. `config`: what was published last.
pub(super) fn hold(observed: &Observed, config: &Config, policy: &Policy) -> Outcome {
    let name = draft::config_revision(&observed.gateway);
    let image = images::wanted(observed, &policy.images).ok();
    let wanted = image.map(|image| Revision::new(&name, &image));
    let running = images::running(observed, &policy.images).unwrap_or_default();
    let stable = Revision::of_published(config, &running);
    let record = last_record(observed, None, &stable, policy);
    let wish = rollout::plan::read(&observed.gateway.spec.rollout).ok();
    let mut outcome = with_sight(observed, &record, |sight| {
        rollout::hold::hold(wish.as_ref(), wanted.as_ref(), &record, sight, observed.now)
    });
    let is_other = |candidate: &Candidate| candidate.revision.config != record.stable.config;
    if let Some(candidate) = outcome.record.candidate.as_mut().filter(|candidate| is_other(candidate))
        && last_candidate(observed).is_none()
    {
        // Its configuration is lost, and under its name no other may be served.
        candidate.served = None;
    }
    outcome
}

/// What was recorded of revisions: what this process published counts more than what it finds. With the record lost, what is published
/// and what runs tell which is stable. `newest`: the spec's configuration, where it is valid, whose revision is `wanted`.
fn last_record(observed: &Observed, newest: Option<&Config>, wanted: &Revision, policy: &Policy) -> Record {
    let remembered = observed.remembered.as_ref().map(|remembered| remembered.record.clone());
    let found = || observed.live.state.rollout.clone().map(|record| with_allowed_images(record, observed, policy));
    let recorded = remembered.or_else(found);
    let last = last_config(observed);
    // A record of a configuration that is lost tells of nothing that could be gone on with.
    let is_usable = |record: &Record| last.is_some() || record.stable.config == wanted.config;
    let mut recorded = match recorded {
        Some(record) if is_usable(&record) => record,
        None if observed.kept.is_some() && observed.live.published.is_none() => kept(observed, wanted),
        other => {
            let is_newest = |last: &Config| newest.is_none_or(|newest| meaning(last) == meaning(newest));
            let image = observed.own(Part::Deployment).and_then(images::of);
            let image = image.as_deref().unwrap_or(&wanted.image);
            let stable = match last.filter(|last| !is_newest(last)) {
                Some(last) => Revision::of_published(last, image),
                None => Revision::new(&wanted.config, image),
            };
            let history = other.map(|lost| lost.history).unwrap_or_default();
            Record { history, ..Record::new(stable, observed.rollout_request()) }
        }
    };
    if recorded.candidate.as_ref().is_some_and(|candidate| !policy.images.allows_image(&candidate.revision.image)) {
        recorded.candidate = None;
    }
    recorded
}

/// What history and status tell, where all else is lost: a rollback of which the status still tells stays in force.
fn kept(observed: &Observed, wanted: &Revision) -> Record {
    let status = observed.gateway.status.as_ref().and_then(|status| status.rollout.as_ref());
    let stable = observed.kept.as_ref().map(|(revision, _)| revision.clone()).unwrap_or_default();
    let history = vec![stable.id.clone()];
    let record = Record { proven: true, history, ..Record::new(stable, observed.rollout_request()) };
    let is_it = |status: &&RolloutStatus| status.candidate_revision.as_ref() == Some(&wanted.id);
    let told = status.filter(is_it).and_then(|status| status.rollback.as_ref());
    let candidate = told.map(|told| {
        let candidate = Candidate::new(wanted, Strategy::Canary, record.requests(), observed.now);
        let rollback =
            Rollback { from: None, at: told.at.0, reason: cause(&told.reason), message: told.message.clone() };
        Candidate { progress: Progress { rollback: Some(rollback), ..candidate.progress.clone() }, ..candidate }
    });
    Record { candidate, ..record }
}

/// A record that another hand may have written: it must not choose what runs.
fn with_allowed_images(mut record: Record, observed: &Observed, policy: &Policy) -> Record {
    let deployment = observed.own(Part::Deployment).and_then(images::of);
    let is_known =
        policy.images.allows_image(&record.stable.image) || deployment.as_ref() == Some(&record.stable.image);
    if !is_known {
        let image = deployment.unwrap_or_else(|| policy.images.default_image().to_owned());
        record.stable = Revision::new(&record.stable.config, &image);
    }
    record
}

fn with_sight(observed: &Observed, record: &Record, decide: impl FnOnce(Sight<'_>) -> Outcome) -> Outcome {
    let progress = record.candidate.as_ref().map(|candidate| &candidate.progress);
    let id = record.candidate.as_ref().map(|candidate| candidate.revision.id.as_str());
    let pods: Vec<_> = match record.has_own_pods() {
        true => observed.candidates.iter().filter(|pod| is_of(pod, id)).cloned().collect(),
        false => observed.pods.clone(),
    };
    let crash = progress.and_then(|progress| crash(&pods, progress.watched?, progress.crash.as_deref()));
    let judged = rollout::judged(observed.rollout_report.as_deref());
    let seen = Seen {
        request: observed.rollout_request(),
        confirmed: observed.summary.programmed,
        crash: crash.as_ref(),
        judged: Some(&judged),
        keyless: None,
    };
    let image = record.candidate.as_ref().map(|candidate| candidate.revision.image.as_str());
    let trouble = trouble(&pods);
    decide(Sight {
        seen,
        trouble: trouble.as_deref(),
        is_shared: observed.candidates.iter().any(|pod| is_ready(pod) && !is_of(pod, id)),
        is_known: observed.summary.is_known,
        is_back: observed.own(Part::Deployment).and_then(images::of).as_ref() == Some(&record.stable.image),
        runs_stable: images::is_run(observed, &record.stable.image),
        loaded: observed.summary.holds_candidate,
        ready: observed.summary.candidates.1,
        alive: observed.summary.keeping,
        is_kept: observed.summary.keeps_candidate,
        replicas: usize::try_from(observed.gateway.spec.replicas).unwrap_or(0),
        rolled: image.is_some_and(|image| images::is_run(observed, image)),
    })
}

/// Bytes of what a kubelet says that are told.
const MOST_OF_TROUBLE: usize = 300;

/// What keeps pods from being ready: that of the first one whose container waits for something else than its turn, or that has no node.
pub(super) fn trouble(pods: &[Pod]) -> Option<String> {
    pods.iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let states = status.container_statuses.iter().flatten().filter_map(|one| one.state.as_ref()?.waiting.as_ref());
        let waits = states.map(|waiting| (waiting.reason.as_deref(), waiting.message.as_deref()));
        let waits = waits.filter(|(reason, _)| !matches!(reason, None | Some("ContainerCreating" | "PodInitializing")));
        let conditions = status.conditions.iter().flatten();
        let unplaced = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
        let unplaced = unplaced.map(|one| (one.reason.as_deref(), one.message.as_deref()));
        let (reason, message) = waits.chain(unplaced).next()?;
        let text = format!("pod {}: {}: {}", pod.name_any(), reason.unwrap_or_default(), message.unwrap_or_default());
        Some(text[..text.floor_char_boundary(MOST_OF_TROUBLE)].trim_end_matches([':', ' ']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_keeps_a_pod_from_being_ready_is_told() {
        let told =
            |status| trouble(&[serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()]);
        let waiting = |state| {
            json!({"containerStatuses": [{
                "name": "gateway", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": state},
            }]})
        };
        let no_image = told(waiting(json!({"reason": "ErrImagePull", "message": "g:nonsuch: not found"})));
        assert_eq!(no_image.as_deref(), Some("pod a: ErrImagePull: g:nonsuch: not found"));
        assert_eq!(told(waiting(json!({"reason": "ImagePullBackOff"}))).as_deref(), Some("pod a: ImagePullBackOff"));
        assert_eq!(told(waiting(json!({"reason": "ContainerCreating"}))), None);
        let no_node = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(told(no_node).as_deref(), Some("pod a: Unschedulable: 0/1 nodes"));
        let long = told(waiting(json!({"reason": "ErrImagePull", "message": "ä".repeat(400)}))).unwrap();
        assert!(long.len() <= MOST_OF_TROUBLE, "{long}");
        assert_eq!(trouble(&[]), None);
    }
}
