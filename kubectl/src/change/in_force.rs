//! Whether a generation of the spec is in force, by what the status says of it. Pure.

use bifrost_crds::conditions::{ACCEPTED, PROGRAMMED};
use bifrost_crds::{BifrostGateway, MigrationPhase, RolloutStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::standing::{Standing, Subject};

/// Where a change wants the migration to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Wherever it is: the change moves nothing by itself.
    Any,
    /// This percent of the users takes the bifrost arm.
    Percent(u8),
    /// This phase of a gradual migration.
    Phase(String),
    /// This revision, as the stable one or as a candidate.
    Revision(String),
}

/// What the status says of a generation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InForce {
    /// Every ready pod has confirmed it; what else is to be said.
    Yes(String),
    /// It was written and is held: what is in force in its place, why, and what lets it go on.
    Held(String),
    /// It was refused.
    Never(String),
}

/// What the status says of a generation; none while it says nothing yet.
pub(super) fn in_force(gateway: &BifrostGateway, generation: i64, subject: Subject, goal: &Goal) -> Option<InForce> {
    let is_there = is_there(gateway, goal);
    let accepted = condition(gateway, ACCEPTED, generation);
    let refused = accepted.filter(|condition| condition.status == "False").map(|condition| condition.message.as_str());
    match (refused, goal) {
        (Some(why), Goal::Any) => return Some(InForce::Never(why.to_owned())),
        (Some(why), Goal::Revision(_)) if !is_there => return Some(InForce::Never(why.to_owned())),
        (Some(why), _) if !is_there => {
            let why = format!("the operator does not accept the spec: {why}; it goes on once that is mended");
            return Some(InForce::Held(held(gateway, goal, &why)));
        }
        _ => {}
    }
    // What takes away is in force also while the rest of the spec is held.
    let programmed = condition(gateway, PROGRAMMED, generation)?;
    if programmed.status != "True" {
        return None;
    }
    if !is_there && let Some(why) = held_by(gateway, goal) {
        return Some(InForce::Held(held(gateway, goal, &why)));
    }
    let place = Some(subject.standing(gateway).describe()).filter(|place| !place.is_empty());
    let mut text = place.map_or_else(String::new, |place| format!(": {place}"));
    if gateway.spec.paused {
        text.push_str("; spec.paused holds back what adds, `kubectl bifrost resume` lets it go on");
    }
    if let Some(why) = refused {
        text.push_str(&format!("; but the operator does not accept the spec: {why}"));
    }
    Some(InForce::Yes(text))
}

/// Whether the migration is where the change wants it.
fn is_there(gateway: &BifrostGateway, goal: &Goal) -> bool {
    match goal {
        Goal::Any => true,
        Goal::Percent(percent) => wanted_percent(gateway) == Some(i32::from(*percent)),
        Goal::Phase(phase) => Subject::Migration.standing(gateway).step() == Some(phase),
        Goal::Revision(id) => rollout(gateway).is_some_and(|rollout| {
            [&rollout.stable_revision, &rollout.candidate_revision].into_iter().flatten().any(|known| known == id)
        }),
    }
}

fn rollout(gateway: &BifrostGateway) -> Option<&RolloutStatus> {
    gateway.status.as_ref()?.rollout.as_ref()
}

fn wanted_percent(gateway: &BifrostGateway) -> Option<i32> {
    gateway.status.as_ref()?.traffic.as_ref()?.wanted_percent
}

/// Why an accepted spec does not come to its goal, with the commands that let it; none where it is on its way.
fn held_by(gateway: &BifrostGateway, goal: &Goal) -> Option<String> {
    let command = |verb: &str| {
        format!("`kubectl bifrost {verb} {} -n {}`", gateway.name_any(), gateway.namespace().unwrap_or_default())
    };
    let standing = Subject::Migration.standing(gateway);
    let (resume, retry) = (command("resume"), command("retry"));
    // A change of spec.config or spec.image ends the rollback of a candidate; that of a migration is not in its way.
    let rolled_back = rolled_back(&standing).filter(|_| !matches!(goal, Goal::Revision(_)));
    match (rolled_back, gateway.spec.paused) {
        // Nothing that rises is asked for while it is paused.
        (Some(why), true) => Some(format!("{why}, and spec.paused holds back what adds: {resume}, then {retry}")),
        (Some(why), false) => Some(format!("{why}: {retry} lets it go on")),
        (None, true) => Some(format!("spec.paused holds back what adds: {resume} lets it go on")),
        (None, false) => None,
    }
}

