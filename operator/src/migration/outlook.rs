//! What a migration does, for people: its status.

use bifrost_config::{Plan, Position};
use bifrost_crds::{MigrationPhase, MigrationStatus, RollbackStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};

use super::describe;
use super::progress::Progress;
use super::step::hold_ends;

/// The status. `plan`: the spec's, if it is followed; else the migration is held.
pub fn outlook(plan: Option<&Plan>, progress: &Progress, now: Timestamp) -> MigrationStatus {
    let level = plan.and_then(|plan| plan.level_of(progress.position.as_ref())).unwrap_or(0);
    let end = plan.filter(|_| progress.rollback.is_none()).and_then(|plan| hold_ends(plan, level, progress));
    let end = end.filter(|end| *end > now);
    let (phase, message) = phase(plan, progress, level, end.is_some());
    MigrationStatus {
        strategy: None,
        phase: Some(phase),
        step: Some(step(plan, progress, level)),
        message: Some(message),
        step_started_at: whole_second(progress.started),
        hold_ends_at: end.and_then(whole_second),
        revision: Some(progress.revision.clone()),
        handled_request: progress.handled.clone(),
        rollback: progress.rollback.as_ref().and_then(|rollback| {
            Some(RollbackStatus {
                at: whole_second(rollback.at)?,
                from: describe(rollback.from.as_ref()),
                reason: rollback.reason.as_str().to_owned(),
                message: rollback.message.clone(),
            })
        }),
    }
}

fn phase(plan: Option<&Plan>, progress: &Progress, level: usize, is_held: bool) -> (MigrationPhase, String) {
    if let Some(rollback) = &progress.rollback {
        let message = format!(
            "rolled back from {}: {}. Ask for retry or restart, or change spec.migration or spec.config",
            describe(rollback.from.as_ref()),
            rollback.message
        );
        return (MigrationPhase::RolledBack, message);
    }
    let Some(plan) = plan else {
        return (MigrationPhase::Paused, "held: nothing rises while the spec is paused or not accepted".to_owned());
    };
    let next = || describe(plan.stage(level + 1).map(|stage| &stage.position));
    let ends = level >= plan.ceiling;
    if ends && (!plan.walks || (progress.confirmed.is_some() && !is_held)) {
        return (MigrationPhase::Completed, "where the spec wants it".to_owned());
    }
    match (progress.confirmed, is_held, plan.gate(level).pause) {
        (None, ..) => (MigrationPhase::Progressing, "waits for every pod to confirm this step".to_owned()),
        (Some(_), true, _) if ends => (MigrationPhase::Progressing, "the last step is held".to_owned()),
        (Some(_), true, false) => (MigrationPhase::Progressing, format!("{} after the hold", next())),
        (Some(_), true, true) => (MigrationPhase::Progressing, format!("{} after the hold and a promotion", next())),
        (Some(_), false, true) => {
            (MigrationPhase::Paused, format!("{} waits for a promotion: kubectl bifrost promote", next()))
        }
        (Some(_), false, false) => (MigrationPhase::Progressing, format!("{} is next", next())),
    }
}

/// Such as `2/5`, a phase, or a colour.
fn step(plan: Option<&Plan>, progress: &Progress, level: usize) -> String {
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
