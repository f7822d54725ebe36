//! Properties of the machine, over plans and histories that nobody thought of.

use std::time::Duration;

use bifrost_analysis::{Action, Budget, Verdict};
use bifrost_config::{Gate, MatchRule, Migration, Plan, Position, Stage, Strategy};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use proptest::test_runner::TestCaseError;

use super::{at, canary, ended, fresh};
use crate::migration::crash::Crash;
use crate::migration::guard::{Analysis, Guard};
use crate::migration::hold::hold;
use crate::migration::progress::{Cause, Progress, Rollback};
use crate::migration::request::{self, Verb};
use crate::migration::step::step;
use crate::migration::{Judged, Revision, Seen, Transition};

/// Something that happens to a migration.
#[derive(Debug, Clone)]
enum Happening {
    Nothing,
    Crashed,
    Judged(Verdict, Option<Action>),
    Confirmed,
    /// The annotation stays on the object until another takes its place.
    Asked(u8, &'static str),
    Ceiling(usize),
    Revision(u8),
    /// Paused or not accepted, until it is mended.
    Held(bool),
    Time(u32),
}

/// Where the operator ends within a look, and begins anew.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Nowhere,
    /// It has decided, and nothing is written.
    BeforeItIsWritten,
    /// It is written, and nobody was told.
    AfterItIsWritten,
}

fn happening() -> impl Generator<Value = Happening> {
    prop_oneof![
        1 => Just(Happening::Nothing),
        1 => Just(Happening::Crashed),
        4 => Just(Happening::Judged(Verdict::Pass, None)),
        1 => Just(Happening::Judged(Verdict::Inconclusive, None)),
        1 => prop_oneof![Just(Action::Warn), Just(Action::Pause), Just(Action::Rollback)]
            .prop_map(|action| Happening::Judged(Verdict::Fail, Some(action))),
        6 => Just(Happening::Confirmed),
        3 => (0..4u8, prop_oneof![
            Just("promote"), Just("promote-full"), Just("abort"), Just("retry"), Just("restart"), Just("nonsense")
        ]).prop_map(|(id, verb)| Happening::Asked(id, verb)),
        1 => (0..6usize).prop_map(Happening::Ceiling),
        1 => (0..3u8).prop_map(Happening::Revision),
        2 => prop_oneof![1 => Just(true), 3 => Just(false)].prop_map(Happening::Held),
        4 => (0..40u32).prop_map(Happening::Time),
    ]
}

fn cuts() -> impl Generator<Value = Cut> {
    prop_oneof![2 => Just(Cut::Nowhere), 1 => Just(Cut::BeforeItIsWritten), 1 => Just(Cut::AfterItIsWritten)]
}

fn guards() -> impl Generator<Value = Guard> {
    (any::<bool>(), any::<bool>(), 0..3u32, 0..60u64).prop_map(|(analysis, to_previous, retries, cooldown)| Guard {
        analysis: analysis.then(|| Analysis {
            checks: vec![],
            metrics: vec![],
            min_requests: 100,
            budget: Budget::default(),
        }),
        to_previous,
        retries,
        cooldown: Duration::from_secs(cooldown),
    })
}

fn plans() -> impl Generator<Value = Plan> {
    let gate = || (0..20u64, any::<bool>());
    let gates = proptest::collection::vec(gate(), 1..6);
    let kinds =
        prop_oneof![Just(Strategy::Canary), Just(Strategy::Gradual), Just(Strategy::BlueGreen), Just(Strategy::DropIn)];
    (gates, kinds, gate(), 0..20u64, any::<bool>()).prop_map(|(gates, strategy, preview, watch, walks)| {
        let gate = |(hold, pause): (u64, bool)| Gate { hold: Duration::from_secs(hold), pause };
        let one = |position, gate| vec![Stage { position, rules: vec![], gate }];
        let each = |stage: fn(usize) -> (Position, Vec<MatchRule>)| {
            let stage = |(index, one): (usize, &(u64, bool))| {
                let (position, rules) = stage(index);
                Stage { position, rules, gate: gate(*one) }
            };
            gates.iter().enumerate().map(stage).collect()
        };
        let stages: Vec<_> = match strategy {
            Strategy::Canary => each(|index| (Position::Percent(index as u8 * 16 + 3), vec![])),
            Strategy::Gradual => each(|index| {
                let rule = MatchRule { models: vec![format!("m{index}")], ..MatchRule::default() };
                (Position::Phase(format!("p{index}")), vec![rule])
            }),
            Strategy::BlueGreen => one(Position::Green, gate((watch, false))),
            Strategy::DropIn => one(Position::Percent(100), Gate::default()),
        };
        Plan {
            strategy,
            ceiling: stages.len(),
            stages,
            walks: walks && strategy != Strategy::DropIn,
            floor: if strategy == Strategy::BlueGreen { gate(preview) } else { Gate::default() },
            ..canary(&[])
        }
    })
}

