//! What a gateway shall be, decided from what was read. Pure.
//!
//! A spec that is not valid changes nothing, and so does `paused`, but what takes away goes on in both: a lower percent, keys that
//! are gone, rotated values. And what is missing is made again.

use bifrost_analysis::CheckKind;
use bifrost_config::{
    AddressRule, Axis, Config, Draft, KeyValues, Migration, Plan as MigrationPlan, Problem, Strategy, check_ca_bundle,
    validate as check,
};
use bifrost_crds::{CaBundleRef, RolloutStrategy};
use k8s_openapi::jiff::Timestamp;

use super::images::{self, ImagePolicy};
use super::keys::{self, KeyDecision, Selected, Unresolved};
use super::observe::{CaBundle, Observed};
use super::part::Part;
use super::selector::selector;
use super::status::counts;
use super::{draft, metadata, revisions, size};
use crate::analysis::hosts::HostRule;
use crate::analysis::judged;
use crate::cluster::Ownership;
use crate::events::{Event, Reason};
use crate::migration::crash::{Crash, crash};
use crate::migration::guard::{Guard, guard};
use crate::migration::hold::hold as hold_on;
use crate::migration::progress::{Cause, Progress, Rollback};
use crate::migration::step::step;
use crate::migration::{Judged, Revision, Seen, Transition};
use crate::rollout::plan::Wish;
use crate::rollout::record::Record;
use crate::rollout::revision::Revision as Stable;
use crate::rollout::{self, Outcome};

/// Rules of this operator, not of a resource.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which images may run.
    pub images: ImagePolicy,
    /// Which addresses a provider may have.
    pub addresses: AddressRule,
    /// Which hosts an analysis may ask for metrics.
    pub hosts: HostRule,
}

/// Why a spec is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The event, also the condition's reason.
    pub reason: Reason,
    /// What is wrong, with the path of the member.
    pub message: String,
}

/// What the pods shall act upon.
#[derive(Clone)]
pub struct Wanted {
    /// The configuration of the stable revision.
    pub config: Config,
    /// That of the candidate, where pods hold one and it is another.
    pub candidate: Option<Config>,
    /// How revisions of the gateway itself follow each other.
    pub record: Record,
    /// The split.
    pub migration: Migration,
    /// Where the migration is with it.
    pub progress: Progress,
    /// What of the migration and the rollout is worth an event once it is published.
    pub events: Vec<Event>,
    /// Values of the keys that the configurations name.
    pub values: KeyValues,
    /// Image of the pods.
    pub image: String,
}

/// What was decided. Not `Debug`: it holds key values.
#[derive(Clone)]
pub struct Decision {
    /// Why the spec is not accepted, if it is not.
    pub rejection: Option<Rejection>,
    /// Whether `spec.paused` holds.
    pub paused: bool,
    /// Objects of an earlier gateway of the same name that must be collected first.
    pub waits_for: Vec<String>,
    /// What to publish; none where there is nothing, or nowhere to put it.
    pub wanted: Option<Wanted>,
    /// Whether the other objects are to follow as well; if not, only those that are missing are made.
    pub whole: bool,
    /// References that lead nowhere, or to something that cannot be used.
    pub unresolved: Vec<Unresolved>,
    /// Provider keys that cannot be used for another reason, one sentence each.
    pub unusable: Vec<String>,
    /// Which providers have no key in use, in a sentence.
    pub keyless: Option<String>,
    /// Which would have none any more with the candidate.
    pub keyless_candidate: Option<String>,
    /// Provider keys that the selector chooses.
    pub selected: usize,
    /// The migration as the spec wants it; none where that part of it is not valid.
    pub plan: Option<MigrationPlan>,
    /// Whether the migration is held back.
    pub held: bool,
    /// What watches it.
    pub guard: Guard,
    /// What the analysis comes to; none where there is none.
    pub judged: Option<Judged>,
    /// The rollout as the spec wants it; none where that part of it is not valid.
    pub wish: Option<Wish>,
    /// When to look at the migration or the rollout again.
    pub wake: Option<Timestamp>,
}

