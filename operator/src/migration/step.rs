//! The machine: at most one stage up at a time, each through its gate; down at once.

use bifrost_config::{Plan, Position};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::progress::{Cause, Progress, Rollback};
use super::request::{self, Verb};
use super::{Seen, Transition, describe};
use crate::events::{Event, Reason};

/// Follows a spec that is valid and not paused.
pub fn step(plan: &Plan, revision: &str, before: &Progress, seen: Seen<'_>, now: Timestamp) -> Transition {
    let mut walk = Walk { plan, now, progress: before.clone(), level: 0, events: Vec::new() };
    walk.follow(revision);
    walk.handle(seen.request, revision);
    walk.advance(seen.confirmed);
    walk.tell(before);
    let split = plan.split_at(walk.level);
    let wake = hold_ends(plan, walk.level, &walk.progress).filter(|end| *end > now);
    Transition { split, events: walk.events, wake, progress: walk.progress }
}

/// When the hold behind a level ends; none while it has not begun.
pub(super) fn hold_ends(plan: &Plan, level: usize, progress: &Progress) -> Option<Timestamp> {
    let hold = SignedDuration::try_from(plan.gate(level).hold).ok()?;
    progress.confirmed.filter(|_| plan.walks)?.checked_add(hold).ok()
}

struct Walk<'a> {
    plan: &'a Plan,
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
    fn follow(&mut self, revision: &str) {
        let other_strategy = self.progress.strategy != self.plan.strategy;
        if self.progress.revision != revision {
            self.progress.revision = revision.to_owned();
            self.progress.rollback = None;
        }
        self.progress.strategy = self.plan.strategy;
        let known = self.plan.level_of(self.progress.position.as_ref()).filter(|_| !other_strategy);
        self.go(known.unwrap_or(0));
    }

    /// Does what somebody asks for, once.
    fn handle(&mut self, request: Option<&str>, revision: &str) {
        let Some(text) = request.filter(|text| self.progress.handled.as_deref() != Some(request::kept(text).as_str()))
        else {
            return;
        };
        self.progress.handled = Some(request::kept(text));
        let done = request::parse(text, revision).and_then(|verb| self.act(verb).map(|done| format!("{verb}: {done}")));
        self.events.push(match done {
            Ok(done) => Event::new(Reason::RequestHandled, done),
            Err(why) => Event::new(Reason::RequestRefused, format!("{}: {why}", request::kept(text))),
        });
    }

    fn act(&mut self, verb: Verb) -> Result<String, String> {
        let from = describe(self.progress.position.as_ref());
        match verb {
            Verb::Promote | Verb::PromoteFull => {
                if self.progress.rollback.is_some() {
                    return Err("the migration was rolled back: ask for retry or restart".to_owned());
                }
                if !self.plan.walks || self.level >= self.plan.ceiling {
                    return Err(format!("there is nothing to promote: {from} is where the spec wants it"));
                }
                let next = if verb == Verb::Promote { self.level + 1 } else { self.plan.ceiling };
                self.go(next);
            }
            Verb::Abort => {
                if self.progress.rollback.is_some() {
                    return Err("the migration was rolled back already".to_owned());
                }
                self.abort();
            }
            Verb::Retry => {
                let Some(rollback) = self.progress.rollback.take() else {
                    return Err("there is no rollback to retry after".to_owned());
                };
                let level = self.plan.level_of(rollback.from.as_ref()).unwrap_or(0);
                self.go(if self.plan.walks { level } else { self.plan.ceiling });
            }
            Verb::Restart => {
                if !self.plan.walks && self.progress.rollback.is_none() {
                    return Err("the strategy has no steps to begin anew with".to_owned());
                }
                self.progress.rollback = None;
                self.go(0);
                // The hold of the floor begins anew as well.
                self.progress.confirmed = None;
                self.progress.started = self.now;
                self.enter();
            }
        }
        Ok(format!("{from} → {}", describe(self.progress.position.as_ref())))
    }

    fn abort(&mut self) {
        let from = self.progress.position.clone();
        self.go(0);
        self.progress.rollback = Some(Rollback {
            from,
            at: self.now,
            reason: Cause::Aborted,
            message: "somebody asked for abort".to_owned(),
        });
    }

    /// Goes up, if there is nothing to wait for.
    fn advance(&mut self, confirmed: bool) {
        if self.progress.rollback.is_some() {
            return;
        }
        if !self.plan.walks {
            return self.go(self.plan.ceiling);
        }
        self.enter();
        // What was confirmed is the stage that was published before, not one that is only chosen now.
        if self.progress.started == self.now && self.progress.confirmed.is_none() {
            return;
        }
        if confirmed && self.progress.confirmed.is_none() {
            self.progress.confirmed = Some(self.now);
        }
        let is_held = hold_ends(self.plan, self.level, &self.progress).is_none_or(|end| end > self.now);
        if self.level < self.plan.ceiling && confirmed && !is_held && !self.plan.gate(self.level).pause {
            self.go(self.level + 1);
        }
    }

    /// Nothing above the baseline is tried on the floor, so a gate without conditions needs no confirmation there.
    fn enter(&mut self) {
        if self.level == 0 && self.plan.ceiling > 0 && self.plan.floor.is_open() {
            self.go(1);
        }
    }

    /// Notes what changed between before and now.
    fn tell(&mut self, before: &Progress) {
        let (now, was) = (&self.progress, &before.position);
        if let Some(rollback) = now.rollback.as_ref().filter(|_| before.rollback.is_none()) {
            let note = format!("{} → the baseline: {}", describe(rollback.from.as_ref()), rollback.message);
            self.events.push(Event::new(Reason::RolledBack, note));
        } else if now.position != *was
            && let Some(position) = &now.position
            && self.plan.walks
        {
            let note = format!("{} → {}", describe(was.as_ref()), describe(Some(position)));
            let reason = match position {
                Position::Percent(_) => Reason::StepStarted,
                Position::Phase(_) => Reason::PhaseStarted,
                Position::Green => Reason::Promoted,
            };
            self.events.push(Event::new(reason, note));
        }
    }
}