/// How much a split sends, as far as splits of one plan can be compared.
fn weight(split: &Migration) -> usize {
    usize::from(split.percent) + split.rules.len()
}

/// What a look finds: what [`Seen`] borrows.
#[derive(Debug, Clone, Default)]
struct Found {
    request: Option<String>,
    confirmed: bool,
    crash: Option<(Crash, Timestamp)>,
    judged: Option<Judged>,
}

impl Found {
    fn seen(&self) -> Seen<'_> {
        Seen {
            request: self.request.as_deref(),
            confirmed: self.confirmed,
            crash: self.crash.as_ref().map(|(crash, _)| crash),
            judged: self.judged.as_ref(),
            keyless: None,
        }
    }

    /// What is still found once a look has written what it came to. Pods have yet to confirm another epoch, what they counted is told
    /// only of the split and the watch that began with it, and a container's end counts once and not before the watch.
    fn after(&self, before: &State, after: &Transition) -> Self {
        let progress = &after.progress;
        let is_written = *progress != before.progress || after.split != before.split;
        let begins = progress.watched.is_some() && progress.watched != before.progress.watched;
        let is_counted_on = after.split.splits_like(&before.split) && !begins;
        // Of an end in the very second in which a watch begins nobody can tell whether it was before; it must not count twice.
        let led_back = progress.rollback.is_some() && progress.rollback != before.progress.rollback;
        let counts = |(crash, at): &(Crash, Timestamp)| {
            let is_since = progress.watched.is_some_and(|since| *at >= since) && (led_back || !begins);
            is_since && progress.crash.as_ref() != Some(&crash.id)
        };
        Self {
            request: self.request.clone(),
            confirmed: self.confirmed && !is_written,
            crash: self.crash.clone().filter(counts),
            judged: self.judged.clone().filter(|_| is_counted_on),
        }
    }
}

/// What is written of a migration.
#[derive(Debug, Clone, PartialEq)]
struct State {
    progress: Progress,
    split: Migration,
}

impl State {
    /// As an operator reads it that begins anew.
    fn written(after: &Transition) -> Self {
        let text = serde_json::to_string(&after.progress).unwrap();
        Self { progress: serde_json::from_str(&text).unwrap(), split: after.split.clone() }
    }
}

/// What the spec says at a moment.
struct Spec<'a> {
    plan: &'a Plan,
    guard: &'a Guard,
    revision: Revision<'a>,
    /// Paused, or not accepted.
    held: bool,
    now: Timestamp,
}

