//! Typical lives of rollouts.

mod properties;
mod rolling;

use bifrost_analysis::{Action, Verdict};
use bifrost_crds::RolloutSpec;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::decide::decide;
use super::hold::hold;
use super::plan::{Wish, read};
use super::record::Record;
use super::revision::Revision;
use super::{Outcome, Served, Sight, size};
use crate::events::Reason;
use crate::migration::progress::Cause;
use crate::migration::{Judged, Seen};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn wish(spec: serde_json::Value) -> Wish {
    let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
    read(&spec).unwrap()
}

fn canary() -> Wish {
    wish(
        json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "hold": "5s"}, {"percent": 50, "pause": true}]}, "progressDeadline": "1m"}),
    )
}

fn blue_green() -> Wish {
    wish(json!({"strategy": "BlueGreen", "blueGreen": {"preview": {"pause": true}, "watch": "5s"}}))
}

fn revision(config: &str, image: &str) -> Revision {
    Revision::new(config, image)
}

/// What a cluster with four pods does about a rollout, a look a second.
struct Life {
    wish: Wish,
    wanted: Revision,
    record: Record,
    now: i64,
    /// Whether pods come.
    works: bool,
    /// Whether those of the Deployment do.
    rolls: bool,
    told: Vec<(Reason, String)>,
}

const REPLICAS: usize = 4;

/// What an operator that begins anew reads.
fn reread(record: &Record) -> Record {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

impl Life {
    fn new(wish: Wish) -> Self {
        let stable = revision("a", "g:1");
        Self {
            wish,
            wanted: stable.clone(),
            record: Record { proven: true, ..Record::new(stable, None) },
            now: 0,
            works: true,
            rolls: true,
            told: Vec::new(),
        }
    }

    fn look(&mut self, request: Option<&str>) -> Option<Served> {
        self.look_with(Seen { request, confirmed: true, ..Seen::default() })
    }

    /// What was published with the last look is there with this one.
    fn sight<'a>(&self, seen: Seen<'a>) -> Sight<'a> {
        let served = self.record.served().map(|(_, served)| served);
        let ready = served.and_then(|served| served.pods).filter(|_| self.works).unwrap_or(0);
        let promoting = self.record.candidate.as_ref().is_some_and(|candidate| candidate.promoting);
        let (loaded, rolled) = (served.is_some() && self.works, promoting && self.works && self.rolls);
        let is_known = true;
        let is_back = !promoting;
        Sight {
            seen,
            loaded,
            is_kept: loaded,
            ready,
            alive: ready,
            is_known,
            replicas: REPLICAS,
            rolled,
            is_back,
            ..Sight::default()
        }
    }

    fn decide(&self, before: &Record, sight: Sight<'_>) -> Outcome {
        decide(&self.wish, &self.wanted, before, sight, at(self.now))
    }

    fn look_with(&mut self, seen: Seen<'_>) -> Option<Served> {
        self.now += 1;
        let Outcome { record, events, .. } = self.decide(&self.record, self.sight(seen));
        self.record = reread(&record);
        assert_eq!(self.record, record);
        self.told.extend(events.into_iter().map(|event| (event.reason, event.note)));
        self.record.served().map(|(_, served)| served)
    }

    fn percents(&mut self, looks: usize) -> Vec<Option<u8>> {
        let mut all: Vec<_> = (0..looks).map(|_| self.look(None).map(|served| served.percent)).collect();
        all.dedup();
        all
    }

    fn rollback(&self) -> Option<Cause> {
        let candidate = self.record.candidate.as_ref()?;
        candidate.progress.rollback.as_ref().map(|rollback| rollback.reason)
    }
}

#[test]
fn a_candidate_without_a_key_that_was_there_waits_for_it_or_for_somebody() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:1");
    let keyless = Seen { confirmed: true, keyless: Some("provider openai has no key in use"), ..Seen::default() };
    for _ in 0..20 {
        assert_eq!(life.look_with(keyless).unwrap().percent, 0);
    }
    assert_eq!(life.look_with(Seen { request: Some("promote/1"), ..keyless }).unwrap().percent, 10);
    for _ in 0..20 {
        assert_eq!(life.look_with(keyless).unwrap().percent, 10);
    }
    assert_eq!((life.percents(20), life.rollback()), (vec![Some(50)], None));
}

