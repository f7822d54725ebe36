//! A spec that is paused or not valid: nothing rises, and what takes away goes on.

use bifrost_analysis::{Action, Verdict};
use bifrost_config::{Axis, Migration, Plan, Position, Shadow};
use k8s_openapi::jiff::Timestamp;

use super::guard::Guard;
use super::progress::{Cause, Progress, Rollback};
use super::request::{self, Verb};
use super::step::{is_watched, watched_since};
use super::{Revision, Seen, Transition, describe};
use crate::events::{Event, Reason};

/// Why nobody is promoted meanwhile.
const NOTHING_RISES: &str = "nothing rises while spec.paused is set or the spec is not accepted: the conditions Paused and Accepted say which; mend that, then ask again, by annotation with another id";

/// Holds on to what was published last, `last`. `plan` is the spec's, if that part of it is valid.
#[expect(clippy::too_many_arguments, reason = "what a step has, and what was published")]
pub fn hold(
    axis: Axis,
    plan: Option<&Plan>,
    guard: &Guard,
    revision: Revision<'_>,
    before: &Progress,
    last: &Migration,
    seen: Seen<'_>,
    now: Timestamp,
) -> Transition {
    let mut progress = before.clone();
    let mut split = last.clone();
    let mut events = Vec::new();
    // The steps of another strategy begin when they may: to go to the last of them would skip the others.
    let may_go = |plan: &&Plan| !plan.walks || plan.strategy == before.strategy || plan.ceiling == 0;
    let goal = plan.filter(may_go).map(|plan| (plan, plan.goal()));
    if let Some((plan, goal)) = goal.filter(|(_, goal)| takes_away(goal, last)) {
        progress = progress.at(plan.stage(plan.ceiling).map(|stage| stage.position.clone()), now);
        progress.strategy = plan.strategy;
        // Another hash would choose other users.
        let (sticky_key, salt) = (last.sticky_key.clone(), last.salt.clone());
        split = Migration { sticky_key, salt, tool_calls: last.tool_calls, empty_answers: last.empty_answers, ..goal };
    }
    split.allow_arm_header &= plan.is_none_or(|plan| plan.allow_arm_header);
    split.shadow = shadow(plan, last);
    if let Some((reason, message)) = goes_wrong(plan, guard, &progress, &seen, now) {
        if reason == Cause::GatewayCrash {
            progress.crash = seen.crash.map(|crash| crash.id.clone());
        }
        let from = progress.position.clone();
        events.push(Event::new(Reason::RolledBack, back(axis, from.as_ref(), &message)));
        progress = progress.at(None, now);
        progress.rollback = Some(Rollback { from, at: now, reason, message });
        split = Migration { percent: 0, rules: Vec::new(), ..split };
    }
    if let Some(text) = seen.request.filter(|text| progress.requests.takes(text)) {
        let is_aborted = progress.rollback.as_ref().is_some_and(|rollback| rollback.reason == Cause::Aborted);
        let abort = request::parse(text, revision.whole, None).and_then(|verb| match verb {
            Verb::Abort => Ok(()),
            _ => Err(NOTHING_RISES.to_owned()),
        });
        match abort {
            Ok(()) if is_aborted => {
                let note = format!("abort: the {} was aborted already", axis.noun());
                events.push(Event::new(Reason::RequestHandled, note));
            }
            Ok(()) => {
                let from = progress.rollback.take().map_or_else(|| progress.position.clone(), |rollback| rollback.from);
                let message = "somebody asked for abort".to_owned();
                events.push(Event::new(Reason::RequestHandled, "abort"));
                events.push(Event::new(Reason::RolledBack, back(axis, from.as_ref(), &message)));
                progress = progress.at(None, now);
                progress.rollback = Some(Rollback { from, at: now, reason: Cause::Aborted, message });
                split = Migration { percent: 0, rules: Vec::new(), ..split };
            }
            Err(why) => {
                events.push(Event::new(Reason::RequestRefused, format!("{}: {why}", request::kept(text))));
                progress.requests.refuse(&why);
            }
        }
    }
    if let Some(plan) = plan.filter(|plan| plan.strategy == progress.strategy) {
        let level = plan.level_of(progress.position.as_ref());
        progress.watched = level.and_then(|level| watched_since(plan, level, &progress, now));
    }
    Transition { progress, split, events, wake: None }
}

fn back(axis: Axis, from: Option<&Position>, message: &str) -> String {
    format!("{} → {}: {message}", describe(axis, from), axis.floor())
}

