//! Follows a spec that is valid and not paused.

use std::time::Duration;

use bifrost_config::Plan;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::hold::hold;
use super::plan::Wish;
use super::record::{Candidate, Record};
use super::revision::Revision;
use super::{Outcome, Served, Sight, size};
use crate::events::{Event, Reason};
use crate::migration::progress::{Cause, Progress, Rollback};
use crate::migration::step::{has_preview, hold_ends, step};
use crate::migration::{self, Seen, Transition, request};

/// Decides. `wanted` is the spec's revision.
pub fn decide(wish: &Wish, wanted: &Revision, before: &Record, sight: Sight<'_>, now: Timestamp) -> Outcome {
    let mut record = before.clone();
    record.returning &= !sight.is_back;
    record.ran = record.ran.filter(|_| !sight.runs_stable);
    record.proven |= wish.plan.is_some() && sight.seen.confirmed;
    // Where nothing ever worked there is nothing to be careful of, and without pods nobody to try it on. Who has asked no pod yet does
    // not know that nothing works.
    let may_work = record.proven || !sight.is_known;
    let is_tried = record.candidate.is_some() || (may_work && sight.replicas > 0);
    // Back to the image that ran, before all pods have left it: it is no news to anybody.
    let is_back = record.ran.as_ref() == Some(&wanted.image) && record.stable.config == wanted.config;
    let plan = wish.plan.as_ref().filter(|_| is_tried && record.stable != *wanted && !is_back);
    let was_promoting = record.candidate.as_ref().is_some_and(|candidate| candidate.promoting) && !sight.is_back;
    let Some(plan) = plan else {
        let mut outcome = settled(&record, wanted, sight.seen.request);
        outcome.record.returning |= was_promoting && record.stable == *wanted;
        let is_of = |candidate: &&Candidate| candidate.revision == *wanted && record.stable != *wanted;
        if let Some(candidate) = record.candidate.as_ref().filter(is_of) {
            let why = "nothing tries it any more, so it is the stable revision now";
            outcome.events.push(told(Event::new(Reason::Promoted, why), candidate));
        }
        return outcome;
    };
    if sight.replicas == 0 {
        return hold(Some(wish), Some(wanted), &record, sight, now);
    }
    let own_pods = wanted.image != record.stable.image;
    let is_under_way = record.candidate.as_ref().is_some_and(|candidate| candidate.revision == *wanted);
    let candidate = record.candidate.take().filter(|_| is_under_way);
    // What was seen is of another candidate.
    let unseen = Sight {
        seen: Seen { confirmed: false, crash: None, judged: None, ..sight.seen },
        loaded: false,
        ready: 0,
        ..sight
    };
    let sight = if is_under_way { sight } else { unseen };
    let candidate = candidate.unwrap_or_else(|| Candidate::new(wanted, plan.strategy, before.requests(), now));
    let walk = Walk { plan, wish, wanted, sight, own_pods, now };
    let Advanced { mut candidate, events, aims, wake } = walk.advance(candidate);
    let mut events: Vec<_> = events.into_iter().map(|event| told(event, &candidate)).collect();
    let is_over = walk.is_over(&candidate);
    let is_promoted = is_over && (!own_pods || (candidate.promoting && sight.rolled));
    candidate.promoting = is_over && own_pods;
    record.returning |= was_promoting && !candidate.promoting && !is_promoted;
    candidate.served = serve(plan, &candidate).map(|served| Served {
        pods: own_pods.then(|| size(sight.replicas, aims)),
        room: Some(aims).filter(|aims| own_pods && *aims > served.percent),
        ..served
    });
    record.candidate = Some(candidate);
    if is_promoted {
        events.push(Event::new(Reason::Promoted, format!("rollout of {}: it is the stable revision now", wanted.id)));
        record.settle(wanted);
        record.proven = true;
        record.ran = record.ran.filter(|_| !own_pods);
    }
    Outcome { wake: wake.filter(|_| !is_promoted), record, events }
}

/// Without a candidate: this revision serves.
pub(super) fn settled(before: &Record, stable: &Revision, request: Option<&str>) -> Outcome {
    let mut record = before.clone();
    record.settle(stable);
    let mut events = Vec::new();
    if let Some(text) = request.filter(|text| record.own_requests.takes(text)) {
        let why = "there is no candidate, as the stable revision is what the spec asks for";
        record.own_requests.refuse(why);
        events.push(Event::new(Reason::RequestRefused, format!("rollout: {}: {why}", request::kept(text))));
    }
    Outcome { record, events, wake: None }
}

/// What the pods hold of a candidate; nothing of one that was taken back.
fn serve(plan: &Plan, candidate: &Candidate) -> Option<Served> {
    let progress = &candidate.progress;
    let level = plan.level_of(progress.position.as_ref()).unwrap_or(0);
    let percent = plan.split_at(level).percent;
    let served = Served { percent, preview: level == 0 && has_preview(plan), pods: None, room: None };
    progress.rollback.is_none().then_some(served)
}

pub(super) fn told(event: Event, candidate: &Candidate) -> Event {
    let is_asked = candidate.progress.rollback.as_ref().is_some_and(|rollback| rollback.reason == Cause::Aborted);
    let reason = match event.reason {
        Reason::RolledBack if !is_asked => Reason::CandidateFailed,
        other => other,
    };
    Event::new(reason, format!("rollout of {}: {}", candidate.revision.id, event.note))
}

fn ends(since: Timestamp, wait: Duration) -> Option<Timestamp> {
    since.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}

struct Walk<'a> {
    plan: &'a Plan,
    wish: &'a Wish,
    wanted: &'a Revision,
    sight: Sight<'a>,
    own_pods: bool,
    now: Timestamp,
}

