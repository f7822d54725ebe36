//! The BifrostGateway controller: observe → validate → build → apply → status.
//!
//! Only `observe`, `apply` and this file hold a client; what is decided between them is pure.

pub mod apply;
pub mod build;
mod compared;
pub mod context;
pub mod controller;
pub mod draft;
pub(crate) mod history;
pub mod images;
pub mod keys;
mod measure;
pub mod memory;
pub mod metadata;
pub mod news;
pub mod observe;
pub mod part;
pub mod publish;
pub mod refusal;
mod revisions;
pub mod secret;
pub mod selector;
pub mod size;
pub mod status;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use bifrost_analysis::Position;
use bifrost_config::catalog::Front;
use bifrost_config::{Config, Plan as MigrationPlan};
use bifrost_crds::{BifrostGateway, BifrostGatewayStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource};

use self::apply::{Applied, apply};
use self::build::{Circumstances, Plan, build, build_retreat};
use self::context::{Context, Error};
use self::observe::{Observed, observe};
use self::part::Part;
use self::refusal::Failure;
use self::status::{Facts, status};
use self::target::InForce;
use self::validate::{Decision, Wanted, retreat, validate};
use crate::analysis::Watched;
use crate::analysis::ask::{Named, Subject};
use crate::cluster::writer::WriteError;
use crate::cluster::{STATUS_MANAGER, is_not_found};
use crate::confirm::{GatewayName, Summary};
use crate::events::{Event, Reason};
use crate::migration::outlook;
use crate::migration::progress::Progress;
use crate::migration::step::{has_preview, is_watched};
use crate::rollout::record::Record;

/// How long a reconciliation waits for the pods to confirm before it reports that they did not: most confirm in less, and then the
/// conditions do not flap.
const PATIENCE: Duration = Duration::from_millis(500);
/// When to look again while objects of an earlier gateway are collected.
const COLLECTION: Duration = Duration::from_secs(1);
/// When to look whether a foreign object of a name that is needed is gone.
const CONFLICT: Duration = Duration::from_secs(5);
/// When to look again although nothing happened: a guard against a watch that fails silently.
const RESYNC: Duration = Duration::from_mins(10);

/// Brings one gateway closer to its spec.
pub async fn reconcile(name: GatewayName, context: Arc<Context>) -> Result<Action, Error> {
    let Some(mut observed) = observe(&context.client, &name.0, &name.1).await? else {
        context.forget(&name);
        return Ok(Action::await_change());
    };
    if context.memory.is_new(&observed) {
        // What was written for an earlier gateway of this name is none of this one's: nothing of it was changed by another hand.
        context.forget_writes(&name);
    }
    observed.remembered = context.memory.recall(&observed);
    observed.summary = InForce::of(&observed, None)
        .map(|in_force| context.confirmations.peek(&name, &in_force.target))
        .unwrap_or_default();
    let table = observed.live.published.as_ref().map(|published| &published.traffic);
    let share = table.and_then(|table| table.rollout.as_ref());
    let rollout_report = share.and_then(|share| context.rollout_analyses.report(&name, share.since));
    observed.report = table.and_then(|table| context.analyses.report(&name, table.since));
    observed.rollout_report = rollout_report;
    observed.prices = context.analyses.prices();
    let mut decision = validate(&observed, &context.policy);
    if decision.whole
        && let Some(wanted) = &mut decision.wanted
    {
        history::keep(&context, &observed, &mut wanted.record).await;
    }
    let Done { plan, published, mut applied } = write(&context, &name, &observed, &decision).await?;
    publish_events(&context, &observed, &applied.events);
    publish_events(&context, &observed, published.as_ref().map_or(&[], |wanted| &wanted.events));
    if let Some((_, conflict)) = applied.error.take_if(|(_, error)| error.is_conflict()) {
        return Err(conflict.into());
    }
    let written = plan.as_ref().filter(|_| applied.published);
    // One failure in passing is no state to report; it is tried again at once.
    if context.memory.failures(&observed, applied.error.is_some()) == 1
        && let Some((_, error)) = applied.error.take()
    {
        return Err(error.into());
    }
    let in_force = InForce::of(&observed, written);
    let summary = match &in_force {
        Some(in_force) => context.confirmations.settle(&name, in_force.target.clone(), PATIENCE).await,
        None => Summary::default(),
    };
    let progress = published.as_ref().map(|wanted| &wanted.progress).or(observed.live.state.migration.as_ref());
    let config = published.as_ref().map(|wanted| &wanted.config);
    let config = config.or(observed.live.published.as_ref().map(|published| &published.config));
    let record = published.as_ref().map(|wanted| &wanted.record).or(observed.live.state.rollout.as_ref());
    watch(&context, &name, &decision, progress, config, in_force.as_ref());
    watch_rollout(&context, &name, &decision, record, in_force.as_ref());
    report(&context, &observed, &decision, (progress, record), in_force.as_ref(), &summary, &applied).await?;
    match applied.error {
        Some((_, error)) => Err(error.into()),
        None => Ok(Action::requeue(next_look(&decision, Timestamp::now()))),
    }
}