/// Decides.
pub fn validate(observed: &Observed, policy: &Policy) -> Decision {
    let mut unresolved = Vec::new();
    let ca_bundle = ca_bundle(observed, &mut unresolved);
    let draft = draft::draft(&observed.gateway, ca_bundle);

    let waits_for = parts(observed, Ownership::Earlier);
    let conflict = conflict(observed);
    let paused = observed.gateway.spec.paused;
    let full = full(observed, &draft, policy);
    let held = conflict.is_some() || paused || full.is_err();
    let (found, rejection) = match full {
        Ok(full) if !held => (Some(full), None),
        // With what was published lost, a valid spec is the best that is known of it.
        Ok(full) => (hold(observed, &draft, policy).or_else(|| was_published(observed).then_some(full)), conflict),
        Err(rejection) => (hold(observed, &draft, policy), conflict.or(Some(rejection))),
    };
    let writable = [Part::Keys, Part::Published]
        .into_iter()
        .all(|part| matches!(observed.ownership(part), Ownership::Ours | Ownership::Absent));
    let mut decision = Decision {
        rejection,
        paused,
        wanted: None,
        whole: !held && waits_for.is_empty(),
        waits_for,
        unresolved,
        unusable: Vec::new(),
        keyless: None,
        keyless_candidate: None,
        selected: observed.keys.len(),
        plan: None,
        held,
        guard: guard(&observed.gateway.spec.migration).unwrap_or_default(),
        judged: None,
        wish: rollout::plan::read(&observed.gateway.spec.rollout).ok(),
        wake: None,
    };
    decision.judged = decision.guard.analysis.as_ref().map(|_| judged(observed.report.as_deref()));
    if let Some(Found { wanted, keys, plan, wake, keyless, keyless_candidate }) = found {
        decision.unresolved.extend(keys.unresolved);
        decision.unusable = keys.unusable;
        (decision.keyless, decision.keyless_candidate) = (keyless, keyless_candidate);
        if writable && decision.waits_for.is_empty() {
            decision.wanted = Some(wanted);
            decision.plan = plan;
            decision.wake = wake;
        }
    }
    decision
}

/// What takes away of the spec, with the key values that the Secret holds already: for a Secret that cannot be written. `None`: there
/// is nothing to hold on to.
pub fn retreat(observed: &Observed, policy: &Policy) -> Option<Wanted> {
    observed.own(Part::Keys)?;
    observed.own(Part::Published)?;
    let draft = draft::draft(&observed.gateway, None);
    let mut wanted = hold(observed, &draft, policy)?.wanted;
    let there = &observed.secret.values;
    let configs = std::iter::once(&mut wanted.config).chain(&mut wanted.candidate);
    configs.for_each(|config| config.keys.retain(|key| there.contains_key(&key.name)));
    let keys = wanted.config.keys.iter().chain(wanted.candidate.iter().flat_map(|config| &config.keys));
    wanted.values = keys.filter_map(|key| Some((key.name.clone(), there.get(&key.name)?.clone()))).collect();
    Some(wanted)
}

/// What is wanted, and what is to be said of the keys and the migration.
struct Found {
    wanted: Wanted,
    keys: KeyDecision,
    plan: Option<MigrationPlan>,
    wake: Option<Timestamp>,
    keyless: Option<String>,
    keyless_candidate: Option<String>,
}

impl Found {
    /// `keys`: of the stable configuration and of the candidate's, where it has another. What is to be said is said of the newer one.
    fn new(
        (config, candidate): (Config, Option<Config>),
        (mut keys, newer): (KeyDecision, Option<KeyDecision>),
        transition: Transition,
        rollout: Outcome,
        image: String,
    ) -> Self {
        let config = Config { keys: std::mem::take(&mut keys.keys), ..config };
        let mut values = std::mem::take(&mut keys.values);
        let mut told = newer.unwrap_or(keys);
        values.extend(std::mem::take(&mut told.values));
        let candidate = candidate.map(|config| Config { keys: std::mem::take(&mut told.keys), ..config });
        let keyless = keys::keyless(&keys::without_key(&config.providers, &config.keys));
        let Transition { progress, split, mut events, wake } = transition;
        events.extend(rollout.events);
        let wake = [wake, rollout.wake].into_iter().flatten().min();
        let record = rollout.record;
        let wanted = Wanted { config, candidate, record, migration: split, progress, events, values, image };
        Self { wanted, keys: told, plan: None, wake, keyless, keyless_candidate: None }
    }
}

