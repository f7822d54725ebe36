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