/// Foreign objects are not watched, so their going is looked for. Nor does anything tell that a hold is over.
fn next_look(decision: &Decision, now: Timestamp) -> Duration {
    let conflict = decision.rejection.as_ref().is_some_and(|rejection| rejection.reason == Reason::NameConflict);
    let look = match (decision.waits_for.is_empty(), conflict) {
        (false, _) => COLLECTION,
        (true, true) => CONFLICT,
        (true, false) => RESYNC,
    };
    let wait = decision.wake.map(|wake| Duration::try_from(wake.duration_since(now)).unwrap_or_default());
    wait.map_or(look, |wait| look.min(wait))
}

/// Lets the pods' counts be pulled for as long as the stage is watched.
fn watch(
    context: &Context,
    name: &GatewayName,
    decision: &Decision,
    progress: Option<&Progress>,
    config: Option<&Config>,
    in_force: Option<&InForce>,
) {
    let watched = || {
        let (plan, progress, config, in_force) = (decision.plan.as_ref()?, progress?, config?, in_force?);
        let analysis = decision.guard.analysis.clone()?;
        let level = plan.level_of(progress.position.as_ref())?;
        is_watched(plan, level, progress, Timestamp::now()).then(|| Watched {
            // What a candidate's own pods serve is compared elsewhere.
            pods: in_force.target.pods.iter().filter(|pod| !pod.of_candidate).cloned().collect(),
            token: in_force.target.token.clone(),
            mark: in_force.table.since,
            analysis,
            providers: config.providers.iter().map(|one| (one.name.clone(), one.provider_type)).collect(),
            position: position(plan, progress),
            subject: subject(name, plan, progress, level, in_force),
        })
    };
    match watched() {
        Some(watched) => context.analyses.follow(name, watched),
        None => context.analyses.forget(name),
    }
}

/// The same of a candidate.
fn watch_rollout(
    context: &Context,
    name: &GatewayName,
    decision: &Decision,
    record: Option<&Record>,
    in_force: Option<&InForce>,
) {
    let watched = || {
        let (wish, candidate, in_force) = (decision.wish.as_ref()?, record?.candidate.as_ref()?, in_force?);
        let (plan, analysis) = (wish.plan.as_ref()?, wish.guard.analysis.clone()?);
        let share = in_force.table.rollout.as_ref()?;
        let progress = &candidate.progress;
        let level = plan.level_of(progress.position.as_ref())?;
        let subject = Subject { percent: Some(share.percent), ..subject(name, plan, progress, level, in_force) };
        is_watched(plan, level, progress, Timestamp::now()).then(|| Watched {
            // Those of the candidate's own count nothing of it: the others see how their requests end.
            pods: in_force.target.pods.iter().filter(|pod| !pod.of_candidate).cloned().collect(),
            token: in_force.target.token.clone(),
            mark: share.since,
            analysis,
            // These are counted by the front that a request came by.
            providers: Front::ALL.map(|front| (front.name().to_owned(), front.provider_type())).into(),
            position: position(plan, progress),
            subject,
        })
    };
    match watched() {
        Some(watched) => context.rollout_analyses.follow(name, watched),
        None => context.rollout_analyses.forget(name),
    }
}

/// What a webhook is asked about.
fn subject(name: &GatewayName, plan: &MigrationPlan, progress: &Progress, level: usize, in_force: &InForce) -> Subject {
    Subject {
        gateway: Named { namespace: name.0.clone(), name: name.1.clone() },
        step: outlook::step(Some(plan), progress, level),
        revision: progress.revision.clone(),
        percent: in_force.table.wanted_percent(),
    }
}

/// Which share of the budget for false alarms a stage has.
fn position(plan: &MigrationPlan, progress: &Progress) -> Position {
    // A preview is a stage before the first.
    let before = u32::from(has_preview(plan));
    let stages = u32::try_from(plan.stages.len()).ok().filter(|_| plan.walks).map(|stages| stages + before);
    Position { step: (progress.entered + before).saturating_sub(1), steps: stages }
}

fn read_since(observed: &Observed) -> u64 {
    observed.live.published.as_ref().map_or(0, |published| published.traffic.since)
}

/// What was written of which plan.
struct Done {
    plan: Option<Plan>,
    /// What of it the pods can know.
    published: Option<Wanted>,
    applied: Applied,
}