fn full(observed: &Observed, draft: &Draft, policy: &Policy) -> Result<Found, Rejection> {
    let spec = &observed.gateway.spec;
    let checked = check(draft, policy.addresses);
    let image = images::wanted(observed, &policy.images);
    let mut problems = checked.as_ref().err().cloned().unwrap_or_default();
    problems.extend(metadata::check(spec));
    problems.extend(selector(&observed.gateway).err());
    problems.extend(image.as_ref().err().cloned());
    let guard = guard(&spec.migration);
    let wish = rollout::plan::read(&spec.rollout);
    for guard in [guard.as_ref(), wish.as_ref().map(|wish| &wish.guard)] {
        problems.extend(match guard {
            Ok(guard) => policy.hosts.problems(guard.analysis.as_ref().map_or(&[], |analysis| &analysis.metrics)),
            Err(problems) => problems.clone(),
        });
    }
    let (Ok((newest, plan)), Ok(image), Ok(guard), Ok(wish), []) = (checked, image, guard, wish, problems.as_slice())
    else {
        return Err(rejected(&problems));
    };
    let wanted = Stable::new(&draft::config_revision(&observed.gateway), &image);
    let keys = |last, providers| keys::decide(selected(observed, last), providers);
    let older = last_candidate(observed).or(last_config(observed));
    let newest_keys = keys(older, &newest.providers);
    let keyless_candidate = losing_keys(observed, &newest, &newest_keys);
    let rollout = revisions::follow(observed, &newest, &wanted, &wish, keyless_candidate.as_deref(), policy);
    let record = &rollout.record;
    let config = match last_config(observed) {
        // Certificates are followed at once, as keys are.
        Some(last) if record.stable.config != wanted.config => {
            Config { ca_bundle: newest.ca_bundle.clone(), ..last.clone() }
        }
        _ => newest.clone(),
    };
    let served = record.served().filter(|(revision, _)| revision.config != record.stable.config);
    let candidate = served.map(|_| newest.clone());
    let names = Names::of(observed, &record.stable);
    let before = apart_from_rollout(last_progress(observed, plan.strategy, &names), record);
    let (judged, crash) = (judged(observed.report.as_deref()), last_crash(observed, &before));
    let stable_keys = keys(last_config(observed), &config.providers);
    let keyless = keys::keyless(&keys::without_key(&config.providers, &stable_keys.keys));
    let seen = Seen { keyless: keyless.as_deref(), ..seen(observed, crash.as_ref(), &judged) };
    let mut transition = step(&plan, &guard, names.revision(), &before, seen, observed.now);
    share_shadow(&mut transition.split, observed, &config);
    let asks_for = |kind| [&guard, &wish.guard].into_iter().any(|guard| guard.asks_for(&kind));
    transition.split.tool_calls = asks_for(CheckKind::InvalidToolCallRate);
    transition.split.empty_answers = asks_for(CheckKind::EmptyResponseRate);
    let decided = (stable_keys, candidate.as_ref().map(|_| newest_keys));
    let image = record.image().to_owned();
    let found = Found { keyless_candidate, ..Found::new((config, candidate), decided, transition, rollout, image) };
    size::check(&found.wanted)
        .map_err(|problem| Rejection { reason: Reason::ConfigTooLarge, message: problem.to_string() })?;
    Ok(Found { plan: Some(plan), ..found })
}

/// The providers that have a key under what was published last, and would have none under the newest configuration: as a sentence.
fn losing_keys(observed: &Observed, newest: &Config, newest_keys: &KeyDecision) -> Option<String> {
    let last = last_config(observed)?;
    let before = keys::decide(selected(observed, Some(last)), &last.providers);
    let had_one = |name: &&str| before.keys.iter().any(|key| key.provider == **name);
    let lost: Vec<_> = keys::without_key(&newest.providers, &newest_keys.keys).into_iter().filter(had_one).collect();
    keys::keyless(&lost)
}