/// What goes on being copied: no more than before, and no more than the spec wants.
fn shadow(plan: Option<&Plan>, last: &Migration) -> Option<Shadow> {
    let last = last.shadow.clone()?;
    let Some(plan) = plan else { return Some(last) };
    let wanted = plan.shadow.as_ref().filter(|wanted| wanted.of == last.of)?;
    Some(Shadow {
        percent: last.percent.min(wanted.percent),
        daily_limit: last.daily_limit.min(wanted.daily_limit),
        skip_tools: last.skip_tools || wanted.skip_tools,
        max_body: last.max_body.min(wanted.max_body),
        skip_header: last.skip_header.clone().or_else(|| wanted.skip_header.clone()),
        ..last
    })
}

/// Why the traffic must go back. A rollback goes to the floor here, as the stages of the spec may be others than those that are held.
fn goes_wrong(
    plan: Option<&Plan>,
    guard: &Guard,
    progress: &Progress,
    seen: &Seen<'_>,
    now: Timestamp,
) -> Option<(Cause, String)> {
    let plan = plan.filter(|plan| plan.strategy == progress.strategy && progress.watched.is_some())?;
    let level = plan.level_of(progress.position.as_ref())?;
    if progress.rollback.is_some() || !is_watched(plan, level, progress, now) {
        return None;
    }
    if let Some(crash) = seen.crash.filter(|_| guard.watches_crashes(plan)) {
        return Some((Cause::GatewayCrash, crash.message.clone()));
    }
    let judged = seen.judged.filter(|judged| judged.verdict == Verdict::Fail)?;
    (judged.action == Some(Action::Rollback)).then(|| (Cause::AnalysisFailed, judged.reason.clone()))
}

/// Whether a split sends less to the bifrost arm than another, and nothing that the other does not.
fn takes_away(goal: &Migration, last: &Migration) -> bool {
    let nobody = |split: &Migration| split.percent == 0 && split.rules.is_empty();
    if nobody(goal) || last.percent == 100 {
        return if nobody(goal) { !nobody(last) } else { goal.percent < 100 };
    }
    let within = goal.percent <= last.percent && goal.rules.iter().all(|rule| last.rules.contains(rule));
    within && (goal.percent < last.percent || goal.rules.len() < last.rules.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::migration;
    use bifrost_config::{MatchRule, ShadowedArm};

    fn rules(models: &[&str]) -> Migration {
        let rule = |model: &&str| MatchRule { models: vec![(*model).into()], ..MatchRule::default() };
        Migration { rules: models.iter().map(rule).collect(), ..migration(0) }
    }

    fn copied(percent: u8, daily_limit: u64, of: ShadowedArm) -> Shadow {
        Shadow {
            percent,
            of,
            daily_limit,
            pods: 2,
            skip_tools: false,
            max_body: 1024,
            skip_header: None,
            currency: "USD".into(),
            prices: Vec::new(),
        }
    }

    #[test]
    fn copies_become_only_fewer() {
        let last = Migration { shadow: Some(copied(10, 100, ShadowedArm::Baseline)), ..migration(5) };
        let plan = |shadow| Plan { shadow, ..crate::migration::tests::canary(&[(5, 1, false)]) };
        let held = |wanted| shadow(Some(&plan(wanted)), &last).map(|shadow| (shadow.percent, shadow.daily_limit));
        assert_eq!(held(Some(copied(20, 50, ShadowedArm::Baseline))), Some((10, 50)));
        assert_eq!(held(Some(copied(5, 500, ShadowedArm::Baseline))), Some((5, 100)));
        assert_eq!(held(Some(copied(10, 100, ShadowedArm::Bifrost))), None);
        assert_eq!(held(None), None);
        assert_eq!(shadow(None, &last), last.shadow);
        assert_eq!(shadow(Some(&plan(last.shadow.clone())), &migration(5)), None);
    }

    #[test]
    fn less_is_less_of_the_same() {
        assert!(takes_away(&migration(5), &migration(10)));
        assert!(!takes_away(&migration(10), &migration(10)));
        assert!(!takes_away(&migration(11), &migration(10)));
        assert!(takes_away(&migration(0), &rules(&["a"])));
        assert!(!takes_away(&migration(0), &migration(0)));
        assert!(takes_away(&rules(&["a"]), &rules(&["a", "b"])));
        assert!(!takes_away(&rules(&["c"]), &rules(&["a", "b"])));
        assert!(takes_away(&rules(&["c"]), &migration(100)), "everything holds any rule");
        assert!(!takes_away(&rules(&["c"]), &migration(50)), "other users may be meant");
    }
}
