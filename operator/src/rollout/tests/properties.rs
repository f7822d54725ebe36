//! Properties of rollouts, over lives that nobody thought of.

use bifrost_analysis::{Action, Verdict};
use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy as Generator};
use proptest::test_runner::TestCaseError;

use super::{Life, REPLICAS, at, blue_green, canary, reread, revision};
use crate::migration::progress::{Cause, Progress};
use crate::migration::{Judged, Seen};
use crate::rollout::hold::hold;
use crate::rollout::record::{Candidate, Record};
use crate::rollout::{Served, Sight, size};

/// Something that happens between two looks.
#[derive(Debug, Clone)]
enum Happens {
    Nothing,
    Waits(i64),
    Wants(u8, u8),
    Asks(&'static str),
    Fails,
    Breaks(bool),
    Held,
}

fn happens() -> impl Generator<Value = Happens> {
    let verbs = ["promote", "promote-full", "abort", "retry", "restart"];
    prop_oneof![
        4 => Just(Happens::Nothing),
        2 => (1i64..90).prop_map(Happens::Waits),
        2 => (0u8..3, 0u8..2).prop_map(|(config, image)| Happens::Wants(config, image)),
        2 => (0..verbs.len()).prop_map(move |verb| Happens::Asks(verbs[verb])),
        1 => Just(Happens::Fails),
        1 => any::<bool>().prop_map(Happens::Breaks),
        1 => Just(Happens::Held),
    ]
}

/// The same look again: by an operator that ended before anything was written, and by one that ended after it.
fn check_again(before: &Record, life: &Life, seen: Seen<'_>) -> Result<(), TestCaseError> {
    let first = Life {
        record: before.clone(),
        told: Vec::new(),
        wish: life.wish.clone(),
        wanted: life.wanted.clone(),
        ..*life
    };
    let sight = first.sight(seen);
    let outcome = first.decide(before, sight);
    prop_assert_eq!(&outcome, &first.decide(before, sight), "the same inputs, the same output");
    prop_assert_eq!(&outcome.record, &life.record);

    let is_written = life.record != *before;
    let share =
        |record: &Record| record.served().map(|(revision, served)| (revision.clone(), served.percent, served.preview));
    let watched = |record: &Record| record.candidate.as_ref().and_then(|candidate| candidate.progress.watched);
    // With a watch that begins only now a failure of the same share counts at the next look, which is another.
    let begins = watched(&life.record).is_some() && watched(&life.record) != watched(before);
    let is_counted_on = share(&life.record) == share(before) && !begins;
    // Pods have yet to act upon what was written, and what they counted is told only of the share that began with it.
    // One that waits for room is handled or refused at a later look.
    let is_handled = |request: &&str| life.record.requests().had(request);
    let left = Seen {
        confirmed: seen.confirmed && !is_written,
        judged: seen.judged.filter(|_| is_counted_on),
        request: seen.request.filter(is_handled),
        ..seen
    };
    let (loaded, ready) = if is_written { (false, 0) } else { (sight.loaded, sight.ready) };
    let left = Sight { seen: left, loaded, ready, ..sight };
    let again = first.decide(&life.record, left);
    prop_assert!(again.events.is_empty(), "{:?}", again.events);
    prop_assert_eq!(&but_for_waits(&again.record), &but_for_waits(&life.record));
    // Since when pods are waited for, or watched, and for how many there is to be room, is all that is noted, and once.
    let at_last = first.decide(&reread(&again.record), left);
    prop_assert_eq!(at_last.record, again.record);
    Ok(())
}

fn but_for_waits(record: &Record) -> Record {
    let candidate = record.candidate.clone().map(|candidate| Candidate {
        waiting: None,
        progress: Progress { watched: None, ..candidate.progress },
        served: candidate.served.map(|served| Served { pods: served.pods.map(|_| 1), room: None, ..served }),
        ..candidate
    });
    Record { candidate, ..record.clone() }
}

/// A candidate can be taken back from everywhere, whether the spec is followed or held.
fn check_abort(life: &Life) -> Result<(), TestCaseError> {
    if life.record.candidate.is_none() {
        return Ok(());
    }
    let sight = life.sight(Seen { request: Some("abort/now"), confirmed: true, ..Seen::default() });
    let held = hold(Some(&life.wish), Some(&life.wanted), &life.record, sight, at(life.now));
    for outcome in [life.decide(&life.record, sight), held] {
        prop_assert_eq!((outcome.record.served(), outcome.record.image()), (None, life.record.stable.image.as_str()));
        prop_assert_eq!(&outcome.record.stable, &life.record.stable);
        let rollback = outcome.record.candidate.and_then(|candidate| candidate.progress.rollback);
        prop_assert_eq!(rollback.map(|rollback| rollback.reason), Some(Cause::Aborted));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_share_never_rises_without_room_and_the_stable_revision_changes_only_by_a_promotion(
        all in proptest::collection::vec(happens(), 1..60),
        is_canary in any::<bool>(),
    ) {
        let mut life = Life::new(if is_canary { canary() } else { blue_green() });
        let failed = Judged { verdict: Verdict::Fail, action: Some(Action::Rollback), reason: "worse".into() };
        for (number, one) in all.into_iter().enumerate() {
            let before = life.record.clone();
            let asked;
            let mut seen = Seen { confirmed: true, ..Seen::default() };
            match one {
                Happens::Nothing => {}
                Happens::Waits(seconds) => life.now += seconds,
                Happens::Wants(config, image) => life.wanted = revision(&config.to_string(), &format!("g:{image}")),
                Happens::Asks(verb) => {
                    asked = format!("{verb}/{number}");
                    seen.request = Some(&asked);
                }
                Happens::Fails => seen.judged = Some(&failed),
                Happens::Breaks(works) => life.works = works,
                Happens::Held => {
                    let sight = Sight { seen, ..Sight::default() };
                    let held = hold(Some(&life.wish), Some(&life.wanted), &before, sight, at(life.now));
                    let percent = |record: &Record| record.served().map_or(0, |(_, served)| served.percent);
                    prop_assert!(percent(&held.record) <= percent(&before));
                    prop_assert_eq!(&held.record.stable, &before.stable);
                    life.record = held.record;
                    continue;
                }
            }
            let after = life.look_with(seen);
            check_again(&before, &life, seen)?;
            check_abort(&life)?;
            let served = before.served().map(|(_, served)| served);
            let same = before.candidate.as_ref().map(|one| &one.revision) == life.record.candidate.as_ref().map(|one| &one.revision);
            if let Some(after) = after {
                let (was, ready) = (served.filter(|_| same), served.and_then(|served| served.pods).unwrap_or(0));
                let rises = after.percent > was.map_or(0, |was| was.percent);
                prop_assert!(!rises || (was.is_some() && life.works), "{was:?} → {after:?}");
                let needed = after.pods.map_or(0, |_| size(REPLICAS, after.percent));
                prop_assert!(!rises || ready >= needed, "{ready} of {needed}");
                prop_assert!(after.pods.is_none_or(|pods| pods <= REPLICAS));
                let candidate = life.record.candidate.as_ref().unwrap();
                prop_assert_eq!(&candidate.revision, &life.wanted);
            }
            if life.record.stable != before.stable {
                prop_assert_eq!(served.map(|served| served.percent), Some(100));
                prop_assert_eq!(&life.record.stable, &life.wanted);
            }
            if life.wanted == before.stable {
                prop_assert!(after.is_none() && life.record.candidate.is_none());
            }
        }
        // Whatever happened, a candidate that can be served gets there once somebody wants it.
        life.works = true;
        life.wanted = revision("new", "g:9");
        for number in 0..80 {
            let request = format!("promote/end-{number}");
            life.look(Some(&request));
        }
        prop_assert_eq!(&life.record.stable, &life.wanted);
    }
}
