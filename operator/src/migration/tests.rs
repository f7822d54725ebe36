//! Properties of the machine, over plans and histories that nobody thought of.

use std::time::Duration;

use bifrost_config::{Gate, MatchRule, Migration, Plan, Position, Stage, StickyKey, Strategy};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::hold::hold;
use super::progress::Progress;
use super::step::step;
use super::{Seen, Transition};
use crate::events::Reason;

pub(super) fn canary(steps: &[(u8, u64, bool)]) -> Plan {
    let stage = |(percent, hold, pause): &(u8, u64, bool)| Stage {
        position: Position::Percent(*percent),
        rules: Vec::new(),
        gate: Gate { hold: Duration::from_secs(*hold), pause: *pause },
    };
    Plan {
        strategy: Strategy::Canary,
        stages: steps.iter().map(stage).collect(),
        ceiling: steps.len(),
        walks: true,
        floor: Gate::default(),
        sticky_key: StickyKey::Auto,
        salt: "s".into(),
        allow_arm_header: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn fresh(plan: &Plan) -> Progress {
    Progress::new(plan.strategy, "r", None, at(0))
}

/// One look a second, with every step confirmed a second after it was published.
struct Life {
    plan: Plan,
    revision: String,
    progress: Progress,
    now: i64,
}

impl Life {
    fn new(plan: Plan) -> Self {
        Self { progress: fresh(&plan), plan, revision: "r".into(), now: 0 }
    }

    fn look(&mut self, request: Option<&str>) -> Transition {
        self.now += 1;
        let seen = Seen { request, confirmed: true };
        let after = step(&self.plan, &self.revision, &self.progress, seen, at(self.now));
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
        let after = step(&plan, "r", &progress, Seen::default(), at(now));
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
    assert_eq!(refused.progress.handled.as_deref(), Some("promote/c"));
}

#[test]
fn a_request_that_was_there_at_first_sight_is_not_run() {
    let plan = canary(&[(1, 0, true), (100, 0, false)]);
    let first = Progress::new(plan.strategy, "r", Some("promote-full/old"), at(0));
    let seen = Seen { request: Some("promote-full/old"), confirmed: true };
    assert_eq!(step(&plan, "r", &first, seen, at(1)).split.percent, 1);
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
        let seen = Seen { request, confirmed: true };
        hold(Some(plan), "r", &before, &last, seen, at(9))
    };
    assert_eq!(held(&by_hand(60), None).split.percent, 30);
    assert_eq!(held(&by_hand(10), None).split.percent, 10);
    assert_eq!(held(&by_hand(60), Some("abort/1")).split.percent, 0);
    let refused = held(&by_hand(60), Some("promote/1"));
    assert_eq!((refused.split.percent, refused.events[0].reason), (30, Reason::RequestRefused));
    assert_eq!(held(&canary(&[(50, 0, false), (100, 0, false)]), None).split.percent, 30);
}

/// Something that happens to a migration.
#[derive(Debug, Clone)]
enum Happening {
    Nothing,
    Confirmed,
    Asked(u8, &'static str),
    Ceiling(usize),
    Revision(u8),
    Held,
    Time(u32),
}

fn happening() -> impl Generator<Value = Happening> {
    prop_oneof![
        2 => Just(Happening::Nothing),
        6 => Just(Happening::Confirmed),
        3 => (0..4u8, prop_oneof![
            Just("promote"), Just("promote-full"), Just("abort"), Just("retry"), Just("restart"), Just("nonsense")
        ]).prop_map(|(id, verb)| Happening::Asked(id, verb)),
        1 => (0..6usize).prop_map(Happening::Ceiling),
        1 => (0..3u8).prop_map(Happening::Revision),
        1 => Just(Happening::Held),
        4 => (0..40u32).prop_map(Happening::Time),
    ]
}

fn plans() -> impl Generator<Value = Plan> {
    let gates = proptest::collection::vec((0..20u64, any::<bool>()), 1..6);
    (gates, 0..3u8, 0..20u64, any::<bool>(), any::<bool>()).prop_map(|(gates, kind, hold, pause, walks)| {
        let gate = |(hold, pause): &(u64, bool)| Gate { hold: Duration::from_secs(*hold), pause: *pause };
        let stages: Vec<_> = gates
            .iter()
            .enumerate()
            .map(|(index, one)| match kind {
                0 => Stage { position: Position::Percent(index as u8 * 16 + 3), rules: vec![], gate: gate(one) },
                _ => {
                    let rule = MatchRule { models: vec![format!("m{index}")], ..MatchRule::default() };
                    Stage { position: Position::Phase(format!("p{index}")), rules: vec![rule], gate: gate(one) }
                }
            })
            .collect();
        let green = Stage { position: Position::Green, rules: vec![], gate: Gate::default() };
        let stages = if kind == 2 { vec![green] } else { stages };
        Plan {
            strategy: [Strategy::Canary, Strategy::Gradual, Strategy::BlueGreen][usize::from(kind)],
            ceiling: stages.len(),
            stages,
            walks,
            floor: if kind == 2 { gate(&(hold, pause)) } else { Gate::default() },
            ..canary(&[])
        }
    })
}

/// How much a split sends, as far as splits of one plan can be compared.
fn weight(split: &Migration) -> usize {
    usize::from(split.percent) + split.rules.len()
}

proptest! {
    #[test]
    fn whatever_happens_the_split_stays_below_the_spec_and_no_gate_is_skipped(
        plan in plans(),
        story in proptest::collection::vec(happening(), 1..80),
    ) {
        let whole = plan.stages.len();
        let mut plan = plan;
        let mut revision = "r0".to_owned();
        let mut progress = fresh(&plan);
        let mut last = plan.split_at(0);
        let mut now = at(0);
        for one in story {
            let mut seen = Seen::default();
            let mut held = false;
            let asked;
            match one {
                Happening::Nothing => {}
                Happening::Confirmed => seen.confirmed = true,
                Happening::Asked(id, verb) => {
                    asked = format!("{verb}/{id}");
                    seen.request = Some(&asked);
                }
                Happening::Ceiling(ceiling) => plan.ceiling = ceiling.min(whole),
                Happening::Revision(number) => revision = format!("r{number}"),
                Happening::Held => held = true,
                Happening::Time(seconds) => {
                    now = now.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap();
                    seen.confirmed = true;
                }
            }
            now = now.checked_add(SignedDuration::from_secs(1)).unwrap();
            let before = progress.clone();
            let act = || if held {
                hold(Some(&plan), &revision, &before, &last, seen, now)
            } else {
                step(&plan, &revision, &before, seen, now)
            };
            let after = act();
            prop_assert_eq!(&after, &act(), "the same inputs, the same output");
            prop_assert!(after.split.percent <= 100);
            prop_assert!(weight(&after.split) <= weight(&plan.goal()) || held, "effective lies below the spec");

            // What is recorded and what is published belong together.
            if !held {
                let level = plan.level_of(after.progress.position.as_ref());
                prop_assert_eq!(level.map(|level| plan.split_at(level)), Some(after.split.clone()));
            }
            prop_assert!(after.progress.rollback.is_none() || weight(&after.split) == 0);
            if held {
                prop_assert!(weight(&after.split) <= weight(&last), "nothing rises while it is held");
            }

            let (old, new) = (plan.level_of(before.position.as_ref()), plan.level_of(after.progress.position.as_ref()));
            let (old, new) = (old.unwrap_or(0), new.unwrap_or(0));
            let was_asked = seen.request.is_some();
            if plan.walks && !held && !was_asked && new > old {
                let gate = plan.gate(old);
                if !(old == 0 && plan.floor.is_open()) {
                    prop_assert_eq!(new, old + 1, "one step at a time");
                    prop_assert!(seen.confirmed && !gate.pause);
                    let since = before.confirmed.unwrap_or(now);
                    let held_for = now.duration_since(since);
                    prop_assert!(held_for >= SignedDuration::try_from(gate.hold).unwrap(), "no hold is skipped");
                } else {
                    prop_assert!(new <= 1 + usize::from(seen.confirmed));
                }
            }

            // A crash before the record was written: the same again. After it: nothing more happens at that moment.
            let again = if held {
                hold(Some(&plan), &revision, &after.progress, &after.split, Seen { confirmed: false, ..seen }, now)
            } else {
                step(&plan, &revision, &after.progress, Seen { confirmed: false, ..seen }, now)
            };
            prop_assert_eq!(&again.split, &after.split);
            prop_assert_eq!(&again.progress, &after.progress);
            prop_assert!(again.events.is_empty(), "{:?}", again.events);

            // A rollback can be reached from everywhere.
            let back = step(&plan, &revision, &after.progress, Seen { request: Some("abort/now"), ..seen }, now);
            prop_assert_eq!(weight(&back.split), 0);
            prop_assert!(back.progress.rollback.is_some());

            last = after.split;
            progress = after.progress;
        }
    }

    #[test]
    fn progress_survives_its_text(percent in 0..=100u8, seconds in 0..4_000_000_000i64) {
        let progress = Progress {
            position: Some(Position::Percent(percent)),
            confirmed: Some(at(seconds)),
            ..Progress::new(Strategy::Canary, "r", Some("promote/1"), at(seconds))
        };
        let text = serde_json::to_string(&progress).unwrap();
        prop_assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }
}
