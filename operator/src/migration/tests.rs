//! Typical lives of migrations.

mod properties;

use std::time::Duration;

use bifrost_analysis::{Action, Budget, Verdict};
use bifrost_config::{Axis, Gate, Plan, Position, Stage, StickyKey, Strategy};
use bifrost_crds::MigrationPhase;
use k8s_openapi::jiff::Timestamp;

use super::crash::Crash;
use super::guard::{Analysis, Guard};
use super::hold::hold;
use super::outlook::{Circumstances, Held, outlook};
use super::progress::Progress;
use super::progress::{Cause, Rollback};
use super::step::step;
use super::{Judged, Revision, Seen, Transition};
use crate::events::Reason;

pub(super) fn canary(steps: &[(u8, u64, bool)]) -> Plan {
    let stage = |(percent, hold, pause): &(u8, u64, bool)| Stage {
        position: Position::Percent(*percent),
        rules: Vec::new(),
        gate: Gate { hold: Duration::from_secs(*hold), pause: *pause },
    };
    Plan {
        axis: Axis::Migration,
        strategy: Strategy::Canary,
        stages: steps.iter().map(stage).collect(),
        ceiling: steps.len(),
        walks: true,
        floor: Gate::default(),
        sticky_key: StickyKey::Auto,
        salt: "s".into(),
        allow_arm_header: false,
        shadow: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The revisions of these tests are of one configuration.
fn named(whole: &str) -> Revision<'_> {
    Revision { whole, config: "c", migration: whole }
}

fn ended(id: i64) -> Crash {
    Crash { id: id.to_string(), message: "it ended".into() }
}

fn fresh(plan: &Plan) -> Progress {
    Progress { config: "c".into(), ..Progress::new(plan.strategy, "r", None, at(0)) }
}

/// One look a second, with every step confirmed a second after it was published.
struct Life {
    plan: Plan,
    guard: Guard,
    revision: String,
    progress: Progress,
    now: i64,
}

impl Life {
    fn new(plan: Plan) -> Self {
        Self { progress: fresh(&plan), plan, guard: Guard::default(), revision: "r".into(), now: 0 }
    }

    fn look(&mut self, request: Option<&str>) -> Transition {
        self.now += 1;
        let seen = Seen { request, confirmed: true, ..Seen::default() };
        let after = step(&self.plan, &self.guard, named(&self.revision), &self.progress, seen, at(self.now));
        self.progress = after.progress.clone();
        after
    }

    fn look_until(&mut self, seconds: i64) -> Vec<u8> {
        let mut percents = Vec::new();
        while self.now < seconds {
            let percent = self.look(None).split.percent;
            if percents.last() != Some(&percent) {
                percents.push(percent);
            }
        }
        percents
    }
}

#[test]
fn a_stage_that_is_watched_anew_has_its_own_part_of_the_budget() {
    let mut life = Life::new(canary(&[(10, 3600, false), (50, 0, false)]));
    life.look_until(5);
    let before = life.progress.clone();
    assert_eq!((before.entered, before.watched.is_some()), (1, true));
    for edit in ["r2", "r3"] {
        life.revision = edit.into();
        life.look_until(life.now + 5);
    }
    assert_eq!((life.progress.entered, life.progress.position.clone()), (3, before.position));
}

#[test]
fn nothing_rises_by_itself_while_a_provider_has_no_key() {
    let mut life = Life::new(canary(&[(1, 5, false), (25, 5, false), (100, 0, false)]));
    let look = |life: &mut Life, request| {
        life.now += 1;
        let keyless = Some("provider openai has no key in use");
        let seen = Seen { request, confirmed: true, keyless, ..Seen::default() };
        life.progress = step(&life.plan, &life.guard, named("r"), &life.progress, seen, at(life.now)).progress;
        life.progress.position.clone()
    };
    assert!((0..20).all(|_| look(&mut life, None).is_none()));
    let circumstances = |life: &Life| {
        let keyless = Some("provider openai has no key in use");
        let circumstances =
            Circumstances { plan: Some(&life.plan), held: None, guard: &life.guard, judged: None, keyless };
        outlook(Axis::Migration, circumstances, &life.progress, at(life.now)).message.unwrap()
    };
    assert_eq!(circumstances(&life), "1 % waits for a key: provider openai has no key in use");
    assert_eq!(look(&mut life, Some("promote/1")), Some(Position::Percent(1)), "somebody says that this is meant");
    assert!((0..20).all(|_| look(&mut life, None) == Some(Position::Percent(1))));
    assert_eq!(life.look_until(60), [25, 100]);
}

#[test]
fn what_failed_is_not_tried_again_by_itself_while_a_provider_has_no_key() {
    let mut life = Life::new(canary(&[(10, 5, false), (50, 3600, false)]));
    life.guard = Guard { retries: 1, cooldown: Duration::from_secs(10), ..Guard::default() };
    life.look_until(15);
    let from = life.progress.position.clone();
    let rollback = Rollback { from, at: at(life.now), reason: Cause::AnalysisFailed, message: "worse".into() };
    life.progress = Progress { rollback: Some(rollback), ..life.progress.clone().at(None, at(life.now)) };
    let look = |life: &mut Life, keyless| {
        life.now += 1;
        let seen = Seen { confirmed: true, keyless, ..Seen::default() };
        life.progress = step(&life.plan, &life.guard, named("r"), &life.progress, seen, at(life.now)).progress;
        life.progress.position.clone()
    };
    assert!((0..20).all(|_| look(&mut life, Some("provider openai has no key in use")).is_none()));
    assert_eq!(look(&mut life, None), Some(Position::Percent(50)), "the cooldown is over");
}

#[test]
fn steps_follow_each_other_when_their_hold_is_over() {
    let mut life = Life::new(canary(&[(1, 5, false), (25, 5, false), (100, 0, false)]));
    assert_eq!(life.look(None).split.percent, 1);
    assert_eq!(life.look_until(6), [1], "confirmed at 2, held until 7");
    assert_eq!(life.look_until(20), [25, 100]);
}

#[test]
fn a_step_that_no_pod_confirms_is_not_left() {
    let plan = canary(&[(1, 0, false), (100, 0, false)]);
    let mut progress = fresh(&plan);
    for now in 1..100 {
        let after = step(&plan, &Guard::default(), named("r"), &progress, Seen::default(), at(now));
        assert_eq!(after.split.percent, 1);
        progress = after.progress;
    }
}

#[test]
fn a_pause_waits_and_one_request_is_one_step() {
    let mut life = Life::new(canary(&[(1, 0, true), (5, 0, true), (100, 0, true)]));
    assert_eq!(life.look_until(50), [1]);
    assert_eq!(life.look(Some("promote/a")).split.percent, 5);
    for _ in 0..50 {
        assert_eq!(life.look(Some("promote/a")).split.percent, 5, "the same request twice does nothing");
    }
    let last = life.look(Some("promote/b"));
    assert_eq!(last.split.percent, 100);
    let refused = life.look(Some("promote/c"));
    assert_eq!(refused.events[0].reason, Reason::RequestRefused);
    let requests = &refused.progress.requests;
    assert!(["promote/a", "promote/b", "promote/c"].iter().all(|request| requests.had(request)));
    assert!(refused.events[0].note.ends_with(requests.refusal().unwrap()), "also where the event is lost");
}

#[test]
fn what_is_held_says_where_it_is_and_when_its_hold_ends() {
    let mut life = Life::new(canary(&[(1, 3600, false), (100, 0, false)]));
    assert_eq!(life.look_until(5), [1]);
    let told = |plan: &Plan| {
        let held = Some(Held::Paused);
        let circumstances = Circumstances { plan: Some(plan), held, guard: &life.guard, judged: None, keyless: None };
        let told = outlook(Axis::Migration, circumstances, &life.progress, at(life.now));
        assert_eq!((told.phase, told.message.as_deref()), (Some(MigrationPhase::Paused), Some(Held::Paused.as_str())));
        (told.step.unwrap(), told.hold_ends_at.is_some())
    };
    assert_eq!(told(&life.plan), ("1/2".to_owned(), true));
    assert_eq!(told(&canary(&[(2, 60, false), (100, 0, false)])), ("-".to_owned(), false), "that step is gone");
    let other = Plan { strategy: Strategy::Gradual, ..life.plan.clone() };
    assert_eq!(told(&other), ("-".to_owned(), false), "another strategy has other steps");
}

#[test]
fn a_request_that_was_there_at_first_sight_is_not_run() {
    let plan = canary(&[(1, 0, true), (100, 0, false)]);
    let first = Progress::new(plan.strategy, "r", Some("promote-full/old"), at(0));
    let seen = Seen { request: Some("promote-full/old"), confirmed: true, ..Seen::default() };
    assert_eq!(step(&plan, &Guard::default(), named("r"), &first, seen, at(1)).split.percent, 1);
}

#[test]
fn an_abort_stays_until_a_retry_a_restart_or_another_revision() {
    let mut life = Life::new(canary(&[(1, 2, false), (25, 1000, false), (100, 0, false)]));
    life.look_until(10);
    assert_eq!(life.look(Some("abort/1")).split.percent, 0);
    assert_eq!(life.look_until(100), [0]);
    assert_eq!(life.look(Some("retry/1")).split.percent, 25, "where it was");
    life.look(Some("abort/2"));
    assert_eq!(life.look(Some("restart/1")).split.percent, 1);
    life.look(Some("abort/3"));
    life.revision = "r2".into();
    assert_eq!(life.look(Some("abort/3")).split.percent, 1, "armed anew, from the first step");
}

#[test]
fn taking_steps_away_goes_back_at_once() {
    let mut life = Life::new(canary(&[(1, 0, false), (25, 0, false), (100, 0, false)]));
    life.look_until(20);
    life.plan.ceiling = 2;
    life.plan.stages.truncate(2);
    life.revision = "r2".into();
    assert_eq!(life.look(None).split.percent, 25);
}

#[test]
fn green_waits_for_its_preview_and_going_back_does_not_wait() {
    let plan = Plan {
        strategy: Strategy::BlueGreen,
        stages: vec![Stage { position: Position::Green, rules: vec![], gate: Gate::default() }],
        ceiling: 1,
        floor: Gate { hold: Duration::from_secs(5), pause: true },
        ..canary(&[])
    };
    let mut life = Life::new(plan);
    assert_eq!(life.look_until(30), [0]);
    let promoted = life.look(Some("promote/1"));
    assert_eq!((promoted.split.percent, promoted.events[1].reason), (100, Reason::Promoted));
    life.plan.ceiling = 0;
    life.revision = "r2".into();
    assert_eq!(life.look(None).split.percent, 0);
}

#[test]
fn a_canary_by_hand_goes_where_the_spec_says_and_a_change_to_steps_keeps_its_percent() {
    let by_hand = |percent| Plan { walks: false, ..canary(&[(percent, 0, false)]) };
    let mut life = Life::new(by_hand(30));
    assert_eq!(life.look(None).split.percent, 30);
    life.plan = by_hand(60);
    assert_eq!(life.look(None).split.percent, 60);
    life.plan = canary(&[(5, 0, true), (50, 0, true), (100, 0, false)]);
    assert_eq!(life.look(None).split.percent, 50, "the step below");
    life.plan = Plan { strategy: Strategy::DropIn, ..by_hand(100) };
    assert_eq!(life.look(None).split.percent, 100);
    life.plan = canary(&[(5, 0, true), (100, 0, false)]);
    assert_eq!(life.look(None).split.percent, 5, "another strategy begins at its first step");
}

#[test]
fn a_held_spec_lowers_aborts_and_nothing_else() {
    let by_hand = |percent| Plan { walks: false, ..canary(&[(percent, 0, false)]) };
    let before = Progress { position: Some(Position::Percent(30)), ..fresh(&by_hand(30)) };
    let last = by_hand(30).goal();
    let held = |plan: &Plan, request| {
        let seen = Seen { request, confirmed: true, ..Seen::default() };
        hold(Axis::Migration, Some(plan), &Guard::default(), named("r"), &before, &last, seen, at(9))
    };
    assert_eq!(held(&by_hand(60), None).split.percent, 30);
    assert_eq!(held(&by_hand(10), None).split.percent, 10);
    assert_eq!(held(&by_hand(60), Some("abort/1")).split.percent, 0);
    let refused = held(&by_hand(60), Some("promote/1"));
    assert_eq!((refused.split.percent, refused.events[0].reason), (30, Reason::RequestRefused));
    assert_eq!(held(&canary(&[(50, 0, false), (100, 0, false)]), None).split.percent, 30);
}

fn watched() -> Guard {
    let analysis = Analysis { checks: vec![], metrics: vec![], min_requests: 100, budget: Budget::default() };
    Guard { analysis: Some(analysis), retries: 1, cooldown: Duration::from_secs(30), to_previous: false }
}

fn verdict(verdict: Verdict, action: Option<Action>) -> Judged {
    Judged { verdict, action, reason: "3 % of the requests failed".into() }
}

impl Life {
    fn judge(&mut self, judged: &Judged) -> Transition {
        self.now += 1;
        let seen = Seen { confirmed: true, judged: Some(judged), ..Seen::default() };
        let after = step(&self.plan, &self.guard, named(&self.revision), &self.progress, seen, at(self.now));
        self.progress = after.progress.clone();
        after
    }
}

#[test]
fn a_step_waits_for_a_pass_and_a_failure_goes_back_and_is_tried_again_once() {
    let mut life = Life::new(canary(&[(5, 2, false), (50, 2, false), (100, 20, false)]));
    life.guard = watched();
    for _ in 0..20 {
        let after = life.judge(&verdict(Verdict::Inconclusive, None));
        assert_eq!(after.split.percent, 5, "too little is known: neither forward nor back");
    }
    assert_eq!(life.judge(&verdict(Verdict::Pass, None)).split.percent, 50);
    let failed = verdict(Verdict::Fail, Some(Action::Rollback));
    let back = life.judge(&failed);
    assert_eq!((back.split.percent, back.events[0].reason), (0, Reason::RolledBack));
    let rollback = back.progress.rollback.unwrap();
    assert_eq!((rollback.reason, rollback.from), (Cause::AnalysisFailed, Some(Position::Percent(50))));
    let again = back.wake.unwrap();
    assert_eq!(again, at(life.now + 30));
    let seen: Vec<_> = (0..30).map(|_| life.look(None).split.percent).collect();
    assert_eq!((seen[28], seen[29]), (0, 50), "after the cooldown, once");
    life.look(None);
    assert_eq!(life.judge(&failed).split.percent, 0);
    assert!((0..200).all(|_| life.look(None).split.percent == 0), "no more by itself");
}

#[test]
fn a_preview_that_is_there_from_the_beginning_is_held_from_when_green_is_wanted() {
    let plan = Plan {
        strategy: Strategy::BlueGreen,
        stages: vec![Stage { position: Position::Green, rules: vec![], gate: Gate::default() }],
        ceiling: 0,
        floor: Gate { hold: Duration::from_secs(10), pause: false },
        ..canary(&[])
    };
    let mut life = Life::new(plan);
    life.look_until(100);
    life.plan.ceiling = 1;
    life.revision = "r2".into();
    let percents: Vec<_> = (0..13).map(|_| life.look(None).split.percent).collect();
    assert_eq!(percents.iter().filter(|percent| **percent == 0).count(), 10, "{percents:?}");

    // What fails on the preview is tried again from its beginning.
    life.look(Some("abort/1"));
    life.look(Some("retry/1"));
    assert!((0..9).all(|_| life.look(None).split.percent == 100) || life.progress.position.is_none());
}

#[test]
fn what_ended_before_a_stage_was_watched_does_not_count() {
    let mut life = Life::new(canary(&[(5, 0, false), (50, 0, false)]));
    life.look_until(30);
    assert!(life.progress.watched.is_none(), "it is where the spec wants it");
    life.plan = canary(&[(5, 0, false), (50, 0, false), (100, 500, false)]);
    life.revision = "r2".into();
    life.look(None);
    assert!(life.progress.watched.is_some_and(|since| since >= at(31)));
}

#[test]
fn an_edited_configuration_begins_the_hold_anew_and_what_was_seen_of_the_old_one_does_not_count() {
    let mut life = Life::new(canary(&[(5, 10, false), (100, 0, false)]));
    life.guard = watched();
    life.look(None);
    life.judge(&verdict(Verdict::Pass, None));
    let revision = Revision { whole: "r2", config: "c2", migration: "m" };
    let seen = verdict(Verdict::Fail, Some(Action::Rollback));
    let seen = Seen { confirmed: true, judged: Some(&seen), ..Seen::default() };
    let edited = step(&life.plan, &life.guard, revision, &life.progress, seen, at(9));
    assert_eq!((edited.split.percent, edited.progress.rollback), (5, None));
    assert_eq!(edited.progress.watched, Some(at(9)));
    assert_eq!(edited.progress.confirmed, Some(at(9)), "the hold begins anew");
}

#[test]
fn an_abort_ends_what_would_be_tried_again_by_itself() {
    let mut life = Life::new(canary(&[(5, 0, false), (100, 0, false)]));
    life.guard = watched();
    life.look(None);
    life.judge(&verdict(Verdict::Fail, Some(Action::Rollback)));
    assert_eq!(life.look(Some("abort/1")).events[0].reason, Reason::RequestHandled);
    assert!((0..100).all(|_| life.look(None).split.percent == 0));
    let again = life.look(Some("abort/2"));
    assert_eq!((again.events.len(), again.events[0].reason), (1, Reason::RequestHandled), "that is so already");
}

#[test]
fn what_somebody_took_back_stays_so_over_another_configuration_and_not_over_another_migration() {
    let mut life = Life::new(canary(&[(100, 0, false)]));
    let look = |life: &Life, whole, config, migration| {
        let revision = Revision { whole, config, migration };
        let seen = Seen { confirmed: true, ..Seen::default() };
        step(&life.plan, &life.guard, revision, &life.progress, seen, at(life.now)).split.percent
    };
    life.look(None);
    assert_eq!(life.look(Some("abort/1")).split.percent, 0);
    assert_eq!(look(&life, "r2", "c2", "r"), 0);
    assert_eq!(look(&life, "r2", "c", "r2"), 100);
    life.progress.rollback.as_mut().unwrap().reason = Cause::AnalysisFailed;
    assert_eq!(look(&life, "r2", "c2", "r"), 100, "that may be what mends it");
}

#[test]
fn a_failure_that_asks_for_a_pause_waits_for_somebody() {
    let mut life = Life::new(canary(&[(5, 0, false), (100, 0, false)]));
    life.guard = watched();
    life.look(None);
    let paused = life.judge(&verdict(Verdict::Fail, Some(Action::Pause)));
    assert_eq!(paused.split.percent, 5);
    assert_eq!(life.judge(&verdict(Verdict::Pass, None)).split.percent, 5, "though it passes now");
    assert_eq!(life.look(Some("promote/1")).split.percent, 100);
}

#[test]
fn a_container_that_ends_goes_back_one_step_if_that_is_asked_for_and_further_if_it_ends_again() {
    let mut life = Life::new(canary(&[(5, 0, false), (50, 0, false), (100, 1000, false)]));
    life.guard = Guard { to_previous: true, ..Guard::default() };
    life.look_until(20);
    let mut crash = || {
        life.now += 1;
        let ended = ended(life.now);
        let seen = Seen { confirmed: true, crash: Some(&ended), ..Seen::default() };
        let after = step(&life.plan, &life.guard, named("r"), &life.progress, seen, at(life.now));
        life.progress = after.progress.clone();
        after
    };
    let percents: Vec<_> = (0..4).map(|_| crash().split.percent).collect();
    assert_eq!(percents, [50, 5, 0, 0]);
    assert_eq!(life.progress.rollback.clone().unwrap().from, Some(Position::Percent(100)));
    assert_eq!(life.look(Some("retry/1")).split.percent, 100);
}

#[test]
fn by_hand_without_an_analysis_nothing_goes_back_by_itself_and_a_finished_migration_is_not_watched() {
    let by_hand = |percent| Plan { walks: false, ..canary(&[(percent, 0, false)]) };
    let crashed = |plan: Plan, guard: Guard| {
        let mut life = Life::new(plan);
        life.guard = guard;
        life.look_until(20);
        let ended = ended(1);
        let seen = Seen { confirmed: true, crash: Some(&ended), ..Seen::default() };
        step(&life.plan, &life.guard, named("r"), &life.progress, seen, at(life.now + 1)).split.percent
    };
    assert_eq!(crashed(by_hand(30), Guard::default()), 30);
    assert_eq!(crashed(by_hand(30), watched()), 0);
    assert_eq!(crashed(by_hand(100), watched()), 100);
    assert_eq!(crashed(canary(&[(5, 0, false), (100, 2, false)]), Guard::default()), 100, "after its end");
    assert_eq!(crashed(canary(&[(5, 0, false), (100, 900, false)]), Guard::default()), 0, "before its end");
}
