//! What a change means for a gateway as it is: the patch, the words, or why it cannot be.

use bifrost_crds::{Advance, BifrostGateway, Colour, MigrationSpec, Strategy};
use serde_json::{Value, json};

use super::in_force::Goal;
use crate::cli::ColourArg;
use crate::failure::Failure;

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// `spec.paused`.
    Paused(bool),
    /// `spec.migration.canaryPercent`.
    Percent(u8),
    /// `spec.migration.blueGreen.active`.
    Colour(ColourArg),
    /// `spec.migration.gradual.currentPhase`; none: no phase.
    Phase(Option<String>),
}

impl Change {
    /// A phase by its name, or `none`.
    pub(crate) fn phase(name: &str) -> Self {
        Self::Phase((name != "none").then(|| name.to_owned()))
    }

    /// Where the migration shall be with it.
    pub(super) fn goal(&self) -> Goal {
        match self {
            Self::Paused(_) => Goal::Any,
            Self::Percent(percent) => Goal::Percent(*percent),
            Self::Colour(ColourArg::Blue) | Self::Phase(None) => Goal::Percent(0),
            Self::Colour(ColourArg::Green) => Goal::Percent(100),
            Self::Phase(Some(phase)) => Goal::Phase(phase.clone()),
        }
    }
}

/// A change that can be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// The field.
    pub(super) field: &'static str,
    /// Its value now.
    pub(super) before: String,
    /// Its value then.
    pub(super) after: String,
    /// The merge patch; none: it is so already.
    pub(super) patch: Option<Value>,
}

/// Plans the change, or says why it cannot be made and what can be done instead.
pub(super) fn plan(gateway: &BifrostGateway, change: &Change) -> Result<Planned, Failure> {
    let migration = &gateway.spec.migration;
    match change {
        Change::Paused(paused) => {
            let patch = json!({"spec": {"paused": paused}});
            Ok(planned("paused", gateway.spec.paused.to_string(), paused.to_string(), patch))
        }
        Change::Percent(percent) => self::percent(migration, *percent),
        Change::Colour(colour) => self::colour(migration, *colour),
        Change::Phase(phase) => self::phase(migration, phase.as_deref()),
    }
}

fn planned(field: &'static str, before: String, after: String, patch: Value) -> Planned {
    let patch = (before != after).then_some(patch);
    Planned { field, before, after, patch }
}

/// The strategy in force.
pub(crate) fn strategy(migration: &MigrationSpec) -> Strategy {
    let by_members = match migration.canary_percent.is_some() || migration.canary.is_some() {
        true => Strategy::Canary,
        false => Strategy::DropIn,
    };
    migration.strategy.unwrap_or(by_members)
}

fn percent(migration: &MigrationSpec, percent: u8) -> Result<Planned, Failure> {
    match (migration.strategy, &migration.canary) {
        (Some(Strategy::DropIn), _) => {
            return Err(Failure::no(
                "the strategy is DropIn, which has no percent: everything takes the bifrost arm; set strategy: Canary and canaryPercent together to go back to a share",
            ));
        }
        (Some(Strategy::Gradual), _) => {
            return Err(Failure::no(
                "the strategy is Gradual, whose rules decide: move its pointer with `kubectl bifrost set-phase`",
            ));
        }
        (Some(Strategy::BlueGreen), _) => {
            return Err(Failure::no(
                "the strategy is BlueGreen, which is all or nothing: change the colour with `kubectl bifrost switch`",
            ));
        }
        (_, Some(_)) => {
            return Err(Failure::no(
                "the canary moves by spec.migration.canary.steps: `kubectl bifrost promote` takes the next step and `kubectl bifrost abort` goes back; for a percent by hand replace canary with canaryPercent",
            ));
        }
        (Some(Strategy::Canary) | None, None) => {}
    }
    let before = match migration.canary_percent {
        Some(before) => format!("{before} %"),
        None => "100 % (DropIn)".to_owned(),
    };
    let patch = json!({"spec": {"migration": {"canaryPercent": percent}}});
    Ok(planned("canaryPercent", before, format!("{percent} %"), patch))
}

fn colour(migration: &MigrationSpec, colour: ColourArg) -> Result<Planned, Failure> {
    let Some(blue_green) = &migration.blue_green else {
        let strategy = strategy(migration);
        return Err(Failure::no(format!(
            "the strategy is {strategy:?}, which has no colours: set strategy: BlueGreen and blueGreen.active to have them"
        )));
    };
    let wanted = match colour {
        ColourArg::Blue => Colour::Blue,
        ColourArg::Green => Colour::Green,
    };
    let patch = json!({"spec": {"migration": {"blueGreen": {"active": wanted}}}});
    Ok(planned("blueGreen.active", format!("{:?}", blue_green.active), format!("{wanted:?}"), patch))
}