#[test]
fn a_configuration_takes_over_step_by_step_and_waits_where_it_shall() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:1");
    assert_eq!(life.percents(20), [Some(0), Some(10), Some(50)]);
    assert_eq!(life.record.served().unwrap().1.pods, None);
    assert_eq!(life.look(Some("promote/1")).unwrap().percent, 100);
    assert_eq!(life.percents(3), [None]);
    assert_eq!((life.record.stable.config.as_str(), life.record.candidate.is_none()), ("b", true));
    let reasons: Vec<_> = life.told.iter().map(|told| told.0).collect();
    let all = [Reason::StepStarted, Reason::StepStarted, Reason::RequestHandled, Reason::StepStarted, Reason::Promoted];
    assert_eq!(reasons, all);
    // The same request again is known.
    life.look(Some("promote/1"));
    assert_eq!(life.told.len(), all.len());
}

#[test]
fn an_image_has_pods_before_it_has_a_share_and_the_deployment_follows_at_the_end() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    let first = life.look(None).unwrap();
    assert_eq!((first.percent, first.pods), (0, Some(1)), "room for ten percent comes first");
    assert_eq!(life.percents(10).last(), Some(&Some(50)));
    assert_eq!(life.record.image(), "g:1");
    let asked = life.look(Some("promote-full/1")).unwrap();
    assert_eq!((asked.percent, asked.pods), (50, Some(4)), "what was asked for waits for its pods");
    assert!(life.told.iter().all(|told| told.0 != Reason::RequestHandled));
    assert_eq!(life.look(Some("promote-full/1")).unwrap().percent, 100);
    life.works = false;
    assert_eq!(life.percents(5), [Some(100)]);
    life.works = true;
    life.look(None);
    assert_eq!(life.record.image(), "g:2", "the Deployment is on its way");
    assert_eq!(life.record.stable.image, "g:1");
    assert_eq!(life.percents(2), [None]);
    assert_eq!(life.record.stable.image, "g:2");
}

#[test]
fn a_write_that_no_pod_has_confirmed_yet_takes_no_pods_away_and_moves_no_deadline() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    while life.look(None).unwrap().percent < 10 {}
    life.look(None);
    let noted = |record: &Record| record.candidate.as_ref().map(|one| (one.served.unwrap().pods, one.waiting)).unwrap();
    assert_eq!(noted(&life.record), (Some(1), None));
    let look = |life: &mut Life, seen, has: bool| {
        life.now += 1;
        let sight = Sight { ready: usize::from(has), alive: 1, loaded: has, ..life.sight(seen) };
        life.record = life.decide(&life.record, sight).record;
        noted(&life.record)
    };
    let confirmed = Seen { confirmed: true, ..Seen::default() };
    assert_eq!(look(&mut life, Seen::default(), false), (Some(1), None), "its pod is there, whatever it has read");
    let (mut pods, mut since) = (Some(1), None);
    while pods == Some(1) {
        (pods, since) = look(&mut life, confirmed, true);
    }
    assert!(pods == Some(2) && since.is_some(), "room for half of the users");
    assert_eq!(look(&mut life, Seen::default(), false), (pods, since));
    assert_eq!(look(&mut life, confirmed, true), (pods, since));
}

#[test]
fn an_image_whose_pods_are_not_reached_any_more_has_its_time_also_after_a_step_was_confirmed() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    while life.look(None).unwrap().percent < 10 {}
    life.look(None);
    for _ in 0..61 {
        life.now += 1;
        let there = life.sight(Seen::default());
        let sight = Sight { loaded: false, is_kept: false, ready: 0, ..there };
        life.record = life.decide(&life.record, sight).record;
    }
    assert_eq!(life.rollback(), Some(Cause::ProgressDeadlineExceeded));
}