/// What is published, less what is to be taken away.
fn hold(observed: &Observed, draft: &Draft, policy: &Policy) -> Option<Found> {
    let config = last_config(observed)?.clone();
    let last = last_migration(observed)?;
    let rollout = revisions::hold(observed, &config, policy);
    let alone = Draft { migration: draft.migration.clone(), ..Draft::default() };
    let plan = check(&alone, policy.addresses).ok().map(|(_, plan)| plan);
    let names = Names::of(observed, &rollout.record.stable);
    let before = apart_from_rollout(last_progress(observed, last.strategy, &names), &rollout.record);
    let guard = guard(&observed.gateway.spec.migration).unwrap_or_default();
    let (judged, crash) = (judged(observed.report.as_deref()), last_crash(observed, &before));
    let seen = seen(observed, crash.as_ref(), &judged);
    let axis = Axis::Migration;
    let mut transition = hold_on(axis, plan.as_ref(), &guard, names.revision(), &before, &last, seen, observed.now);
    share_shadow(&mut transition.split, observed, &config);
    let with_ca = |config: Config| {
        let ca_bundle = config.ca_bundle.clone().filter(|pem| check_ca_bundle(pem).is_ok());
        Config { ca_bundle, ..config }
    };
    let candidate = rollout.record.served().and_then(|_| last_candidate(observed)).cloned().map(with_ca);
    let keys = |config: &Config| keys::hold(selected(observed, Some(config)), &config.providers);
    let decided = (keys(&config), candidate.as_ref().map(keys));
    // A Deployment that is there is not touched, so what it runs is what there is to remember, allowed or not. Only one that has to
    // be made anew must not run what is not allowed.
    let is_missing = observed.own(Part::Deployment).is_none();
    let image = images::running(observed, &policy.images);
    let image = image.filter(|image| !is_missing || policy.images.allows_image(image));
    let image = image.unwrap_or_else(|| policy.images.default_image().to_owned());
    let image = if rollout.record.returning { rollout.record.stable.image.clone() } else { image };
    Some(Found { plan, ..Found::new((with_ca(config), candidate), decided, transition, rollout, image) })
}

/// Divides the money for copies among the pods that there are, or should be, and says what models cost.
fn share_shadow(split: &mut Migration, observed: &Observed, config: &Config) {
    let wanted = usize::try_from(observed.gateway.spec.replicas).unwrap_or(0);
    let pods = observed.pods.iter().filter(|pod| counts(pod)).count().max(wanted);
    let types: Vec<_> = config.providers.iter().map(|provider| provider.provider_type).collect();
    split.shadow = split.shadow.take().map(|shadow| shadow.shared(pods, &observed.prices, &types));
}

/// The configuration that was published last: what this process published counts more than what it finds, and that more than what the
/// history keeps.
pub(super) fn last_config(observed: &Observed) -> Option<&Config> {
    let remembered = observed.remembered.as_ref().map(|remembered| &remembered.config);
    let published = || observed.live.published.as_ref().map(|published| &published.config);
    remembered.or_else(published).or_else(|| observed.kept.as_ref().map(|(_, config)| config))
}

/// The same of the candidate's.
pub(super) fn last_candidate(observed: &Observed) -> Option<&Config> {
    match &observed.remembered {
        Some(remembered) => remembered.candidate.as_ref(),
        None => observed.live.candidate(),
    }
}

fn last_migration(observed: &Observed) -> Option<Migration> {
    let remembered = observed.remembered.as_ref().map(|remembered| remembered.migration.clone());
    remembered.or_else(|| observed.live.migration())
}

/// As a status spells it. One that is not known is not tried again by itself.
pub(super) fn cause(text: &str) -> Cause {
    let all = [Cause::AnalysisFailed, Cause::GatewayCrash, Cause::ProgressDeadlineExceeded];
    all.into_iter().find(|cause| cause.as_str() == text).unwrap_or(Cause::Aborted)
}

/// What was recorded of the migration: what this process published counts more than what it finds.
fn recorded_progress(observed: &Observed) -> Option<Progress> {
    let remembered = observed.remembered.as_ref().map(|remembered| remembered.progress.clone());
    remembered.or_else(|| observed.live.state.migration.clone())
}

/// Where the migration is. With the record lost, what is published tells; with that lost too, it begins anew. A rollback of which the
/// status still tells stays in force.
fn last_progress(observed: &Observed, strategy: Strategy, names: &Names) -> Progress {
    let (request, now) = (observed.request(), observed.now);
    let revision = names.whole.as_str();
    if let Some(recorded) = recorded_progress(observed) {
        return recorded;
    }
    let progress = match observed.live.migration() {
        Some(table) => Progress::of_table(&table, revision, request, now),
        None => Progress::new(strategy, revision, request, now),
    };
    let status = observed.gateway.status.as_ref().and_then(|status| status.migration.as_ref());
    let told = status.filter(|status| status.revision.as_deref() == Some(revision)).and_then(|s| s.rollback.as_ref());
    let rollback = told.map(|told| Rollback {
        from: None,
        at: told.at.0,
        reason: cause(&told.reason),
        message: told.message.clone(),
    });
    Progress { config: names.config.clone(), migration: names.migration.clone(), rollback, ..progress }
}