struct Advanced {
    candidate: Candidate,
    events: Vec<Event>,
    /// The percent that the candidate is to have room for.
    aims: u8,
    wake: Option<Timestamp>,
}

impl Walk<'_> {
    fn level(&self, progress: &Progress) -> usize {
        self.plan.level_of(progress.position.as_ref()).unwrap_or(0)
    }

    fn has_room(&self, level: usize) -> bool {
        self.sight.has_room(self.plan.split_at(level).percent, self.own_pods)
    }

    fn step(&self, progress: &Progress, seen: Seen<'_>) -> Transition {
        let revision = migration::Revision { whole: &self.wanted.id, config: &self.wanted.config, migration: "" };
        step(self.plan, &self.wish.guard, revision, progress, seen, self.now)
    }

    /// One look: a share that would rise waits until there is room for it, and with it what somebody asked for.
    fn advance(&self, before: Candidate) -> Advanced {
        let level = self.level(&before.progress);
        let seen = self.sight.seen;
        let confirmed = seen.confirmed && self.has_room(level);
        let mut found = self.step(&before.progress, Seen { confirmed, ..seen });
        let mut goal = self.level(&found.progress);
        let mut waits = found.progress.confirmed.is_none() || self.is_short(self.plan.split_at(level).percent);
        if before.progress.rollback.is_some() && found.progress.rollback.is_none() {
            // One that is tried again was taken out of the pods: it begins where there is nothing of it.
            found.progress = found.progress.at(None, self.now).begun(self.now);
            goal = goal.min(1);
        } else if goal > level && !self.has_room(goal) {
            waits = true;
            found = self.step(&before.progress, Seen { request: None, confirmed: false, ..seen });
        }
        waits |= self.own_pods && before.promoting && !self.sight.rolled;
        // What an operator that begins does not know yet ends no wait.
        waits |= !self.sight.is_known && before.waiting.is_some();
        let Transition { progress, events, wake, .. } = found;
        let mut aims = self.plan.split_at(goal).percent;
        if let Some(room) = self.room(&before, &progress) {
            aims = aims.max(room);
            waits |= self.is_short(room) || (!seen.confirmed && before.waiting.is_some());
        }
        let since = before.waiting.filter(|_| progress.position == before.progress.position);
        let waiting = since.unwrap_or(self.now);
        let waiting = (waits && progress.rollback.is_none()).then_some(waiting);
        self.in_time(Advanced { candidate: Candidate { progress, waiting, ..before }, events, aims, wake })
    }

    /// Whether something of what a share needs is not there at all, whatever the pods that are there have read.
    fn is_short(&self, percent: u8) -> bool {
        let Sight { is_kept, is_shared, alive, replicas, .. } = self.sight;
        !is_kept || (self.own_pods && (is_shared || alive < size(replicas, percent)))
    }

    /// The share for which there were to be pods already. They stay, whichever pod has not confirmed the newest write yet, unless it
    /// waits for somebody by now.
    fn room(&self, before: &Candidate, progress: &Progress) -> Option<u8> {
        let stays = progress.position == before.progress.position && progress.rollback.is_none();
        let waits = progress.paused.is_some() || self.plan.gate(self.level(progress)).pause;
        before.served?.room.filter(|_| stays && !waits && self.own_pods)
    }

    /// Takes back what has waited for too long.
    fn in_time(&self, mut advanced: Advanced) -> Advanced {
        let candidate = &mut advanced.candidate;
        let Some(end) = candidate.waiting.and_then(|since| ends(since, self.wish.deadline)) else { return advanced };
        if end <= self.now && !self.sight.is_known {
            candidate.waiting = Some(self.now);
        } else if end > self.now {
            advanced.wake = Some(advanced.wake.map_or(end, |wake| wake.min(end)));
        } else {
            self.take_back(&mut advanced);
        }
        advanced
    }

    fn take_back(&self, advanced: &mut Advanced) {
        let candidate = &mut advanced.candidate;
        let from = candidate.progress.position.clone();
        let missing = self.missing(candidate.promoting, advanced.aims);
        let message = format!("{missing} within {:?}", self.wish.deadline);
        let axis = self.plan.axis;
        let note = match &from {
            None => message.clone(),
            from => format!("{} → {}: {message}", migration::describe(axis, from.as_ref()), axis.floor()),
        };
        advanced.events.push(Event::new(Reason::RolledBack, note));
        let rollback = Rollback { from, at: self.now, reason: Cause::ProgressDeadlineExceeded, message };
        candidate.progress = Progress { rollback: Some(rollback), ..candidate.progress.clone().at(None, self.now) };
        candidate.waiting = None;
    }

    fn missing(&self, promoting: bool, aims: u8) -> String {
        let Sight { alive, replicas, trouble, .. } = self.sight;
        let wanted = size(replicas, aims);
        match self.own_pods && alive < wanted {
            _ if promoting => "the Deployment was not rolled to the candidate's image".to_owned(),
            true => {
                let why = trouble.map_or_else(String::new, |trouble| format!(" ({trouble})"));
                format!("{alive} of the {wanted} pods that the candidate needs were ready and held it{why}")
            }
            false if self.own_pods => "not every pod confirmed the candidate and reached its pods".to_owned(),
            false => "not every pod confirmed the candidate".to_owned(),
        }
    }

    /// Whether nothing is left to wait for at the last stage.
    fn is_over(&self, candidate: &Candidate) -> bool {
        let progress = &candidate.progress;
        let level = self.level(progress);
        let held = hold_ends(self.plan, level, progress).is_none_or(|end| end > self.now);
        let is_there = candidate.promoting || self.has_room(level);
        level == self.plan.ceiling && progress.rollback.is_none() && progress.paused.is_none() && !held && is_there
    }
}