#[test]
fn fewer_replicas_ask_for_no_room() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    assert_eq!(life.percents(20).last(), Some(&Some(50)));
    assert_eq!(life.record.served().unwrap().1.pods, Some(2), "half of four, until somebody promotes");
    life.now += 1;
    let sight = Sight { replicas: 2, ..life.sight(Seen { confirmed: true, ..Seen::default() }) };
    let served = life.decide(&life.record, sight).record.served().unwrap().1;
    assert_eq!((served.pods, served.room), (Some(1), None));
}

#[test]
fn a_candidate_that_never_gets_ready_is_taken_back_at_the_deadline_and_can_be_tried_again() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:2");
    life.works = false;
    assert_eq!(life.percents(60), [Some(0)]);
    assert_eq!(life.percents(30), [None]);
    assert_eq!(life.rollback(), Some(Cause::ProgressDeadlineExceeded));
    let (reason, note) = life.told.last().unwrap();
    assert_eq!(*reason, Reason::CandidateFailed);
    assert!(note.ends_with(": 0 of the 1 pods that the candidate needs were ready and held it within 60s"), "{note}");
    life.works = true;
    assert_eq!(
        life.look(Some("retry/1")).unwrap().percent,
        0,
        "of what was taken out there is nothing to give a share to"
    );
    assert_eq!(life.percents(20).last(), Some(&Some(50)));
}

#[test]
fn a_configuration_that_is_never_confirmed_is_taken_back_at_the_deadline_and_the_stable_one_goes_on() {
    let missing = "not every pod confirmed the candidate within 60s";
    for (confirmed, way) in [(0, missing.to_owned()), (6, format!("10 % → the stable revision: {missing}"))] {
        let mut life = Life::new(canary());
        life.wanted = revision("b", "g:1");
        let stable = life.record.stable.clone();
        life.percents(confirmed);
        life.works = false;
        let unconfirmed = Seen::default();
        let last = life.look_with(unconfirmed);
        assert_eq!(last.map(|served| served.percent), Some(if confirmed > 0 { 10 } else { 0 }));
        let since = life.record.candidate.as_ref().unwrap().waiting.unwrap().as_second();
        while life.now < since + 59 {
            assert_eq!(life.look_with(unconfirmed), last, "it has its time");
        }
        assert_eq!(life.look_with(unconfirmed), None);
        assert_eq!(life.rollback(), Some(Cause::ProgressDeadlineExceeded));
        let (reason, note) = life.told.last().unwrap();
        assert_eq!((*reason, note.clone()), (Reason::CandidateFailed, format!("rollout of {}: {way}", life.wanted.id)));
        assert_eq!((&life.record.stable, life.record.image(), life.record.proven), (&stable, "g:1", true));
    }
}

#[test]
fn a_deployment_that_does_not_roll_after_the_promotion_is_taken_back_at_the_deadline() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    life.rolls = false;
    let mut asked = 0;
    while life.record.image() == "g:1" {
        asked += 1;
        assert!(asked < 20, "it is never promoted");
        life.look(Some("promote-full/1"));
    }
    let began = life.now;
    let everything = Served { percent: 100, preview: false, pods: Some(REPLICAS), room: None };
    while life.now < began + 60 {
        assert_eq!(life.look(None), Some(everything), "the candidate's pods serve on meanwhile");
        assert_eq!((life.record.image(), life.record.stable.image.as_str()), ("g:2", "g:1"));
    }
    assert_eq!(life.look(None), None);
    assert_eq!(life.rollback(), Some(Cause::ProgressDeadlineExceeded));
    let (reason, note) = life.told.last().unwrap();
    assert_eq!(*reason, Reason::CandidateFailed);
    let missing = "100 % → the stable revision: the Deployment was not rolled to the candidate's image within 60s";
    assert!(note.ends_with(missing), "{note}");
    assert_eq!((life.record.image(), life.record.stable.image.as_str()), ("g:1", "g:1"));
    // It stays so, also once it could be rolled.
    life.rolls = true;
    assert_eq!(life.percents(30), [None]);
}

