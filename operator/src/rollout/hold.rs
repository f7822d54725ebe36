//! A spec that is paused or not valid: nothing rises, and what takes a candidate back goes on.

use bifrost_config::{Axis, Migration, StickyKey};
use k8s_openapi::jiff::Timestamp;

use super::decide::{settled, told};
use super::plan::Wish;
use super::record::{Candidate, Record};
use super::revision::Revision;
use super::{Outcome, Sight};
use crate::migration::hold::hold as hold_on;
use crate::migration::{self, Transition};

/// Holds on to what was published last. `wish` is the spec's, if that part of it is valid, and `wanted` its revision, as far as it can
/// be told.
pub fn hold(
    wish: Option<&Wish>,
    wanted: Option<&Revision>,
    before: &Record,
    sight: Sight<'_>,
    now: Timestamp,
) -> Outcome {
    // Back at the stable revision: that takes away.
    let is_back = wanted == Some(&before.stable);
    let was_promoting = before.candidate.as_ref().is_some_and(|candidate| candidate.promoting);
    let returning = before.returning && !sight.is_back;
    let ran = before.ran.clone().filter(|_| !sight.runs_stable);
    let before = &Record { returning, ran, ..before.clone() };
    let Some(candidate) = before.candidate.as_ref().filter(|_| !is_back) else {
        let mut outcome = settled(before, &before.stable, sight.seen.request);
        outcome.record.returning |= was_promoting;
        return outcome;
    };
    let Candidate { revision, progress, .. } = candidate;
    let last = Migration {
        strategy: progress.strategy,
        percent: candidate.served.map_or(0, |served| served.percent),
        rules: Vec::new(),
        sticky_key: StickyKey::None,
        salt: String::new(),
        allow_arm_header: false,
        shadow: None,
        tool_calls: false,
        empty_answers: false,
    };
    let named = migration::Revision { whole: &revision.id, config: &revision.config, migration: "" };
    let plan = wish.and_then(|wish| wish.plan.as_ref());
    let guard = wish.map(|wish| wish.guard.clone()).unwrap_or_default();
    let Transition { progress, events, .. } =
        hold_on(Axis::Rollout, plan, &guard, named, progress, &last, sight.seen, now);
    let is_over = progress.rollback.is_some();
    let candidate = Candidate {
        served: candidate.served.filter(|_| !is_over),
        promoting: candidate.promoting && !is_over,
        waiting: None,
        progress,
        ..candidate.clone()
    };
    let events = events.into_iter().map(|event| told(event, &candidate)).collect();
    let returning = before.returning || (was_promoting && is_over);
    Outcome { record: Record { returning, candidate: Some(candidate), ..before.clone() }, events, wake: None }
}
