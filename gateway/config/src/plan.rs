//! How traffic is to move onto the gateway, or onto a new revision of it: the stages of a strategy in order, and the split that each
//! of them means. Which stage is taken when is not decided here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{MatchRule, Migration, Shadow, StickyKey, Strategy};

/// What a plan moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Axis {
    /// Applications' traffic from the vendors' own addresses onto the gateway: from the baseline arm to the bifrost arm.
    Migration,
    /// The gateway itself from its stable revision to a candidate.
    Rollout,
}

impl Axis {
    /// What is under way, in a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Migration => "migration",
            Self::Rollout => "rollout",
        }
    }

    /// What serves on the floor.
    pub const fn floor(self) -> &'static str {
        match self {
            Self::Migration => "the baseline",
            Self::Rollout => "the stable revision",
        }
    }
}

/// A move as it was asked for. Every strategy is a list of stages above the floor, on which nothing takes the bifrost arm, or the
/// candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it moves.
    pub axis: Axis,
    /// The strategy.
    pub strategy: Strategy,
    /// The stages, each sending more to the bifrost arm than the one before. A strategy without automatic advance has those
    /// that lie below its goal too, so that a position is known again, but takes none of them.
    pub stages: Vec<Stage>,
    /// How many of the stages may be reached: the goal is the last of these; 0 means the floor.
    pub ceiling: usize,
    /// Whether the stages are taken one after the other, each through its gate; if not, the goal is taken at once.
    pub walks: bool,
    /// What must be waited for on the floor before the first stage.
    pub floor: Gate,
    /// What holds a user on an arm.
    pub sticky_key: StickyKey,
    /// Salt of the cohort hash.
    pub salt: String,
    /// Whether a request may choose its arm by the header `x-bf-arm`.
    pub allow_arm_header: bool,
    /// Copies of one arm's requests to the other, at every stage.
    pub shadow: Option<Shadow>,
}

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it is called.
    pub position: Position,
    /// Which requests it adds to those of the stages before; empty but for Gradual.
    pub rules: Vec<MatchRule>,
    /// What must be waited for before the next.
    pub gate: Gate,
}

/// A place in a migration, by a name that survives changes of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Position {
    /// This percent of the eligible users.
    Percent(u8),
    /// The phase of this name, with those before it.
    Phase(String),
    /// Everything, the colour of the bifrost arm.
    Green,
}

/// What must be waited for before the next stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    /// How long every pod must have confirmed the stage.
    pub hold: Duration,
    /// Whether somebody must say so.
    pub pause: bool,
}

impl Gate {
    /// Whether there is nothing to wait for.
    pub const fn is_open(&self) -> bool {
        self.hold.is_zero() && !self.pause
    }
}

impl Plan {
    /// Where a position lies among the stages that may be reached: `Some(0)` is the floor, `Some(n)` the n-th stage. A percent
    /// between two steps counts as the lower one. `None`: the plan does not know it.
    pub fn level_of(&self, position: Option<&Position>) -> Option<usize> {
        let Some(position) = position else { return Some(0) };
        let exact = self.stages.iter().position(|stage| stage.position == *position).map(|index| index + 1);
        let level = exact.or_else(|| match position {
            Position::Percent(percent) => {
                let percents = self.stages.iter().map_while(|stage| match stage.position {
                    Position::Percent(of_stage) => Some(of_stage),
                    Position::Phase(_) | Position::Green => None,
                });
                let below = percents.take_while(|of_stage| of_stage < percent).count();
                matches!(self.stages.first(), Some(Stage { position: Position::Percent(_), .. })).then_some(below)
            }
            Position::Phase(_) | Position::Green => None,
        })?;
        Some(level.min(self.ceiling))
    }

    /// The stage of a level; none for the floor.
    pub fn stage(&self, level: usize) -> Option<&Stage> {
        self.stages.get(level.checked_sub(1)?)
    }

    /// The gate behind a level.
    pub fn gate(&self, level: usize) -> Gate {
        self.stage(level).map_or(self.floor, |stage| stage.gate)
    }

    /// The split at a level.
    pub fn split_at(&self, level: usize) -> Migration {
        let percent = match self.stage(level).map(|stage| &stage.position) {
            None | Some(Position::Phase(_)) => 0,
            Some(Position::Percent(percent)) => *percent,
            Some(Position::Green) => 100,
        };
        Migration {
            strategy: self.strategy,
            percent,
            rules: self.stages.iter().take(level).flat_map(|stage| stage.rules.iter().cloned()).collect(),
            sticky_key: self.sticky_key.clone(),
            salt: self.salt.clone(),
            allow_arm_header: self.allow_arm_header,
            shadow: self.shadow.clone(),
            tool_calls: false,
            empty_answers: false,
        }
    }

    /// The split at the goal.
    pub fn goal(&self) -> Migration {
        self.split_at(self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(percents: &[u8], ceiling: usize) -> Plan {
        let stage =
            |percent: &u8| Stage { position: Position::Percent(*percent), rules: vec![], gate: Gate::default() };
        Plan {
            axis: Axis::Migration,
            strategy: Strategy::Canary,
            stages: percents.iter().map(stage).collect(),
            ceiling,
            walks: true,
            floor: Gate::default(),
            sticky_key: StickyKey::Auto,
            salt: "s".into(),
            allow_arm_header: false,
            shadow: None,
        }
    }

    #[test]
    fn a_position_is_found_by_its_percent_and_one_between_two_steps_counts_as_the_lower() {
        let plan = plan(&[1, 5, 25, 100], 4);
        let level = |percent| plan.level_of(Some(&Position::Percent(percent)));
        assert_eq!(level(5), Some(2));
        assert_eq!(level(24), Some(2));
        assert_eq!(level(0), Some(0));
        assert_eq!(level(100), Some(4));
        assert_eq!(plan.level_of(None), Some(0));
        assert_eq!(plan.level_of(Some(&Position::Green)), None);
        assert_eq!(plan.level_of(Some(&Position::Phase("x".into()))), None);
    }

    #[test]
    fn nothing_lies_above_the_ceiling() {
        let plan = plan(&[1, 5, 25, 100], 2);
        assert_eq!(plan.level_of(Some(&Position::Percent(100))), Some(2));
        assert_eq!(plan.goal().percent, 5);
    }

    #[test]
    fn a_phase_sends_what_the_phases_before_it_sent_too() {
        let rule = |model: &str| MatchRule { models: vec![model.into()], ..MatchRule::default() };
        let stage = |name: &str, model: &str| Stage {
            position: Position::Phase(name.into()),
            rules: vec![rule(model)],
            gate: Gate::default(),
        };
        let plan = Plan {
            strategy: Strategy::Gradual,
            stages: vec![stage("one", "a"), stage("two", "b"), stage("three", "c")],
            ..plan(&[], 3)
        };
        let models = |level| plan.split_at(level).rules.iter().flat_map(|rule| rule.models.clone()).collect::<Vec<_>>();
        assert_eq!(models(0), Vec::<String>::new());
        assert_eq!(models(2), ["a", "b"]);
        assert_eq!((plan.split_at(3).percent, plan.split_at(3).rules.len()), (0, 3));
    }
}
