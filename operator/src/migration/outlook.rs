//! What a migration or a rollout does, for people: its status.

use bifrost_analysis::Verdict;
use bifrost_config::{Axis, Plan, Position};
use bifrost_crds::{MigrationPhase, MigrationStatus, RollbackStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};

use super::guard::Guard;
use super::progress::{Cause, Progress};
use super::step::{hold_ends, retry_at};
use super::{Judged, describe};

/// What the message says of a stage that is not taken as a provider has no key in use.
pub const WAITS_FOR_KEY: &str = "waits for a key";
/// Bytes of a text in a status, as its schema has it.
const MAX_TEXT: usize = 1024;

/// What a status tells, beside the progress.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The spec's plan; none where that part of it is not valid.
    pub plan: Option<&'a Plan>,
    /// Why it is not followed, where it is not.
    pub held: Option<Held>,
    /// What watches it.
    pub guard: &'a Guard,
    /// What the analysis comes to, where there is one.
    pub judged: Option<&'a Judged>,
    /// Which providers have no key in use, in a sentence.
    pub keyless: Option<&'a str>,
}

/// Why a spec is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// `spec.paused`
    Paused,
    /// It is not accepted.
    NotAccepted,
}

impl Held {
    /// With the way out.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "held by spec.paused: nothing rises until kubectl bifrost resume",
            Self::NotAccepted => {
                "held, as the spec is not accepted: nothing rises until it is mended, see the condition Accepted"
            }
        }
    }
}

/// The status.
pub fn outlook(axis: Axis, circumstances: Circumstances<'_>, progress: &Progress, now: Timestamp) -> MigrationStatus {
    // What is held is at a stage of the plan that was followed: the spec may have other stages by now, and another strategy.
    let position = progress.position.as_ref();
    let has_stage = |plan: &Plan| {
        let level = plan.level_of(position);
        level.is_some_and(|level| plan.stage(level).map(|stage| &stage.position) == position)
    };
    let is_of_it = |plan: &&Plan| plan.strategy == progress.strategy && has_stage(plan);
    let plan = circumstances.plan.filter(|plan| circumstances.held.is_none() || is_of_it(plan));
    let level = plan.and_then(|plan| plan.level_of(progress.position.as_ref())).unwrap_or(0);
    let end = plan.filter(|_| progress.rollback.is_none()).and_then(|plan| hold_ends(plan, level, progress));
    let end = end.filter(|end| *end > now);
    let (phase, message) = phase(axis, circumstances, progress, level, end.is_some());
    MigrationStatus {
        strategy: None,
        phase: Some(phase),
        step: Some(step(plan, progress, level)),
        message: Some(cut(&message)),
        step_started_at: whole_second(progress.started),
        hold_ends_at: end.and_then(whole_second),
        revision: Some(progress.revision.clone()),
        handled_request: progress.requests.newest().map(str::to_owned),
        refusal: progress.requests.refusal().map(cut),
        rollback: progress.rollback.as_ref().and_then(|rollback| {
            Some(RollbackStatus {
                at: whole_second(rollback.at)?,
                from: describe(axis, rollback.from.as_ref()),
                reason: rollback.reason.as_str().to_owned(),
                message: cut(&rollback.message),
                retry_at: again_at(circumstances, progress).and_then(whole_second),
            })
        }),
    }
}

/// The schema of the status allows no more: one text that is too long would keep all of it from being written.
pub fn cut(text: &str) -> String {
    match text.len() {
        ..=MAX_TEXT => text.to_owned(),
        _ => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT - '…'.len_utf8())]),
    }
}

/// When what failed is tried again by itself. Nothing is while it is held.
fn again_at(circumstances: Circumstances<'_>, progress: &Progress) -> Option<Timestamp> {
    retry_at(circumstances.guard, progress).filter(|_| circumstances.held.is_none())
}

