//! Which part of the checklist fits where the migration is. Pure.

use bifrost_crds::{BifrostGateway, MigrationPhase};

use crate::cli::Phase;
use crate::standing::Subject;

/// The part, and why.
pub(super) fn fitting(gateway: &BifrostGateway) -> (Phase, String) {
    let standing = Subject::Migration.standing(gateway);
    let traffic = gateway.status.as_ref().and_then(|status| status.traffic.as_ref());
    let Some(traffic) = traffic else { return (Phase::Before, "nothing is published yet".to_owned()) };
    if standing.phase == Some(MigrationPhase::RolledBack) {
        return (Phase::During, "the migration was rolled back".to_owned());
    }
    // A pause holds back what adds, and at the end nothing is left to add.
    let is_settled = standing.phase == Some(MigrationPhase::Completed) || gateway.spec.paused;
    match traffic.wanted_percent {
        Some(0) => (Phase::Before, "nothing takes the bifrost arm yet".to_owned()),
        Some(100) if is_settled => (Phase::After, "everything takes the bifrost arm".to_owned()),
        Some(percent) => (Phase::During, format!("{percent} % of the users take the bifrost arm")),
        None => {
            let phases = gateway.spec.migration.gradual.as_ref().map(|gradual| gradual.phases.as_slice());
            let last = phases.and_then(<[_]>::last).map(|phase| phase.name.as_str());
            match standing.step() {
                Some(step) if is_settled && Some(step) == last => {
                    (Phase::After, format!("{step}, the last phase, is in force"))
                }
                Some(step) => (Phase::During, format!("phase {step} of the migration is in force")),
                None => (Phase::During, "rules give a part to the bifrost arm".to_owned()),
            }
        }
    }
}

/// As the option spells it.
pub(super) const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "before",
        Phase::During => "during",
        Phase::After => "after",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{gateway, rolled_back, rolling_out};

    /// At this share, in this phase of its migration.
    fn at(percent: Option<i32>, phase: MigrationPhase) -> BifrostGateway {
        let mut gateway = gateway();
        let status = gateway.status.as_mut().unwrap();
        status.traffic.as_mut().unwrap().wanted_percent = percent;
        status.migration.as_mut().unwrap().phase = Some(phase);
        gateway
    }

    #[test]
    fn the_part_follows_the_share() {
        let fitting = |percent, phase| super::fitting(&at(Some(percent), phase)).0;
        assert_eq!(fitting(0, MigrationPhase::Completed), Phase::Before);
        assert_eq!(fitting(25, MigrationPhase::Completed), Phase::During, "by hand");
        assert_eq!(fitting(25, MigrationPhase::Progressing), Phase::During);
        assert_eq!(fitting(100, MigrationPhase::Progressing), Phase::During, "the last step is watched");
        assert_eq!(fitting(100, MigrationPhase::Completed), Phase::After);
        assert_eq!(super::fitting(&rolling_out()).0, Phase::After, "a candidate is no migration");
        let mut paused = at(Some(100), MigrationPhase::Paused);
        paused.spec.paused = true;
        assert_eq!(super::fitting(&paused).0, Phase::After);
    }

    #[test]
    fn a_rollback_is_no_beginning() {
        assert_eq!(fitting(&rolled_back()), (Phase::During, "the migration was rolled back".to_owned()));
        let mut unseen = gateway();
        unseen.status = None;
        assert_eq!(fitting(&unseen), (Phase::Before, "nothing is published yet".to_owned()));
    }

    #[test]
    fn of_rules_the_last_phase_is_the_end() {
        let at = |step: &str| {
            let mut gateway = at(None, MigrationPhase::Completed);
            let migration = "{strategy: Gradual, gradual: {phases: [{name: a, rules: []}, {name: b, rules: []}]}}";
            gateway.spec.migration = serde_yaml_ng::from_str(migration).unwrap();
            gateway.status.as_mut().unwrap().migration.as_mut().unwrap().step = Some(step.into());
            fitting(&gateway)
        };
        assert_eq!(at("a"), (Phase::During, "phase a of the migration is in force".to_owned()));
        assert_eq!(at("b"), (Phase::After, "b, the last phase, is in force".to_owned()));
    }
}