#[test]
fn of_three_revisions_the_first_stays_stable_and_the_last_is_the_candidate() {
    let mut life = Life::new(canary());
    for config in ["b", "c"] {
        life.wanted = revision(config, "g:1");
        assert_eq!(life.percents(20).last(), Some(&Some(50)));
    }
    life.wanted = revision("d", "g:1");
    assert_eq!(life.look(None).unwrap().percent, 0, "it begins at the beginning");
    assert_eq!(life.record.candidate.as_ref().unwrap().revision.config, "d");
    assert_eq!(life.record.stable.config, "a");
    life.wanted = revision("a", "g:1");
    assert_eq!(life.look(None), None, "back at once");
    assert!(life.record.candidate.is_none());
}

#[test]
fn a_preview_comes_before_the_switch_and_a_watch_after_it() {
    let mut life = Life::new(blue_green());
    life.wanted = revision("b", "g:1");
    assert_eq!(life.percents(20), [Some(0)]);
    assert!(life.record.served().unwrap().1.preview);
    let switched = life.look(Some("promote/1")).unwrap();
    assert_eq!((switched.percent, switched.preview), (100, false));
    assert_eq!(life.percents(10), [Some(100), None]);
    assert_eq!(life.record.stable.config, "b");
}

#[test]
fn a_request_is_pinned_to_the_candidate_and_without_one_refused() {
    let mut life = Life::new(canary());
    life.look(Some("promote/1"));
    assert_eq!(life.told.pop().unwrap().0, Reason::RequestRefused);
    life.wanted = revision("b", "g:1");
    life.percents(20);
    life.look(Some("promote/2@another"));
    assert_eq!(life.told.pop().unwrap().0, Reason::RequestRefused);
    let pinned = format!("abort/3@{}", life.wanted.id);
    assert_eq!(life.look(Some(&pinned)), None);
    assert_eq!((life.rollback(), life.record.stable.config.as_str()), (Some(Cause::Aborted), "a"));
}

#[test]
fn a_failed_analysis_takes_the_candidate_back_also_while_the_spec_is_held() {
    let spec = json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "hold": "1h"}]}, "analysis": {}});
    let failed = Judged { verdict: Verdict::Fail, action: Some(Action::Rollback), reason: "worse".into() };
    let seen = Seen { confirmed: true, judged: Some(&failed), ..Seen::default() };
    let mut life = Life::new(wish(spec));
    life.wanted = revision("b", "g:1");
    life.percents(5);
    let sight = Sight { seen, replicas: REPLICAS, ..Sight::default() };
    let held = hold(Some(&life.wish), Some(&life.wanted), &life.record, sight, at(life.now + 1));
    assert_eq!(held.record.served(), None);
    assert_eq!(held.events[0].reason, Reason::CandidateFailed);
    assert_eq!(life.look_with(seen), None);
    assert_eq!(life.rollback(), Some(Cause::AnalysisFailed));
}

#[test]
fn while_the_spec_is_held_nothing_rises_and_the_stable_revision_is_gone_back_to() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:2");
    life.percents(4);
    let sight =
        Sight { seen: Seen { request: Some("promote/1"), confirmed: true, ..Seen::default() }, ..Sight::default() };
    let held = hold(Some(&life.wish), Some(&revision("c", "g:3")), &life.record, sight, at(9));
    assert_eq!(held.record.served(), life.record.served());
    assert_eq!(held.events[0].reason, Reason::RequestRefused);
    let back = hold(Some(&life.wish), Some(&life.record.stable), &life.record, sight, at(9));
    assert!(back.record.candidate.is_none());
}

#[test]
fn a_share_has_its_part_of_the_pods_and_at_least_one() {
    assert_eq!([size(4, 0), size(4, 1), size(4, 50), size(4, 51), size(4, 100)], [1, 1, 2, 3, 4]);
    assert_eq!(size(1000, 100), 1000);
}