fn phase(
    axis: Axis,
    circumstances: Circumstances<'_>,
    progress: &Progress,
    level: usize,
    is_held: bool,
) -> (MigrationPhase, String) {
    let Circumstances { plan, held, judged, keyless, .. } = circumstances;
    if let Some(rollback) = &progress.rollback {
        let again = again_at(circumstances, progress).and_then(|at| at.round(Unit::Second).ok());
        let key = keyless.map_or_else(String::new, |keyless| format!(" or as soon after as there is a key: {keyless}"));
        let again = again.map_or_else(String::new, |at| format!("It is tried again at {at}{key}. "));
        let or_change = match (axis, rollback.reason) {
            (Axis::Migration, Cause::Aborted) => "spec.migration",
            (Axis::Migration, _) => "spec.migration or spec.config",
            (Axis::Rollout, _) => "spec.config or spec.image",
        };
        let from = match (axis, &rollback.from) {
            (Axis::Rollout, None) => "before its first step".to_owned(),
            (_, from) => format!("from {}", describe(axis, from.as_ref())),
        };
        let message =
            format!("rolled back {from}: {}. {again}Ask for retry or restart, or change {or_change}", rollback.message);
        return (MigrationPhase::RolledBack, message);
    }
    let plan = match (held, plan) {
        (None, Some(plan)) => plan,
        (held, _) => return (MigrationPhase::Paused, held.unwrap_or(Held::Paused).as_str().to_owned()),
    };
    if let Some(why) = &progress.paused {
        return (MigrationPhase::Paused, format!("the analysis waits for somebody: {why}. Ask for promote or abort"));
    }
    let next = || describe(axis, plan.stage(level + 1).map(|stage| &stage.position));
    let ends = level >= plan.ceiling;
    let has_gate = plan.walks || !plan.gate(level).is_open();
    if ends && (!has_gate || (progress.confirmed.is_some() && !is_held)) {
        return (MigrationPhase::Completed, "where the spec wants it".to_owned());
    }
    match (progress.confirmed, is_held, plan.gate(level).pause) {
        (None, ..) => (MigrationPhase::Progressing, "waits for every pod to confirm this step".to_owned()),
        (Some(_), true, _) if ends => (MigrationPhase::Progressing, "the last step is watched".to_owned()),
        (Some(_), true, false) => (MigrationPhase::Progressing, format!("{} after the hold", next())),
        (Some(_), true, true) => (MigrationPhase::Progressing, format!("{} after the hold and a promotion", next())),
        (Some(_), false, true) => {
            let flag = if axis == Axis::Rollout { " --rollout" } else { "" };
            (MigrationPhase::Paused, format!("{} waits for a promotion: kubectl bifrost promote{flag}", next()))
        }
        (Some(_), false, false) if keyless.is_some() => {
            (MigrationPhase::Progressing, format!("{} {WAITS_FOR_KEY}: {}", next(), keyless.unwrap_or_default()))
        }
        (Some(_), false, false) => match judged.filter(|judged| judged.verdict != Verdict::Pass) {
            Some(judged) => {
                (MigrationPhase::Inconclusive, format!("{} waits for the analysis: {}", next(), judged.reason))
            }
            None => (MigrationPhase::Progressing, format!("{} is next", next())),
        },
    }
}

/// Such as `2/5`, a phase, or a colour.
pub fn step(plan: Option<&Plan>, progress: &Progress, level: usize) -> String {
    let by_colour = progress.strategy == bifrost_config::Strategy::BlueGreen;
    match (&progress.position, plan) {
        (None, _) if by_colour => "Blue".to_owned(),
        (Some(Position::Green), _) => "Green".to_owned(),
        (Some(Position::Phase(name)), _) => name.clone(),
        (Some(Position::Percent(_)), Some(plan)) if plan.walks => format!("{level}/{}", plan.ceiling),
        (Some(Position::Percent(_)), _) => "-".to_owned(),
        (None, Some(plan)) if plan.walks => format!("0/{}", plan.ceiling),
        (None, _) => "-".to_owned(),
    }
}

/// Times in a status have no fractions.
fn whole_second(time: Timestamp) -> Option<Time> {
    time.round(Unit::Second).ok().map(Time)
}
