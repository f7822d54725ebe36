//! What `spec.rollout` of a manifest means: what should be thought over, its way in one line, and what exists only for a while. Pure.

use std::time::Duration;

use bifrost_config::Gate;
use bifrost_config::published::CANDIDATE;
use bifrost_config::units::parse_duration;
use bifrost_crds::{BifrostGateway, RolloutBlueGreenSpec, RolloutSpec, RolloutStrategy};
use bifrost_operator::names;

use super::render::shown_gate;

/// A pod needs longer than this to be pulled, to start and to be ready, where the node does not have the image yet.
const SHORT: Duration = Duration::from_secs(60);

/// What the API server takes, and what will surprise.
pub(super) fn warnings(gateway: &BifrostGateway) -> Vec<String> {
    let rollout = &gateway.spec.rollout;
    let mut warnings = Vec::new();
    if rollout.strategy == RolloutStrategy::Rolling {
        return warnings;
    }
    if rollout.analysis.is_none() && !is_looked_at(rollout) {
        warnings.push("spec.rollout: without analysis a candidate that answers badly goes on to 100 % unless it crashes: set analysis: {}, or pause: true at a step".to_owned());
    }
    if compares_with_nobody(rollout) {
        warnings.push("spec.rollout.analysis: at 100 % the stable revision has no traffic to compare with, so no check can fail there: set max in one".to_owned());
    }
    if parse_duration(&rollout.progress_deadline).is_some_and(|deadline| deadline < SHORT) {
        let text = &rollout.progress_deadline;
        warnings.push(format!("spec.rollout.progressDeadline: {text} is short for nodes that must pull the image first: a candidate is taken back that is only slow"));
    }
    warnings
}

/// Whether a person must look before everything moves.
fn is_looked_at(rollout: &RolloutSpec) -> bool {
    let steps = rollout.canary.iter().flat_map(|canary| &canary.steps);
    let preview = rollout.blue_green.as_ref().and_then(|blue_green| blue_green.preview.as_ref());
    steps.into_iter().any(|step| step.pause == Some(true)) || preview.is_some_and(|preview| preview.pause)
}

/// Whether it is watched at 100 %, by checks that all need traffic of the stable revision. Without a check there is one of these.
fn compares_with_nobody(rollout: &RolloutSpec) -> bool {
    let watch = rollout.blue_green.iter().any(|blue_green| blue_green.watch.is_some());
    let mut steps = rollout.canary.iter().flat_map(|canary| &canary.steps);
    let is_watched = watch || steps.any(|step| step.percent == 100 && step.hold.is_some());
    rollout.analysis.iter().any(|analysis| is_watched && analysis.checks.iter().all(|check| check.max.is_none()))
}

/// The way of a candidate in one line; none where there is none.
pub(super) fn way(rollout: &RolloutSpec) -> Option<String> {
    let gate = |hold: Option<&String>, pause: bool| {
        shown_gate(&Gate { hold: hold.and_then(|hold| parse_duration(hold)).unwrap_or_default(), pause })
    };
    let mut stages = Vec::new();
    for step in rollout.canary.iter().flat_map(|canary| &canary.steps) {
        stages.push(format!("{} %{}", step.percent, gate(step.hold.as_ref(), step.pause == Some(true))));
    }
    if let Some(RolloutBlueGreenSpec { preview, watch }) = &rollout.blue_green {
        stages.extend(preview.iter().map(|preview| format!("preview{}", gate(preview.hold.as_ref(), preview.pause))));
        stages.push(format!("100 %{}", gate(watch.as_ref(), false)));
    }
    stages.push("stable".to_owned());
    (rollout.strategy != RolloutStrategy::Rolling).then(|| format!("{:?}, {}", rollout.strategy, stages.join(" → ")))
}

/// The objects that come and go with a candidate.
pub(super) fn objects(gateway: &str, rollout: &RolloutSpec) -> Vec<String> {
    if rollout.strategy == RolloutStrategy::Rolling {
        return Vec::new();
    }
    let candidate = names::candidate(gateway);
    let mut objects = vec![format!("{CANDIDATE} in ConfigMap {}", names::published(gateway))];
    objects.extend(
        ["Deployment", "Service", "NetworkPolicy"].map(|kind| format!("{kind} {candidate}, for another image")),
    );
    objects
}

#[cfg(test)]
mod tests {
    use bifrost_crds::RolloutSpec;

    use super::*;

    fn spec(text: &str) -> RolloutSpec {
        serde_yaml_ng::from_str(text).unwrap()
    }

    fn warned(text: &str) -> Vec<String> {
        let mut gateway = crate::status::tests::gateway();
        gateway.spec.rollout = spec(text);
        let member = |warning: String| warning.split(": ").next().unwrap().to_owned();
        warnings(&gateway).into_iter().map(member).collect()
    }

    #[test]
    fn what_goes_on_unseen_is_warned_of() {
        let none: [&str; 0] = [];
        assert_eq!(warned("{}"), none);
        assert_eq!(warned("{strategy: Canary, canary: {steps: [{percent: 10, hold: 10m}]}}"), ["spec.rollout"]);
        assert_eq!(warned("{strategy: Canary, canary: {steps: [{percent: 10, pause: true}]}}"), none);
        assert_eq!(warned("{strategy: Canary, canary: {steps: [{percent: 10, hold: 10m}]}, analysis: {}}"), none);
        assert_eq!(warned("{strategy: BlueGreen, blueGreen: {preview: {pause: true}}}"), none);
        assert_eq!(warned("{strategy: BlueGreen, blueGreen: {watch: 30m}}"), ["spec.rollout"]);
    }

    #[test]
    fn what_is_watched_at_100_percent_needs_a_limit_of_its_own() {
        let watch = |checks: &str| {
            warned(&format!("{{strategy: BlueGreen, blueGreen: {{watch: 30m}}, analysis: {{checks: [{checks}]}}}}"))
        };
        let none: [&str; 0] = [];
        assert_eq!(watch(""), ["spec.rollout.analysis"]);
        assert_eq!(watch("{name: errors, type: ErrorRate, maxIncrease: 1%}"), ["spec.rollout.analysis"]);
        assert_eq!(watch("{name: errors, type: ErrorRate, max: 2%}"), none);
        let last =
            "{strategy: Canary, canary: {steps: [{percent: 10, hold: 1h}, {percent: 100, hold: 1h}]}, analysis: {}}";
        assert_eq!(warned(last), ["spec.rollout.analysis"]);
    }

    #[test]
    fn a_deadline_leaves_time_for_pods_to_come() {
        let canary = |deadline: &str| {
            warned(&format!(
                "{{strategy: Canary, canary: {{steps: [{{percent: 10, pause: true}}]}}, progressDeadline: {deadline}}}"
            ))
        };
        assert_eq!(canary("30s"), ["spec.rollout.progressDeadline"]);
        assert!(canary("60s").is_empty());
    }

    #[test]
    fn the_way_ends_with_the_stable_revision() {
        assert_eq!(way(&RolloutSpec::default()), None);
        let canary =
            spec("{strategy: Canary, canary: {steps: [{percent: 10, hold: 10m}, {percent: 50, pause: true}]}}");
        assert_eq!(way(&canary).unwrap(), "Canary, 10 % (held 10m) → 50 % (until promoted) → stable");
        let blue_green = spec("{strategy: BlueGreen, blueGreen: {preview: {pause: true}, watch: 30m}}");
        assert_eq!(way(&blue_green).unwrap(), "BlueGreen, preview (until promoted) → 100 % (held 30m) → stable");
    }
}
