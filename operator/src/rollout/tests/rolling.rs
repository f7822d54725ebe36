//! Revisions that take over without being tried.

use super::*;

#[test]
fn under_rolling_and_without_pods_a_revision_takes_over_at_once() {
    let mut life = Life::new(wish(json!({})));
    life.wanted = revision("b", "g:2");
    assert_eq!((life.look(None), life.record.stable.clone()), (None, life.wanted.clone()));
    let none = Sight { replicas: 0, ..Sight::default() };
    let Outcome { record, .. } = decide(&canary(), &revision("c", "g:2"), &life.record, none, at(9));
    assert_eq!(record.stable.config, "c");
}

#[test]
fn a_candidate_that_nothing_tries_any_more_takes_over_and_that_is_told() {
    let mut life = Life::new(canary());
    life.wanted = revision("b", "g:1");
    life.percents(10);
    life.look(Some("abort/1"));
    life.told.clear();
    life.wish = wish(json!({"strategy": "Rolling"}));
    life.look(None);
    assert_eq!((&life.record.stable, &life.record.candidate), (&life.wanted, &None));
    assert_eq!(life.told.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [Reason::Promoted]);
}

#[test]
fn under_rolling_the_image_before_is_known_until_all_pods_run_the_new_one() {
    let mut life = Life::new(wish(json!({"strategy": "Rolling"})));
    for image in ["g:nonsuch", "g:nonsuch2"] {
        life.wanted = revision("a", image);
        life.look(None);
        assert_eq!((life.record.image(), life.record.ran.as_deref()), (image, Some("g:1")));
    }
    let sight = Sight { runs_stable: true, ..life.sight(Seen::default()) };
    assert_eq!(life.decide(&life.record, sight).record.ran, None);
    let mut life = Life::new(canary());
    life.wanted = revision("a", "g:2");
    life.percents(20);
    for _ in 0..20 {
        life.look(Some("promote-full/1"));
    }
    assert!(life.record.candidate.is_none());
    assert_eq!((life.record.image(), life.record.ran.as_deref()), ("g:2", None), "all ran it before it took over");
}

/// A Deployment that is on its way to an image that does not exist, from the first one, under a canary by now.
fn stuck() -> Life {
    let mut life = Life::new(wish(json!({"strategy": "Rolling"})));
    life.wanted = revision("a", "g:nonsuch");
    life.look(None);
    life.wish = canary();
    life
}

#[test]
fn another_configuration_in_the_pods_that_there_are_says_nothing_of_an_image() {
    let mut life = stuck();
    life.wanted = revision("b", "g:nonsuch");
    life.percents(20);
    for _ in 0..20 {
        life.look(Some("promote-full/1"));
    }
    assert_eq!((&life.record.stable, &life.record.candidate), (&life.wanted, &None));
    assert_eq!(life.record.ran.as_deref(), Some("g:1"));
}

#[test]
fn back_at_the_image_that_ran_nothing_is_tried() {
    let mut life = stuck();
    life.wanted = revision("a", "g:1");
    life.look(None);
    assert_eq!((&life.record.stable, &life.record.candidate), (&life.wanted, &None));
}

#[test]
fn that_all_pods_run_it_is_seen_also_while_the_spec_is_held() {
    let life = stuck();
    let sight = Sight { runs_stable: true, ..life.sight(Seen::default()) };
    let held = hold(Some(&life.wish), Some(&life.wanted), &life.record, sight, at(9)).record;
    assert_eq!((held.image(), held.ran.as_deref()), ("g:nonsuch", None));
}