#[test]
fn pods_that_go_away_in_mid_step_are_waited_for_until_the_deadline() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:2");
    assert_eq!(life.percents(20).last(), Some(&Some(50)));
    life.works = false;
    assert_eq!(life.percents(90), [Some(50), None]);
    assert_eq!(life.rollback(), Some(Cause::ProgressDeadlineExceeded));
}

#[test]
fn an_operator_that_knows_nothing_yet_takes_nothing_back() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:2");
    life.works = false;
    life.percents(10);
    let sight = Sight { replicas: REPLICAS, ..Sight::default() };
    let Outcome { record, .. } = decide(&life.wish, &life.wanted, &life.record, sight, at(9_000));
    assert_eq!(record.candidate.unwrap().waiting, Some(at(9_000)), "it is given its time anew");
    // What waits for nobody goes on doing so, or its status would say for a moment that pods are missing.
    life.works = true;
    life.record.candidate = None;
    assert_eq!(life.percents(20).last(), Some(&Some(50)));
    let unasked = Sight { loaded: false, ready: 0, is_known: false, ..life.sight(Seen::default()) };
    assert_eq!(life.decide(&life.record, unasked).record, life.record);
}

#[test]
fn what_was_taken_back_stays_so_while_there_are_no_pods() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:1");
    life.percents(20);
    life.look(Some("abort/1"));
    let none = Sight { replicas: 0, ..Sight::default() };
    let Outcome { record, .. } = decide(&life.wish, &life.wanted, &life.record, none, at(50));
    assert_eq!((record.stable.config.as_str(), record.served()), ("a", None));
    life.record = record;
    assert_eq!(life.percents(20), [None]);
}

#[test]
fn a_stable_revision_that_never_worked_is_replaced_at_once() {
    let mut life = Life::new(canary());
    life.record.proven = false;
    life.wanted = revision("b", "g:2");
    let sight = Sight { replicas: REPLICAS, is_known: true, ..Sight::default() };
    let Outcome { record, .. } = decide(&life.wish, &life.wanted, &life.record, sight, at(1));
    assert_eq!((record.stable, record.candidate, record.proven), (life.wanted.clone(), None, false));
    // An operator that has asked no pod yet does not know that.
    let Outcome { record, .. } =
        decide(&life.wish, &life.wanted, &life.record, Sight { is_known: false, ..sight }, at(1));
    assert_eq!(record.candidate.map(|candidate| candidate.revision), Some(life.wanted.clone()));
}

#[test]
fn a_deployment_on_its_way_comes_back_when_its_candidate_is_taken_back() {
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    life.percents(10);
    for _ in 0..5 {
        if life.record.image() == "g:1" {
            life.look(Some("promote-full/1"));
        }
    }
    assert_eq!((life.record.image(), life.record.stable.image.as_str()), ("g:2", "g:1"));
    let request = Some("abort/2");
    let sight = Sight { seen: Seen { request, confirmed: true, ..Seen::default() }, ..Sight::default() };
    let held = hold(Some(&life.wish), Some(&life.wanted), &life.record, sight, at(90)).record;
    assert_eq!((held.image(), held.returning), ("g:1", true));
    let known = Sight { replicas: REPLICAS, is_known: true, ..sight };
    let followed = decide(&life.wish, &life.wanted, &life.record, known, at(90)).record;
    assert_eq!((followed.image(), followed.returning), ("g:1", true), "also where the spec is followed");
    let settled = decide(&life.wish, &life.record.stable, &life.record, known, at(90)).record;
    assert!(settled.returning && settled.candidate.is_none());
    let there = decide(&life.wish, &life.wanted, &followed, Sight { is_back: true, ..known }, at(91)).record;
    assert!(!there.returning);
    let back = hold(Some(&life.wish), Some(&held.stable), &life.record, sight, at(90)).record;
    assert!(back.returning && back.candidate.is_none());
    let there = hold(Some(&life.wish), Some(&life.wanted), &held, Sight { is_back: true, ..sight }, at(91)).record;
    assert!(!there.returning);
}