/// What the spec that is followed is called.
struct Names {
    whole: String,
    config: String,
    migration: String,
}

impl Names {
    /// Of a migration to what this revision does.
    fn of(observed: &Observed, stable: &Stable) -> Self {
        let whole = draft::migration_revision(&observed.gateway, &stable.config);
        let migration = draft::migration_revision(&observed.gateway, "");
        Self { whole, config: stable.config.clone(), migration }
    }

    fn revision(&self) -> Revision<'_> {
        Revision { whole: &self.whole, config: &self.config, migration: &self.migration }
    }
}

/// A container that a candidate brought down counts for the rollout alone.
fn apart_from_rollout(progress: Progress, record: &Record) -> Progress {
    let taken = record.candidate.as_ref().and_then(|candidate| candidate.progress.crash.clone());
    Progress { crash: taken.or(progress.crash), ..progress }
}

fn last_crash(observed: &Observed, progress: &Progress) -> Option<Crash> {
    crash(&observed.pods, progress.watched?, progress.crash.as_deref())
}

fn seen<'a>(observed: &'a Observed, crash: Option<&'a Crash>, judged: &'a Judged) -> Seen<'a> {
    let confirmed = observed.summary.programmed;
    Seen { request: observed.request(), confirmed, crash, judged: Some(judged), keyless: None }
}

/// What keys are decided from, beside a configuration as it was published last.
fn selected<'a>(observed: &'a Observed, last: Option<&'a Config>) -> Selected<'a> {
    Selected {
        keys: &observed.keys,
        unreadable: &observed.unreadable_keys,
        published: last.map_or(&[], |config| config.keys.as_slice()),
        carried: &observed.secret.values,
    }
}

/// Whether something was published once, though it is lost now.
fn was_published(observed: &Observed) -> bool {
    let status = observed.gateway.status.as_ref();
    let epoch = status.and_then(|status| status.traffic.as_ref()).and_then(|traffic| traffic.epoch);
    epoch.is_some() || observed.own(Part::Deployment).is_some()
}

fn ca_bundle(observed: &Observed, unresolved: &mut Vec<Unresolved>) -> Option<String> {
    let why = match (&observed.ca_bundle, &observed.gateway.spec.config.ca_bundle_ref) {
        (CaBundle::NotAsked, _) => return None,
        (CaBundle::Missing(why), _) => why.clone(),
        (CaBundle::Found(pem), reference) => match (check_ca_bundle(pem), reference) {
            (Ok(()), _) => return Some(pem.clone()),
            (Err(fault), Some(CaBundleRef { name, key })) => format!("member {key} of ConfigMap {name}: {fault}"),
            (Err(fault), None) => fault,
        },
    };
    let last = last_config(observed).and_then(|config| config.ca_bundle.clone());
    let carried = last.filter(|pem| check_ca_bundle(pem).is_ok());
    let then = match carried {
        Some(_) => "the last certificates stay in use",
        None => "only the built-in roots are trusted",
    };
    let message = format!("{}: {why}; {then}", draft::CA_BUNDLE);
    unresolved.push(Unresolved { reason: Reason::NotResolved, message });
    carried
}

fn parts(observed: &Observed, ownership: Ownership) -> Vec<String> {
    // Under Rolling there is no candidate, and what has its name is nobody's business.
    let rolls = observed.gateway.spec.rollout.strategy == RolloutStrategy::Rolling;
    let of = Part::ALL.into_iter().filter(|part| !(rolls && part.is_of_candidate()));
    let of = of.filter(|part| observed.ownership(*part) == ownership);
    of.map(|part| part.describe(observed.name())).collect()
}

fn conflict(observed: &Observed) -> Option<Rejection> {
    let foreign = parts(observed, Ownership::Foreign);
    (!foreign.is_empty()).then(|| Rejection {
        reason: Reason::NameConflict,
        message: format!(
            "{} already there and not this gateway's: delete or rename, or give the gateway another name",
            match foreign.as_slice() {
                [one] => format!("{one} is"),
                all => format!("{} are", all.join(", ")),
            }
        ),
    })
}

fn rejected(problems: &[Problem]) -> Rejection {
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Rejection { reason: Reason::ConfigRejected, message: all.join("; ") }
}

#[cfg(test)]
mod tests;
