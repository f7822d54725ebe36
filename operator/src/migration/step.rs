//! The machine: at most one stage up at a time, each through its gate; down at once.

use bifrost_analysis::{Action, Verdict};
use bifrost_config::{Axis, Plan, Position, Strategy};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::guard::Guard;
use super::progress::{Cause, Progress, Rollback};
use super::request::{self, Verb};
use super::{Revision, Seen, Transition, describe, outlook};
use crate::events::{Event, Reason};

/// Follows a spec that is valid and not paused.
pub fn step(
    plan: &Plan,
    guard: &Guard,
    revision: Revision<'_>,
    before: &Progress,
    seen: Seen<'_>,
    now: Timestamp,
) -> Transition {
    let mut walk = Walk { plan, guard, now, progress: before.clone(), level: 0, events: Vec::new() };
    walk.follow(revision);
    walk.handle(seen.request, revision.whole);
    walk.react(&seen);
    walk.retry(&seen);
    walk.advance(&seen);
    walk.tell(before);
    walk.progress.watched = watched_since(plan, walk.level, &walk.progress, now);
    walk.progress.count_watch(before);
    let split = plan.split_at(walk.level);
    let wakes = [hold_ends(plan, walk.level, &walk.progress), walk.retry_at()];
    let wake = wakes.into_iter().flatten().filter(|end| *end > now).min();
    Transition { split, events: walk.events, wake, progress: walk.progress }
}

/// When the hold behind a level ends; none while it has not begun.
pub fn hold_ends(plan: &Plan, level: usize, progress: &Progress) -> Option<Timestamp> {
    let hold = SignedDuration::try_from(plan.gate(level).hold).ok()?;
    progress.confirmed?.checked_add(hold).ok()
}

/// Since when what is seen of this stage counts; none where it does not.
pub(super) fn watched_since(plan: &Plan, level: usize, progress: &Progress, now: Timestamp) -> Option<Timestamp> {
    is_watched(plan, level, progress, now).then(|| progress.watched.unwrap_or(now))
}

/// Whether a plan's floor is tried on a preview.
pub fn has_preview(plan: &Plan) -> bool {
    plan.strategy == Strategy::BlueGreen && plan.walks && (plan.axis == Axis::Migration || !plan.floor.is_open())
}

/// Whether what is seen of this stage counts: until the migration is where the spec wants it, and by hand for as long as the baseline
/// arm has traffic to compare with.
pub fn is_watched(plan: &Plan, level: usize, progress: &Progress, now: Timestamp) -> bool {
    if level == 0 && !(has_preview(plan) && plan.ceiling > 0 && progress.rollback.is_none()) {
        return false;
    }
    let ends = level >= plan.ceiling;
    if !ends || progress.rollback.is_some() {
        return true;
    }
    if plan.walks || !plan.gate(level).is_open() {
        return hold_ends(plan, level, progress).is_none_or(|end| end > now);
    }
    match plan.strategy {
        Strategy::Gradual => level < plan.stages.len(),
        _ => (1..100).contains(&plan.split_at(level).percent),
    }
}

/// When a stage that failed is tried again; none: not by itself.
pub(super) fn retry_at(guard: &Guard, progress: &Progress) -> Option<Timestamp> {
    let rollback = progress.rollback.as_ref()?;
    if rollback.reason == Cause::Aborted || progress.retries >= guard.retries {
        return None;
    }
    rollback.at.checked_add(SignedDuration::try_from(guard.cooldown).ok()?).ok()
}

struct Walk<'a> {
    plan: &'a Plan,
    guard: &'a Guard,
    now: Timestamp,
    progress: Progress,
    level: usize,
    events: Vec<Event>,
}