fn rolled_back(standing: &Standing) -> Option<String> {
    if standing.phase != Some(MigrationPhase::RolledBack) {
        return None;
    }
    let Some(rollback) = &standing.rollback else { return Some("the migration was rolled back".to_owned()) };
    let again =
        rollback.retry_at.as_ref().map_or_else(String::new, |at| format!(", and is tried again by itself at {}", at.0));
    let (from, reason, message) = (&rollback.from, &rollback.reason, &rollback.message);
    Some(format!("the migration was rolled back from {from} ({reason}: {message}){again}"))
}

/// What is in force in place of what was written.
fn held(gateway: &BifrostGateway, goal: &Goal, why: &str) -> String {
    let stable = rollout(gateway).and_then(|rollout| rollout.stable_revision.as_ref());
    let stable = stable.filter(|_| matches!(goal, Goal::Revision(_)));
    let place = match (stable, wanted_percent(gateway), Subject::Migration.standing(gateway).step()) {
        (Some(stable), ..) => format!("revision {stable} is the stable one"),
        (None, Some(percent), _) => format!("{percent} % of the users take the bifrost arm"),
        (None, None, Some(step)) => format!("{step} is in force"),
        (None, None, None) => "what was in force before stays".to_owned(),
    };
    format!("{place}, as {why}")
}

fn condition<'a>(gateway: &'a BifrostGateway, type_: &str, generation: i64) -> Option<&'a Condition> {
    let conditions = &gateway.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    (found.observed_generation? >= generation).then_some(found)
}