fn phase(migration: &MigrationSpec, phase: Option<&str>) -> Result<Planned, Failure> {
    let Some(gradual) = &migration.gradual else {
        let strategy = strategy(migration);
        return Err(Failure::no(format!(
            "the strategy is {strategy:?}, which has no phases: set strategy: Gradual and gradual.phases to have them"
        )));
    };
    let names: Vec<_> = gradual.phases.iter().map(|phase| phase.name.as_str()).collect();
    if let Some(unknown) = phase.filter(|phase| !names.contains(phase)) {
        return Err(Failure::no(format!("no phase is named {unknown}: there are {}, and none", names.join(", "))));
    }
    let shown = |phase: Option<&str>| phase.unwrap_or("none").to_owned();
    let mut after = shown(phase);
    let patch = json!({"spec": {"migration": {"gradual": {"currentPhase": phase}}}});
    let before = shown(gradual.current_phase.as_deref());
    let is_same = before == after;
    let position = |name: Option<&str>| name.and_then(|name| names.iter().position(|known| *known == name));
    let rises = position(phase) > position(gradual.current_phase.as_deref());
    if gradual.advance == Advance::Automatic && rises {
        after.push_str(" (phase by phase, each after its hold)");
    }
    Ok(Planned { field: "gradual.currentPhase", before, after, patch: (!is_same).then_some(patch) })
}

#[cfg(test)]
mod tests {
    use bifrost_crds::CanarySpec;

    use super::*;
    use crate::status::tests::gateway;

    fn with(migration: MigrationSpec) -> BifrostGateway {
        let mut gateway = gateway();
        gateway.spec.migration = migration;
        gateway
    }

    fn by_hand(percent: i32) -> MigrationSpec {
        MigrationSpec { canary_percent: Some(percent), ..MigrationSpec::default() }
    }

    fn gradual(advance: Advance) -> MigrationSpec {
        let phases = "[{name: internal, rules: []}, {name: chat, rules: []}]";
        let text = format!(
            "{{strategy: Gradual, gradual: {{currentPhase: internal, advance: {advance:?}, phases: {phases}}}}}"
        );
        serde_yaml_ng::from_str(&text).unwrap()
    }

    fn shown(migration: MigrationSpec, change: &Change) -> String {
        match plan(&with(migration), change) {
            Ok(Planned { field, before, after, patch }) => {
                format!(
                    "{field} {before} → {after} {}",
                    patch.map_or_else(|| "unchanged".into(), |patch| patch.to_string())
                )
            }
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn a_percent_is_set_where_it_moves_by_hand() {
        insta::assert_snapshot!(shown(by_hand(10), &Change::Percent(25)), @r#"canaryPercent 10 % → 25 % {"spec":{"migration":{"canaryPercent":25}}}"#);
        insta::assert_snapshot!(shown(by_hand(25), &Change::Percent(25)), @"canaryPercent 25 % → 25 % unchanged");
        insta::assert_snapshot!(shown(MigrationSpec::default(), &Change::Percent(50)), @r#"canaryPercent 100 % (DropIn) → 50 % {"spec":{"migration":{"canaryPercent":50}}}"#);
    }

    #[test]
    fn where_it_does_not_the_refusal_names_the_command_that_fits() {
        let steps = MigrationSpec { canary: Some(CanarySpec::default()), ..MigrationSpec::default() };
        assert!(shown(steps, &Change::Percent(25)).contains("kubectl bifrost promote"));
        assert!(shown(gradual(Advance::Manual), &Change::Percent(25)).contains("kubectl bifrost set-phase"));
        let blue_green = MigrationSpec { strategy: Some(Strategy::BlueGreen), ..MigrationSpec::default() };
        assert!(shown(blue_green, &Change::Percent(25)).contains("kubectl bifrost switch"));
        let drop_in = MigrationSpec { strategy: Some(Strategy::DropIn), ..MigrationSpec::default() };
        assert!(shown(drop_in, &Change::Percent(25)).contains("strategy: Canary"));
    }

    #[test]
    fn a_colour_needs_blue_green() {
        let blue_green = "{strategy: BlueGreen, blueGreen: {active: Blue}}";
        let blue_green: MigrationSpec = serde_yaml_ng::from_str(blue_green).unwrap();
        insta::assert_snapshot!(shown(blue_green, &Change::Colour(ColourArg::Green)), @r#"blueGreen.active Blue → Green {"spec":{"migration":{"blueGreen":{"active":"Green"}}}}"#);
        insta::assert_snapshot!(shown(by_hand(1), &Change::Colour(ColourArg::Green)), @"the strategy is Canary, which has no colours: set strategy: BlueGreen and blueGreen.active to have them");
    }

    #[test]
    fn a_phase_is_one_that_there_is_or_none() {
        insta::assert_snapshot!(shown(gradual(Advance::Manual), &Change::phase("chat")), @r#"gradual.currentPhase internal → chat {"spec":{"migration":{"gradual":{"currentPhase":"chat"}}}}"#);
        insta::assert_snapshot!(shown(gradual(Advance::Automatic), &Change::phase("chat")), @r#"gradual.currentPhase internal → chat (phase by phase, each after its hold) {"spec":{"migration":{"gradual":{"currentPhase":"chat"}}}}"#);
        insta::assert_snapshot!(shown(gradual(Advance::Automatic), &Change::phase("none")), @r#"gradual.currentPhase internal → none {"spec":{"migration":{"gradual":{"currentPhase":null}}}}"#);
        insta::assert_snapshot!(shown(gradual(Advance::Manual), &Change::phase("chta")), @"no phase is named chta: there are internal, chat, and none");
    }
}