impl Walk<'_> {
    fn position(&self, level: usize) -> Option<Position> {
        self.plan.stage(level).map(|stage| stage.position.clone())
    }

    fn go(&mut self, level: usize) {
        self.level = level;
        let position = self.position(level);
        self.progress = self.progress.clone().at(position, self.now);
    }

    /// Takes over what the spec says now. It can only lower the position.
    fn follow(&mut self, revision: Revision<'_>) {
        let other_strategy = self.progress.strategy != self.plan.strategy;
        if self.progress.revision != revision.whole {
            // What somebody took back stays so until somebody says otherwise of the migration: another configuration may be another
            // team's. What went back by itself may be mended by one.
            let is_same = [revision.migration, ""].contains(&self.progress.migration.as_str());
            self.progress.rollback.take_if(|rollback| rollback.reason != Cause::Aborted || !is_same);
            self.progress.revision = revision.whole.to_owned();
            self.progress.paused = None;
            self.progress.retries = 0;
            // What was seen so far is of another spec.
            self.progress.watched = None;
        }
        revision.migration.clone_into(&mut self.progress.migration);
        if self.progress.config != revision.config {
            self.progress.config = revision.config.to_owned();
            self.progress.confirmed = None;
        }
        self.progress.strategy = self.plan.strategy;
        let known = self.plan.level_of(self.progress.position.as_ref()).filter(|_| !other_strategy);
        self.go(known.unwrap_or(0));
    }

    /// Does what somebody asks for, once.
    fn handle(&mut self, request: Option<&str>, revision: &str) {
        let Some(text) = request.filter(|text| self.progress.requests.takes(text)) else { return };
        let step = outlook::step(Some(self.plan), &self.progress, self.level);
        let verb = request::parse(text, revision, Some(&step));
        let done = verb.and_then(|verb| self.act(verb).map(|done| format!("{verb}: {done}")));
        self.events.push(match done {
            Ok(done) => Event::new(Reason::RequestHandled, done),
            Err(why) => {
                self.progress.requests.refuse(&why);
                Event::new(Reason::RequestRefused, format!("{}: {why}", request::kept(text)))
            }
        });
    }

    fn act(&mut self, verb: Verb) -> Result<String, String> {
        let from = self.describe(self.progress.position.as_ref());
        let noun = self.plan.axis.noun();
        match verb {
            Verb::Promote | Verb::PromoteFull => self.promote(verb == Verb::PromoteFull, &from)?,
            Verb::Abort => {
                // One that went back by itself may be tried again by itself, until somebody aborts it.
                let is_aborted = |rollback: &Rollback| rollback.reason == Cause::Aborted;
                if self.level == 0 && self.progress.rollback.as_ref().is_some_and(is_aborted) {
                    return Ok(format!("the {noun} was aborted already"));
                }
                self.roll_back(0, Cause::Aborted, "somebody asked for abort".to_owned());
            }
            Verb::Retry => {
                let Some(rollback) = self.progress.rollback.take() else {
                    return Err("there is no rollback to retry after".to_owned());
                };
                self.try_again(&rollback);
            }
            Verb::Restart => {
                if !self.plan.walks && self.progress.rollback.is_none() {
                    return Err("the strategy has no steps to begin anew with".to_owned());
                }
                self.progress.rollback = None;
                self.begin(0);
                self.enter();
            }
        }
        Ok(format!("{from} → {}", self.describe(self.progress.position.as_ref())))
    }

    fn describe(&self, position: Option<&Position>) -> String {
        describe(self.plan.axis, position)
    }

    fn promote(&mut self, full: bool, from: &str) -> Result<(), String> {
        if self.progress.rollback.is_some() {
            let noun = self.plan.axis.noun();
            return Err(format!("the {noun} was rolled back: ask for retry or restart"));
        }
        let was_paused = self.progress.paused.take().is_some();
        if self.plan.walks && self.level < self.plan.ceiling {
            self.go(if full { self.plan.ceiling } else { self.level + 1 });
        } else if !was_paused {
            return Err(format!("there is nothing to promote: {from} is where the spec wants it"));
        }
        Ok(())
    }

    fn try_again(&mut self, rollback: &Rollback) {
        let level = self.plan.level_of(rollback.from.as_ref()).unwrap_or(0);
        self.begin(if self.plan.walks { level } else { self.plan.ceiling });
    }

    /// Goes to a level from its beginning, also where it is there already.
    fn begin(&mut self, level: usize) {
        self.go(level);
        self.progress = self.progress.clone().begun(self.now);
    }

    fn roll_back(&mut self, level: usize, reason: Cause, message: String) {
        let from = match self.progress.rollback.take() {
            Some(earlier) => earlier.from,
            None => self.progress.position.clone(),
        };
        self.go(level);
        self.progress.rollback = Some(Rollback { from, at: self.now, reason, message });
    }

    /// Goes back, or waits for somebody, if what is seen asks for it.
    fn react(&mut self, seen: &Seen<'_>) {
        // What was seen belongs to the stage and the spec that were published, not to those that were only chosen now.
        if self.progress.watched.is_none() || !is_watched(self.plan, self.level, &self.progress, self.now) {
            return;
        }
        let back = if self.guard.to_previous { self.level.saturating_sub(1) } else { 0 };
        if let Some(crash) = seen.crash.filter(|_| self.guard.watches_crashes(self.plan)) {
            self.progress.crash = Some(crash.id.clone());
            return self.roll_back(back, Cause::GatewayCrash, crash.message.clone());
        }
        let Some(judged) = seen.judged.filter(|judged| judged.verdict == Verdict::Fail) else { return };
        match judged.action {
            Some(Action::Rollback) => self.roll_back(back, Cause::AnalysisFailed, judged.reason.clone()),
            Some(Action::Pause) => {
                self.progress.paused.get_or_insert_with(|| judged.reason.clone());
            }
            Some(Action::Warn) | None => {}
        }
    }

    fn retry_at(&self) -> Option<Timestamp> {
        retry_at(self.guard, &self.progress)
    }

    fn retry(&mut self, seen: &Seen<'_>) {
        // It would rise at once to where it was.
        if seen.keyless.is_some() {
            return;
        }
        let is_new = self.progress.rollback.as_ref().is_none_or(|rollback| rollback.at == self.now);
        if is_new || self.retry_at().is_none_or(|at| at > self.now) {
            return;
        }
        if let Some(rollback) = self.progress.rollback.take() {
            self.progress.retries += 1;
            self.try_again(&rollback);
        }
    }

    /// Goes up, if there is nothing to wait for.
    fn advance(&mut self, seen: &Seen<'_>) {
        if self.progress.rollback.is_some() {
            return;
        }
        if !self.plan.walks {
            self.go(self.plan.ceiling);
        }
        if seen.keyless.is_none() {
            self.enter();
        }
        // What was confirmed is the stage that was published before, not one that is only chosen now.
        if self.progress.started == self.now && self.progress.confirmed.is_none() {
            return;
        }
        // On the floor below a ceiling of zero nothing is waited for.
        let counts = self.plan.ceiling > 0 && (self.plan.walks || !self.plan.gate(self.level).is_open());
        if counts && seen.confirmed && self.progress.confirmed.is_none() {
            self.progress.confirmed = Some(self.now);
        }
        let is_held = hold_ends(self.plan, self.level, &self.progress).is_none_or(|end| end > self.now);
        let waits = self.plan.gate(self.level).pause || self.progress.paused.is_some() || seen.keyless.is_some();
        let judged = seen.judged.filter(|_| self.progress.watched.is_some());
        let is_tried = self.level > 0 || has_preview(self.plan);
        let passes =
            self.guard.analysis.is_none() || !is_tried || judged.is_some_and(|judged| judged.verdict == Verdict::Pass);
        if self.level < self.plan.ceiling && seen.confirmed && !is_held && !waits && passes {
            self.go(self.level + 1);
        }
    }

    /// Nothing above the baseline is tried on the floor, so a gate without conditions needs no confirmation there. A candidate does: it
    /// must be there before it is sent anything.
    fn enter(&mut self) {
        let is_ready = self.plan.axis == Axis::Migration && self.plan.floor.is_open();
        if self.level == 0 && self.plan.ceiling > 0 && is_ready {
            self.go(1);
        }
    }

    /// Notes what changed between before and now.
    fn tell(&mut self, before: &Progress) {
        let (now, was) = (&self.progress, &before.position);
        if let Some(rollback) = now.rollback.as_ref().filter(|_| before.rollback != now.rollback) {
            let (from, to) = (self.describe(was.as_ref()), self.describe(now.position.as_ref()));
            self.events.push(Event::new(Reason::RolledBack, format!("{from} → {to}: {}", rollback.message)));
        } else if now.position != *was
            && let Some(position) = &now.position
            && self.plan.walks
        {
            let note = format!("{} → {}", self.describe(was.as_ref()), self.describe(Some(position)));
            let reason = match position {
                Position::Percent(_) => Reason::StepStarted,
                Position::Phase(_) => Reason::PhaseStarted,
                Position::Green => Reason::Promoted,
            };
            self.events.push(Event::new(reason, note));
        }
    }
}