/// Writes what was decided. If the Secret cannot be written, what only takes away is published all the same.
async fn write(context: &Context, name: &GatewayName, observed: &Observed, decision: &Decision) -> Result<Done, Error> {
    let Some(wanted) = &decision.wanted else {
        return Ok(Done { plan: None, published: None, applied: Applied::default() });
    };
    let circumstances = circumstances(context, name, observed).await?;
    let plan = build(observed, decision, wanted, &circumstances)?;
    context.memory.publishing(observed, &plan, wanted, decision.whole);
    let mut applied = apply(context, observed, &plan, decision.whole).await;
    if applied.published
        && let Err(failed) = history::prune(context, observed, &wanted.record).await
    {
        applied.error.get_or_insert((None, failed));
    }
    if applied.published {
        context.memory.published(observed, &plan, wanted, decision.whole);
    }
    let retreat = if applied.refuses_keys() { retreat(observed, &context.policy) } else { None };
    let Some(back_to) = retreat else {
        let published = applied.published.then(|| wanted.clone());
        return Ok(Done { plan: Some(plan), published, applied });
    };
    let back = build_retreat(observed, &back_to, &circumstances)?;
    let retreated = apply(context, observed, &back, false).await;
    let (plan, published) = if retreated.published {
        context.memory.retreated(observed, &back, &back_to);
        (back, Some(back_to))
    } else {
        (plan, None)
    };
    Ok(Done { plan: Some(plan), published, applied: applied.and(retreated) })
}

/// What the pods are known to be at, and what goes on from before.
async fn circumstances(context: &Context, name: &GatewayName, observed: &Observed) -> Result<Circumstances, Error> {
    let before = match InForce::of(observed, None) {
        Some(in_force) => context.confirmations.peek(name, &in_force.target),
        None => Summary::default(),
    };
    let remembered = observed.remembered.as_ref();
    let known = remembered.map_or(0, |remembered| remembered.epoch).max(before.greatest_epoch);
    let running = remembered.map(|remembered| &remembered.token);
    Ok(Circumstances {
        known_epoch: target::known_epoch(context, observed).await.max(known),
        released: before.released,
        token: match secret::running_token(running, observed.secret.admin_token.as_ref()) {
            Some(token) => token.clone(),
            None => target::new_token()?,
        },
        addresses: context.policy.addresses,
    })
}

/// Writes the status if it is another than before, and publishes what changed.
async fn report(
    context: &Context,
    observed: &Observed,
    decision: &Decision,
    (progress, record): (Option<&Progress>, Option<&Record>),
    in_force: Option<&InForce>,
    summary: &Summary,
    applied: &Applied,
) -> Result<(), Error> {
    let failure = applied.error.as_ref().map(|(part, error)| Failure::new(*part, error));
    let facts = Facts {
        observed,
        decision,
        progress,
        record,
        table: in_force.map(|in_force| &in_force.table),
        // Of the stage that is published, or that was just left because of it.
        report: observed.report.as_deref().filter(|_| {
            let is_back = progress.is_some_and(|progress| progress.rollback.is_some());
            is_back || in_force.is_some_and(|in_force| in_force.table.since == read_since(observed))
        }),
        rollout_report: observed.rollout_report.as_deref(),
        summary,
        deployment: applied.deployment.as_ref().or_else(|| observed.own(Part::Deployment)),
        failure: failure.as_ref(),
    };
    let after = status(&facts, Timestamp::now());
    let before = observed.gateway.status.clone().unwrap_or_default();
    measure(context, observed, decision, progress, in_force, summary, &after);
    if after == before {
        return Ok(());
    }
    // Another process may lead by now, and tell another state. If this one still does, it must not forget to.
    if !context.writer.may_write() {
        return Err(WriteError::NotLeading.into());
    }
    let api: Api<BifrostGateway> = Api::namespaced(context.client.clone(), observed.namespace());
    let patch = serde_json::json!({
        "apiVersion": bifrost_crds::API_VERSION,
        "kind": "BifrostGateway",
        "metadata": {"name": observed.name(), "uid": observed.uid()},
        "status": after,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(observed.name(), &params, &Patch::Apply(&patch)).await {
        // Deleted in the meantime: there is nobody to report to.
        Err(error) if is_not_found(&error) => return Ok(()),
        written => written?,
    };
    publish_events(context, observed, &news::transitions(&before.conditions, &after.conditions, decision));
    publish_events(context, observed, &news::news(&before, &after));
    Ok(())
}

/// Shows the numbers of it, and publishes what they make worth an event.
fn measure(
    context: &Context,
    observed: &Observed,
    decision: &Decision,
    progress: Option<&Progress>,
    in_force: Option<&InForce>,
    summary: &Summary,
    status: &BifrostGatewayStatus,
) {
    let labels = [observed.namespace(), observed.name()];
    measure::show(&context.metrics, status, labels);
    if let Some(progress) = progress {
        measure::show_migration(&context.metrics, decision.plan.as_ref(), progress, labels);
    }
    let Some(InForce { table, .. }) = in_force else { return };
    measure::show_share(&context.metrics, table, labels);
    if let Some(took) = context.memory.confirmed(observed, summary) {
        context.metrics.confirm_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }
    if let Some(event) = measure::skew(table, summary).filter(|_| context.memory.report_skew(observed, table.epoch)) {
        publish_events(context, observed, &[event]);
    }
}

fn publish_events(context: &Context, observed: &Observed, events: &[Event]) {
    let regarding = observed.gateway.object_ref(&());
    for event in events {
        context.recorder.publish(&regarding, event.clone());
    }
}
