//! What a rollout is to do, read from the spec.

use std::time::Duration;

use bifrost_config::units::parse_duration;
use bifrost_config::{
    AddressRule, Axis, BlueGreenDraft, Draft, GateDraft, MigrationDraft, Plan, Problem, StepDraft, Strategy, validate,
};
use bifrost_crds::{
    RolloutBlueGreenSpec, RolloutCanarySpec, RolloutPreviewSpec, RolloutSpec, RolloutStep, RolloutStrategy,
};

use crate::migration::guard::{self, Guard};

/// The member.
const PATH: &str = "spec.rollout";
/// How long a step may wait for its pods, were the text unreadable.
const DEADLINE: Duration = Duration::from_secs(600);

/// What a rollout is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The stages; none: at once.
    pub plan: Option<Plan>,
    /// What watches them.
    pub guard: Guard,
    /// How long a stage may wait for its pods.
    pub deadline: Duration,
}

impl Default for Wish {
    fn default() -> Self {
        Self { plan: None, guard: Guard::default(), deadline: DEADLINE }
    }
}

/// Reads the spec. The stages are those of a migration of the same strategy.
pub fn read(spec: &RolloutSpec) -> Result<Wish, Vec<Problem>> {
    let guard = guard::of_analysis(spec.analysis.as_ref(), PATH)?;
    let deadline = parse_duration(&spec.progress_deadline).unwrap_or(DEADLINE);
    let strategy = match spec.strategy {
        RolloutStrategy::Rolling => return Ok(Wish { plan: None, guard, deadline }),
        RolloutStrategy::Canary => Strategy::Canary,
        RolloutStrategy::BlueGreen => Strategy::BlueGreen,
    };
    let migration = MigrationDraft {
        path: PATH.to_owned(),
        strategy: Some(strategy),
        canary_steps: spec.canary.as_ref().map(steps),
        blue_green: spec.blue_green.as_ref().map(colours),
        ..MigrationDraft::default()
    };
    let (_, plan) = validate(&Draft { migration, ..Draft::default() }, AddressRule::NoLocal)?;
    // Every stage waits for its pods, also the first and only one.
    Ok(Wish { plan: Some(Plan { axis: Axis::Rollout, walks: true, ..plan }), guard, deadline })
}

fn steps(RolloutCanarySpec { steps }: &RolloutCanarySpec) -> Vec<StepDraft> {
    let gate = |step: &RolloutStep| GateDraft { hold: step.hold.clone(), pause: step.pause.unwrap_or(false) };
    let mut drafts: Vec<_> =
        steps.iter().map(|step| StepDraft { percent: i64::from(step.percent), gate: gate(step) }).collect();
    if drafts.last().is_some_and(|last| last.percent < 100) {
        drafts.push(StepDraft { percent: 100, gate: GateDraft::default() });
    }
    drafts
}

fn colours(RolloutBlueGreenSpec { preview, watch }: &RolloutBlueGreenSpec) -> BlueGreenDraft {
    let gate = |preview: &RolloutPreviewSpec| GateDraft { hold: preview.hold.clone(), pause: preview.pause };
    BlueGreenDraft { green: true, preview: preview.as_ref().map(gate), watch: watch.clone() }
}