/// Why the newest generation is not in force yet.
pub(super) fn not_yet(gateway: &BifrostGateway) -> String {
    let generation = gateway.metadata.generation.unwrap_or(0);
    match condition(gateway, PROGRAMMED, generation) {
        Some(condition) => condition.message.clone(),
        None => "the operator has not looked at it; is it running, and does it serve this namespace?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{gateway, rolled_back as after_a_rollback, rolling_out};

    fn refuse(gateway: &mut BifrostGateway) {
        let conditions = &mut gateway.status.as_mut().unwrap().conditions;
        let accepted = conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED).unwrap();
        accepted.status = "False".into();
        accepted.message = "spec.config.providers[0].baseURL: no".into();
    }

    /// What is said of the newest generation. The gateway is at 25 %.
    fn said(gateway: &BifrostGateway, goal: &Goal) -> InForce {
        in_force(gateway, gateway.metadata.generation.unwrap(), Subject::Migration, goal).unwrap()
    }

    fn held(gateway: &BifrostGateway, goal: &Goal) -> String {
        match said(gateway, goal) {
            InForce::Held(why) => why,
            other => panic!("not held: {other:?}"),
        }
    }

    #[test]
    fn an_older_confirmation_is_none() {
        let gateway = gateway();
        let generation = gateway.metadata.generation.unwrap();
        let at = |generation| in_force(&gateway, generation, Subject::Migration, &Goal::Any);
        assert!(matches!(at(generation), Some(InForce::Yes(_))));
        assert_eq!(at(generation + 1), None);
        assert!(!not_yet(&gateway).is_empty());
    }

    #[test]
    fn a_spec_that_is_not_accepted_is_not_waited_for() {
        let mut gateway = gateway();
        refuse(&mut gateway);
        assert_eq!(said(&gateway, &Goal::Any), InForce::Never("spec.config.providers[0].baseURL: no".into()));
        insta::assert_snapshot!(held(&gateway, &Goal::Percent(50)), @"25 % of the users take the bifrost arm, as the operator does not accept the spec: spec.config.providers[0].baseURL: no; it goes on once that is mended");
    }

    #[test]
    fn a_paused_gateway_says_what_it_holds_back() {
        let mut gateway = gateway();
        gateway.spec.paused = true;
        let InForce::Yes(text) = said(&gateway, &Goal::Any) else { panic!("not in force") };
        assert!(text.contains("kubectl bifrost resume"), "{text}");
        insta::assert_snapshot!(held(&gateway, &Goal::Percent(50)), @"25 % of the users take the bifrost arm, as spec.paused holds back what adds: `kubectl bifrost resume ai -n llm` lets it go on");
    }

    #[test]
    fn what_takes_away_is_in_force_whatever_holds_the_rest() {
        let mut gateway = gateway();
        gateway.spec.paused = true;
        assert!(matches!(said(&gateway, &Goal::Percent(25)), InForce::Yes(_)));
        gateway.spec.paused = false;
        refuse(&mut gateway);
        let InForce::Yes(text) = said(&gateway, &Goal::Percent(25)) else { panic!("not in force") };
        assert!(text.contains("does not accept the spec: spec.config"), "{text}");
        let rolled_back = after_a_rollback();
        assert!(matches!(said(&rolled_back, &Goal::Percent(0)), InForce::Yes(_)));
    }

    #[test]
    fn after_a_rollback_what_is_in_force_is_told_with_the_way_on() {
        let mut gateway = after_a_rollback();
        insta::assert_snapshot!(held(&gateway, &Goal::Percent(25)), @"0 % of the users take the bifrost arm, as the migration was rolled back from 25 % (Aborted: somebody asked for abort): `kubectl bifrost retry ai -n llm` lets it go on");
        gateway.spec.paused = true;
        let why = held(&gateway, &Goal::Phase("chat".to_owned()));
        assert!(why.ends_with("`kubectl bifrost resume ai -n llm`, then `kubectl bifrost retry ai -n llm`"), "{why}");
    }

    #[test]
    fn what_is_tried_again_by_itself_says_when() {
        let mut gateway = after_a_rollback();
        let migration = gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
        let at = "2026-03-02T10:05:12Z".parse().unwrap();
        migration.rollback.as_mut().unwrap().retry_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        let why = held(&gateway, &Goal::Percent(25));
        assert!(why.contains(", and is tried again by itself at 2026-03-02T10:05:12Z: "), "{why}");
    }

    #[test]
    fn what_is_on_its_way_is_not_held() {
        assert!(matches!(said(&gateway(), &Goal::Percent(100)), InForce::Yes(_)));
        let mut gateway = gateway();
        let migration = gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
        migration.step = Some("internal".into());
        assert!(matches!(said(&gateway, &Goal::Phase("chat".to_owned())), InForce::Yes(_)));
        gateway.spec.paused = true;
        assert!(matches!(said(&gateway, &Goal::Phase("internal".to_owned())), InForce::Yes(_)));
        gateway.status.as_mut().unwrap().traffic.as_mut().unwrap().wanted_percent = None;
        let why = held(&gateway, &Goal::Phase("chat".to_owned()));
        assert!(why.starts_with("internal is in force, as spec.paused"), "{why}");
    }

    #[test]
    fn a_revision_that_is_held_is_told() {
        let mut gateway = rolling_out();
        let to = |id: &str| Goal::Revision(id.to_owned());
        assert!(matches!(said(&gateway, &to("77aa00bb11")), InForce::Yes(_)), "under another name");
        gateway.spec.paused = true;
        for there in ["3f2a9c1e07", "9b1c2d3e4f"] {
            assert!(matches!(said(&gateway, &to(there)), InForce::Yes(_)), "{there}");
        }
        insta::assert_snapshot!(held(&gateway, &to("77aa00bb11")), @"revision 3f2a9c1e07 is the stable one, as spec.paused holds back what adds: `kubectl bifrost resume ai -n llm` lets it go on");
        refuse(&mut gateway);
        assert!(matches!(said(&gateway, &to("77aa00bb11")), InForce::Never(_)));
    }
}
