//! Writes what was built, and deletes what is not wanted any more.
//!
//! The Secret goes before the ConfigMap that names its keys, and both before everything else. A part that cannot be written does
//! not stop the later ones, save that no ConfigMap may name a key whose value is not there, and that pods do not change without
//! both.

use bifrost_config::Migration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};

use super::Context;
use super::build::Plan;
use super::observe::Observed;
use super::part::{Part, Stage};
use super::publish::Publication;
use crate::cluster::writer::WriteError;
use crate::cluster::{Object, Outcome, Ownership, ownership};
use crate::events::{Event, Reason};
use crate::names;

/// What was written.
#[derive(Default)]
pub struct Applied {
    /// What is worth an event.
    pub events: Vec<Event>,
    /// The Deployment as it is now, if it was written.
    pub deployment: Option<DynamicObject>,
    /// Whether the pods can know the table that was built: the published ConfigMap is as it shall be.
    pub published: bool,
    /// The first thing that could not be written, and why. No part: something that is not wanted any more could not be looked for
    /// or deleted.
    pub error: Option<(Option<Part>, WriteError)>,
}

/// Writes a plan, stage by stage.
pub async fn apply(context: &Context, observed: &Observed, plan: &Plan, whole: bool) -> Applied {
    let mut applied = Applied::default();
    // Pods that are made anew go on with what was published last.
    let serves = observed.own(Part::Published).is_some() && observed.own(Part::Deployment).is_none();
    for stage in Stage::ALL {
        if !goes_on(stage, applied.error.as_ref(), applied.published, serves) {
            continue;
        }
        let of_stage = plan.objects.iter().filter(|(part, _)| part.stage() == stage);
        let writes = of_stage.map(|(part, object)| write(context, observed, plan, *part, object));
        for one in futures::future::join_all(writes).await {
            applied.absorb(one);
        }
        applied.published |= stage == Stage::Published && applied.error.is_none();
    }
    if applied.published {
        let pruned = match prune_candidate(context, observed, plan).await {
            Ok(()) if whole => prune(context, observed, plan).await,
            other => other,
        };
        if let Err(failed) = pruned {
            applied.error.get_or_insert((None, failed));
        }
    }
    applied
}

/// Whether a stage is written after what failed before it. `published`: the table is. `serves`: pods are missing that would serve
/// without a new one.
fn goes_on(stage: Stage, failed: Option<&(Option<Part>, WriteError)>, published: bool, serves: bool) -> bool {
    let Some((_, error)) = failed.filter(|_| !published) else { return true };
    match stage {
        // Only an answer says that the others have a chance, and after a conflict everything is read again at once.
        _ if !error.is_lasting() => false,
        Stage::Keys | Stage::Published => false,
        Stage::Independent | Stage::Binding => true,
        Stage::Pods => serves,
    }
}

async fn write(context: &Context, observed: &Observed, plan: &Plan, part: Part, object: &Object) -> Applied {
    let mut applied = Applied::default();
    match context.writer.write(observed.namespace(), object, observed.own(part)).await {
        Ok((outcome, after)) => {
            note(context, observed, object, outcome);
            applied.events = events(context, observed, plan, part, outcome);
            applied.deployment = after.filter(|_| part == Part::Deployment);
        }
        Err(error) => applied.error = Some((Some(part), error)),
    }
    applied
}

fn note(context: &Context, observed: &Observed, object: &Object, outcome: Outcome) {
    let word = match outcome {
        Outcome::Unchanged => return,
        Outcome::Created => "created",
        Outcome::Changed => "changed",
        Outcome::Repaired => "repaired",
    };
    let kind = object.resource.kind.as_str();
    context.metrics.writes.with_label_values(&[kind, word]).inc();
    tracing::info!(namespace = observed.namespace(), gateway = observed.name(), kind, name = object.name, "{word}");
}