impl Spec<'_> {
    fn look(&self, state: &State, seen: Seen<'_>) -> Transition {
        let Self { plan, guard, now, revision, .. } = self;
        if self.held {
            hold(plan.axis, Some(plan), guard, *revision, &state.progress, &state.split, seen, *now)
        } else {
            step(plan, guard, *revision, &state.progress, seen, *now)
        }
    }

    fn level(&self, state: &Progress) -> usize {
        self.plan.level_of(state.position.as_ref()).unwrap_or(0)
    }

    /// The rollback that is in force for this spec: another revision is armed anew, after an abort only another migration.
    fn rollback<'a>(&self, progress: &'a Progress) -> Option<&'a Rollback> {
        let is_same = progress.revision == self.revision.whole;
        let stays = |rollback: &&Rollback| {
            is_same || (rollback.reason == Cause::Aborted && progress.migration == self.revision.migration)
        };
        progress.rollback.as_ref().filter(stays)
    }

    /// What somebody asks for that was not handled yet and can be done.
    fn asked(&self, before: &Progress, seen: Seen<'_>) -> Option<Verb> {
        let text = seen.request.filter(|text| !before.requests.had(text))?;
        let rollback = self.rollback(before);
        let is_paused = before.paused.is_some() && before.revision == self.revision.whole;
        let rises = self.plan.walks && self.level(before) < self.plan.ceiling;
        let can_be_done = |verb: &Verb| match verb {
            Verb::Promote | Verb::PromoteFull => rollback.is_none() && (rises || is_paused),
            Verb::Abort => true,
            Verb::Retry => rollback.is_some(),
            Verb::Restart => self.plan.walks || rollback.is_some(),
        };
        request::parse(text, self.revision.whole, None).ok().filter(can_be_done)
    }

    /// A level from its beginning, where the floor of a plan without a preview is left at once.
    fn entered(&self, level: usize) -> usize {
        if self.plan.floor.is_open() { level.max(1).min(self.plan.ceiling) } else { level.min(self.plan.ceiling) }
    }

    fn check_asked(&self, verb: Verb, before: &Progress, after: &Progress) -> Result<(), TestCaseError> {
        let (old, new) = (self.level(before), self.level(after));
        match verb {
            Verb::Promote if self.plan.walks => prop_assert_eq!(new, (old + 1).min(self.plan.ceiling), "one level up"),
            Verb::Promote | Verb::PromoteFull => prop_assert_eq!(new, self.plan.ceiling),
            Verb::Abort => prop_assert_eq!(new, 0),
            Verb::Retry | Verb::Restart if !self.plan.walks => prop_assert_eq!(new, self.plan.ceiling),
            Verb::Retry => {
                let from = self.rollback(before).and_then(|rollback| rollback.from.as_ref());
                let from = self.plan.level_of(from).unwrap_or(0);
                prop_assert_eq!(new, self.entered(from), "where it was");
            }
            Verb::Restart => prop_assert_eq!(new, self.entered(0)),
        }
        Ok(())
    }

    /// Of a look at which nobody asked for anything new.
    fn check_unasked(&self, before: &Progress, seen: Seen<'_>, after: &Progress) -> Result<(), TestCaseError> {
        let (old, new) = (self.level(before), self.level(after));
        if let Some(rollback) = self.rollback(before).filter(|_| after.rollback.is_none()) {
            let cooldown = SignedDuration::try_from(self.guard.cooldown).unwrap();
            prop_assert!(rollback.reason != Cause::Aborted && before.retries < self.guard.retries);
            prop_assert!(rollback.at.checked_add(cooldown).unwrap() <= self.now, "not before the cooldown is over");
            prop_assert_eq!(after.retries, before.retries + 1);
            let from = self.plan.level_of(rollback.from.as_ref()).unwrap_or(0);
            prop_assert_eq!(new, if self.plan.walks { self.entered(from) } else { self.plan.ceiling });
        } else if self.plan.walks && new > old {
            prop_assert_eq!(new, old + 1, "one level at a time");
            if old == 0 && self.plan.floor.is_open() {
                return Ok(());
            }
            let gate = self.plan.gate(old);
            let is_paused = before.paused.is_some() && before.revision == self.revision.whole;
            prop_assert!(seen.confirmed && !gate.pause && !is_paused);
            prop_assert!(before.watched.is_some() || old == 0);
            let passes = seen.judged.is_some_and(|judged| judged.verdict == Verdict::Pass);
            prop_assert!(self.guard.analysis.is_none() || passes);
            // Another configuration is confirmed anew.
            let since = before.confirmed.filter(|_| before.config == self.revision.config);
            let held_for = self.now.duration_since(since.unwrap_or(self.now));
            prop_assert!(held_for >= SignedDuration::try_from(gate.hold).unwrap(), "no hold is skipped");
        }
        Ok(())
    }

    fn check(&self, before: &State, seen: Seen<'_>, after: &Transition) -> Result<(), TestCaseError> {
        let (last, split) = (weight(&before.split), weight(&after.split));
        prop_assert_eq!(after, &self.look(before, seen), "the same inputs, the same output");
        prop_assert!(after.split.percent <= 100);
        let goal = weight(&self.plan.goal());
        prop_assert!(split <= goal, "effective lies below the spec: {split} of {goal}");
        // What is recorded and what is published belong together.
        prop_assert_eq!(&self.plan.split_at(self.level(&after.progress)), &after.split);
        let fell = after.progress.rollback.is_some() && after.progress.rollback != before.progress.rollback;
        if fell {
            prop_assert!(split < last.max(1), "a rollback goes back");
            prop_assert!(self.guard.to_previous || split == 0);
        }
        if self.held {
            let lower = last.min(goal);
            prop_assert!(split == lower || (fell && split == 0), "{split}, and the lower one is {lower}");
            return Ok(());
        }
        match self.asked(&before.progress, seen) {
            Some(verb) => self.check_asked(verb, &before.progress, &after.progress),
            None => self.check_unasked(&before.progress, seen, &after.progress),
        }
    }

    /// A rollback can be reached from everywhere, whether the spec is followed or held by then.
    fn check_abort(&self, state: &State) -> Result<(), TestCaseError> {
        for held in [false, true] {
            let seen = Seen { request: Some("abort/now"), ..Seen::default() };
            let back = Spec { held, ..*self }.look(state, seen);
            prop_assert_eq!(weight(&back.split), 0);
            prop_assert_eq!(back.progress.rollback.map(|rollback| rollback.reason), Some(Cause::Aborted));
        }
        Ok(())
    }

    /// The same look by an operator that ends in the midst of it and begins anew.
    fn look_with(&self, cut: Cut, before: &State, found: &Found) -> Result<State, TestCaseError> {
        let after = self.look(before, found.seen());
        let state = State::written(&after);
        match cut {
            Cut::Nowhere => Ok(state),
            Cut::BeforeItIsWritten => Ok(State::written(&self.look(before, found.seen()))),
            Cut::AfterItIsWritten => {
                let left = found.after(before, &after);
                let again = self.look(&state, left.seen());
                prop_assert!(again.events.is_empty(), "{:?}", again.events);
                Ok(State::written(&again))
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_split_stays_below_the_spec_and_no_gate_is_skipped(
        plan in plans(),
        guard in guards(),
        story in proptest::collection::vec((happening(), cuts()), 1..80),
    ) {
        let whole = plan.stages.len();
        let mut plan = plan;
        let (mut whole_name, mut config_name) = ("r0".to_owned(), "c".to_owned());
        let mut migration_name = "m".to_owned();
        let mut state = State { progress: fresh(&plan), split: plan.split_at(0) };
        // The same life, of an operator that ends now and then.
        let mut interrupted = state.clone();
        let mut now = at(0);
        let mut held = false;
        let mut request = None;
        for (one, cut) in story {
            let mut found = Found::default();
            match one {
                Happening::Nothing => {}
                // In the very second of this look, as the kubelet tells whole seconds.
                Happening::Crashed => found.crash = Some((ended(now.as_second() + 1), now + SignedDuration::from_secs(1))),
                Happening::Judged(verdict, action) => {
                    found.judged = Some(Judged { verdict, action, reason: "because".to_owned() });
                    found.confirmed = true;
                }
                Happening::Confirmed => found.confirmed = true,
                Happening::Asked(id, verb) => request = Some(format!("{verb}/{id}")),
                Happening::Ceiling(ceiling) => plan.ceiling = ceiling.min(whole),
                Happening::Revision(number) => {
                    whole_name = format!("r{number}");
                    config_name = if number < 2 { "c" } else { "another" }.to_owned();
                    migration_name = if number % 2 == 0 { "m" } else { "other" }.to_owned();
                }
                Happening::Held(from_now) => held = from_now,
                Happening::Time(seconds) => {
                    now = now.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap();
                    found.confirmed = true;
                }
            }
            found.request.clone_from(&request);
            now = now.checked_add(SignedDuration::from_secs(1)).unwrap();
            let revision = Revision { whole: &whole_name, config: &config_name, migration: &migration_name };
            let spec = Spec { plan: &plan, guard: &guard, revision, held, now };
            let after = spec.look(&state, found.seen());
            spec.check(&state, found.seen(), &after)?;

            // Once it is written, nothing more happens at that moment, with all that is still found then.
            let left = found.after(&state, &after);
            let written = State::written(&after);
            let again = spec.look(&written, left.seen());
            prop_assert_eq!(&State::written(&again), &written, "{:?}", left);
            prop_assert!(again.events.is_empty(), "{:?}", again.events);

            spec.check_abort(&written)?;
            interrupted = spec.look_with(cut, &interrupted, &found)?;
            prop_assert_eq!(&interrupted, &written, "cut {:?}", cut);
            state = written;
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