impl Applied {
    /// Whether the API server does not take the Secret, and will not the next time.
    pub fn refuses_keys(&self) -> bool {
        self.error.as_ref().is_some_and(|(part, error)| *part == Some(Part::Keys) && error.is_lasting())
    }

    /// Both, with the first failure of both.
    pub fn and(mut self, later: Self) -> Self {
        self.published |= later.published;
        self.absorb(later);
        self
    }

    fn absorb(&mut self, other: Self) {
        self.events.extend(other.events);
        self.deployment = self.deployment.take().or(other.deployment);
        if let Some(error) = other.error {
            self.error.get_or_insert(error);
        }
    }
}

fn events(context: &Context, observed: &Observed, plan: &Plan, part: Part, outcome: Outcome) -> Vec<Event> {
    let mut events = Vec::new();
    if outcome == Outcome::Unchanged {
        return events;
    }
    let mut drift = outcome == Outcome::Repaired;
    match part {
        Part::Keys => {
            let epoch = plan.publication.traffic.epoch;
            let rotated = context.memory.rotated(observed, &plan.secret);
            // The same value as before over another one, or a member that never was a key: somebody else wrote there.
            drift |= rotated.len() < plan.secret.rotated.len() || !plan.secret.foreign.is_empty();
            events.extend(rotated.iter().map(|key| {
                let generation = plan.secret.generations.get(key).copied().unwrap_or(0);
                Event::new(
                    Reason::KeyRotated,
                    format!("ProviderKey {key}: a new value was published, generation {generation}"),
                )
            }));
            events.extend(plan.secret.released.iter().map(|key| {
                Event::new(
                    Reason::KeyRevoked,
                    format!("ProviderKey {key}: no pod uses the key any more, as of epoch {epoch}"),
                )
            }));
        }
        Part::Published => {
            let repaired = context.memory.repeats(observed, &plan.publication);
            drift |= repaired;
            if !repaired {
                events.extend(publication_events(&plan.publication));
            }
        }
        _ => {}
    }
    if drift {
        let what = part.describe(observed.name());
        events.push(Event::new(
            Reason::DriftCorrected,
            format!("{what} was changed or deleted by another hand and is again what it should be"),
        ));
    }
    events
}

fn publication_events(publication: &Publication) -> Vec<Event> {
    let traffic = &publication.traffic;
    let mut events = Vec::new();
    if publication.config_changed {
        let note = format!("configuration {} is published, epoch {}", traffic.revision, traffic.epoch);
        events.push(Event::new(Reason::ConfigApplied, note));
    }
    if let Some(before) = &publication.traffic_before {
        let note = format!(
            "{} → {} of the eligible requests take the bifrost arm, epoch {}",
            share(before),
            share(&traffic.migration()),
            traffic.epoch
        );
        events.push(Event::new(Reason::TrafficChanged, note));
    }
    events
}

/// How much a split gives to the bifrost arm.
fn share(split: &Migration) -> String {
    let strategy = split.strategy.as_str();
    match split.rules.len() {
        0 => format!("{strategy} {} %", split.percent),
        1 => format!("{strategy} what 1 rule names"),
        rules => format!("{strategy} what {rules} rules name"),
    }
}

/// Deletes objects of this gateway that are not wanted any more. Those of today's names were read anyway; those that an earlier
/// release named otherwise are looked for once.
async fn prune(context: &Context, observed: &Observed, plan: &Plan) -> Result<(), WriteError> {
    for part in Part::ALL.into_iter().filter(|part| !part.is_of_candidate()) {
        let wanted = plan.objects.iter().any(|(wanted, _)| *wanted == part);
        if let (false, Some(object)) = (wanted, observed.own(part)) {
            delete(context, observed, part, &object.metadata).await?;
        }
    }
    if !context.memory.begin_prune(observed) {
        return Ok(());
    }
    let mut done = Vec::new();
    for part in Part::ALL {
        let resource = part.resource();
        if done.contains(&resource.kind) {
            continue;
        }
        done.push(resource.kind.clone());
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), observed.namespace(), &resource);
        let labels =
            format!("{},{}={}", names::selector_text(observed.name()), names::LABEL_MANAGED_BY, names::OPERATOR);
        let list = api.list_metadata(&ListParams::default().labels(&labels)).await.map_err(|source| {
            WriteError::Api { kind: resource.kind.clone(), name: String::new(), source: Box::new(source) }
        })?;
        let kept: Vec<_> =
            Part::ALL.iter().filter(|p| p.resource().kind == resource.kind).map(|p| p.name(observed.name())).collect();
        for object in list.items {
            let ours = ownership(Some(&object.metadata), &observed.owner) == Ownership::Ours;
            let is_history = object.labels().contains_key(names::LABEL_REVISION);
            if ours && !is_history && !kept.contains(&object.name_any()) {
                delete(context, observed, part, &object.metadata).await?;
            }
        }
    }
    context.memory.end_prune(observed);
    Ok(())
}

/// Deletes the objects of a candidate that is gone, also while the spec is held: that takes away. Its pods are shut off from others until
/// the last of them has ended.
async fn prune_candidate(context: &Context, observed: &Observed, plan: &Plan) -> Result<(), WriteError> {
    if !plan.drops_candidate {
        return Ok(());
    }
    for part in [Part::Candidate, Part::CandidateService, Part::CandidatePolicy] {
        if part == Part::CandidatePolicy && !observed.candidates.is_empty() {
            continue;
        }
        if let Some(object) = observed.own(part) {
            delete(context, observed, part, &object.metadata).await?;
        }
    }
    Ok(())
}

async fn delete(context: &Context, observed: &Observed, part: Part, meta: &ObjectMeta) -> Result<(), WriteError> {
    let resource = part.resource();
    let name = meta.name.as_deref().unwrap_or_default();
    context.writer.delete(observed.namespace(), &resource, name, meta.uid.clone()).await?;
    context.metrics.writes.with_label_values(&[resource.kind.as_str(), "deleted"]).inc();
    tracing::info!(namespace = observed.namespace(), gateway = observed.name(), kind = resource.kind, name, "deleted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(part: Option<Part>, code: u16) -> Applied {
        let status = serde_json::json!({"status": "Failure", "code": code, "reason": "", "message": ""});
        let source = Box::new(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())));
        let error = WriteError::Api { kind: "Secret".into(), name: String::new(), source };
        Applied { error: Some((part, error)), ..Applied::default() }
    }

    fn stages(applied: &Applied, serves: bool) -> Vec<Stage> {
        let goes_on = |stage: &Stage| goes_on(*stage, applied.error.as_ref(), applied.published, serves);
        Stage::ALL.into_iter().filter(goes_on).collect()
    }

    #[test]
    fn without_the_secret_everything_that_does_not_need_it_is_repaired() {
        let refused = failed(Some(Part::Keys), 403);
        assert_eq!(stages(&refused, false), [Stage::Independent, Stage::Binding]);
        assert_eq!(stages(&refused, true), [Stage::Independent, Stage::Binding, Stage::Pods]);
        let published = Applied { published: true, ..failed(Some(Part::Service), 403) };
        assert_eq!(stages(&published, false), Stage::ALL);
    }

    #[test]
    fn after_a_conflict_or_without_the_lead_nothing_more_is_written() {
        assert!(stages(&failed(Some(Part::Published), 409), true).is_empty());
        let lost = Applied { error: Some((Some(Part::Keys), WriteError::NotLeading)), ..Applied::default() };
        assert!(stages(&lost, true).is_empty());
    }

    #[test]
    fn only_a_secret_that_was_to_be_written_leads_to_a_retreat() {
        assert!(failed(Some(Part::Keys), 403).refuses_keys());
        assert!(!failed(Some(Part::Keys), 409).refuses_keys());
        assert!(!failed(None, 403).refuses_keys(), "leftovers that could not be looked for");
    }
}
