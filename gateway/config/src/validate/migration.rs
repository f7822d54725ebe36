//! The rules of a migration: which members belong to which strategy, and the stages that they mean.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::draft::{
    BlueGreenDraft, GateDraft, GradualDraft, MigrationDraft, PhaseDraft, ProviderDraft, ShadowDraft, StepDraft,
    StickinessKind,
};
use crate::prices::parse_money;
use crate::units::{parse_duration, parse_size};
use crate::{Axis, Gate, MatchRule, Plan, Position, Problem, Shadow, ShadowedArm, Stage, StickyKey, Strategy};

/// Longest hold.
const MAX_HOLD: Duration = Duration::from_secs(28 * 24 * 3600);
/// Most bytes that all rules of a migration may have: they lie in `traffic.json`, which pods read on every change of the split.
const MAX_RULES_BYTES: usize = 128 * 1024;
/// Bounds of the largest body that is copied: it is looked at on a thread that serves requests.
const SHADOW_BODY: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;

/// The stages and the goal.
struct Stages {
    stages: Vec<Stage>,
    ceiling: usize,
    walks: bool,
    floor: Gate,
}

impl Stages {
    /// One stage, taken at once.
    fn one(position: Position) -> Self {
        let stage = Stage { position, rules: Vec::new(), gate: Gate::default() };
        Self { stages: vec![stage], ceiling: 1, walks: false, floor: Gate::default() }
    }
}

/// Checks how traffic is to move.
pub(super) fn plan(draft: &MigrationDraft, problems: &mut Vec<Problem>) -> Plan {
    let by_members = || match draft.canary_percent.is_some() || draft.canary_steps.is_some() {
        true => Strategy::Canary,
        false => Strategy::DropIn,
    };
    let strategy = draft.strategy.unwrap_or_else(by_members);
    foreign_members(draft, strategy, problems);
    let missing = |member: &str| {
        Problem::invalid(format!("{}.{member}", draft.path), format!("strategy {} needs it", strategy.as_str()))
    };
    let stages = match strategy {
        Strategy::DropIn => Stages::one(Position::Percent(100)),
        Strategy::Canary => match (draft.canary_percent, &draft.canary_steps) {
            (Some(percent), None) => Stages::one(Position::Percent(by_hand(percent, draft, problems))),
            (None, Some(list)) => steps(list, &format!("{}.canary.steps", draft.path), problems),
            (Some(_), Some(_)) => {
                let path = format!("{}.canaryPercent", draft.path);
                problems.push(Problem::invalid(path, "either canaryPercent or canary.steps: take one of them out"));
                Stages::one(Position::Percent(0))
            }
            (None, None) => {
                let path = format!("{}.canaryPercent", draft.path);
                problems.push(Problem::invalid(path, "strategy Canary needs a percentage between 0 and 100, or steps"));
                Stages::one(Position::Percent(0))
            }
        },
        Strategy::Gradual => match &draft.gradual {
            Some(gradual) => phases(gradual, &format!("{}.gradual", draft.path), problems),
            None => {
                problems.push(missing("gradual"));
                Stages::one(Position::Percent(0))
            }
        },
        Strategy::BlueGreen => match &draft.blue_green {
            Some(blue_green) => colours(blue_green, &format!("{}.blueGreen", draft.path), problems),
            None => {
                problems.push(missing("blueGreen"));
                Stages::one(Position::Percent(0))
            }
        },
    };
    Plan {
        axis: Axis::Migration,
        strategy,
        stages: stages.stages,
        ceiling: stages.ceiling,
        walks: stages.walks,
        floor: stages.floor,
        sticky_key: sticky_key(draft, problems),
        salt: draft.stickiness.salt.clone().unwrap_or_else(|| draft.default_salt.clone()),
        allow_arm_header: draft.allow_arm_header,
        shadow: draft.shadow.as_ref().and_then(|shadow| copies(shadow, strategy, &draft.path, problems)),
    }
}

/// Checks what is copied. Pods and prices are the operator's to fill in.
fn copies(draft: &ShadowDraft, strategy: Strategy, path: &str, problems: &mut Vec<Problem>) -> Option<Shadow> {
    let before = problems.len();
    let mut wrong = |member: &str, message: String| {
        problems.push(Problem::invalid(format!("{path}.shadow.{member}"), message));
    };
    let percent = u8::try_from(draft.percent).ok().filter(|percent| *percent <= 100);
    if percent.is_none() {
        wrong("percent", format!("{} is not between 0 and 100", draft.percent));
    }
    if strategy == Strategy::DropIn && !draft.of_bifrost {
        wrong("of", "under DropIn no request takes the baseline arm: copy those of Bifrost".to_owned());
    }
    let daily_limit = parse_money(&draft.daily_limit).filter(|micros| *micros > 0);
    if daily_limit.is_none() {
        wrong("dailyLimit", format!("{:?} is no amount of money above 0, such as 10.00", draft.daily_limit));
    }
    let max_body = parse_size(&draft.skip_size).filter(|size| SHADOW_BODY.contains(size));
    if max_body.is_none() {
        wrong("skip.size", format!("{:?} is no size between 1Ki and 1Mi, such as 256Ki", draft.skip_size));
    }
    let skip_header = draft.skip_header.as_ref().map(|name| name.to_ascii_lowercase());
    if skip_header.as_ref().is_some_and(|name| !is_header_name(name)) {
        wrong("skip.header", "is no name of a header".to_owned());
    }
    (problems.len() == before).then_some(())?;
    Some(Shadow {
        percent: percent?,
        of: if draft.of_bifrost { ShadowedArm::Bifrost } else { ShadowedArm::Baseline },
        daily_limit: daily_limit?,
        pods: 1,
        skip_tools: draft.skip_tools,
        max_body: max_body?,
        skip_header,
        currency: String::new(),
        prices: Vec::new(),
    })
}

fn foreign_members(draft: &MigrationDraft, strategy: Strategy, problems: &mut Vec<Problem>) {
    let members = [
        ("canaryPercent", draft.canary_percent.is_some(), Strategy::Canary),
        ("canary", draft.canary_steps.is_some(), Strategy::Canary),
        ("gradual", draft.gradual.is_some(), Strategy::Gradual),
        ("blueGreen", draft.blue_green.is_some(), Strategy::BlueGreen),
    ];
    for (member, is_there, owner) in members {
        if is_there && owner != strategy {
            let owner = owner.as_str();
            let message = format!("belongs to strategy {owner}: take it out, or set strategy to {owner}");
            problems.push(Problem::invalid(format!("{}.{member}", draft.path), message));
        }
    }
}

fn by_hand(percent: i64, draft: &MigrationDraft, problems: &mut Vec<Problem>) -> u8 {
    match u8::try_from(percent) {
        Ok(percent) if percent <= 100 => percent,
        _ => {
            let message = format!("{percent} is not between 0 and 100");
            problems.push(Problem::invalid(format!("{}.canaryPercent", draft.path), message));
            0
        }
    }
}

fn steps(list: &[StepDraft], path: &str, problems: &mut Vec<Problem>) -> Stages {
    if list.is_empty() {
        problems.push(Problem::invalid(path, "at least one step is needed"));
    }
    let mut before = 0;
    let mut stages = Vec::with_capacity(list.len());
    for (index, step) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let percent = u8::try_from(step.percent).ok().filter(|percent| (1..=100).contains(percent));
        match percent {
            None => problems.push(Problem::invalid(
                format!("{path}.percent"),
                format!("{} is not between 1 and 100", step.percent),
            )),
            Some(percent) if percent <= before => problems.push(Problem::invalid(
                format!("{path}.percent"),
                format!("{percent} does not lie above the step before, {before}: steps only rise"),
            )),
            Some(percent) => before = percent,
        }
        let gate = gate(&step.gate, &path, problems);
        stages.push(Stage { position: Position::Percent(percent.unwrap_or(0)), rules: Vec::new(), gate });
    }
    Stages { ceiling: stages.len(), stages, walks: true, floor: Gate::default() }
}

fn phases(gradual: &GradualDraft, path: &str, problems: &mut Vec<Problem>) -> Stages {
    let mut names = BTreeSet::new();
    let mut bytes = 0;
    let mut stages = Vec::with_capacity(gradual.phases.len());
    for (index, PhaseDraft { name, rules, gate: draft }) in gradual.phases.iter().enumerate() {
        let path = format!("{path}.phases[{index}]");
        if name.is_empty() || !names.insert(name.as_str()) {
            problems.push(Problem::invalid(format!("{path}.name"), format!("{name:?} is empty or listed twice")));
        }
        let rules: Vec<_> = rules.iter().enumerate().map(|(at, one)| rule(one, &path, at, problems)).collect();
        bytes += serde_json::to_string(&rules).map_or(0, |text| text.len());
        let gate = gate(draft, &path, problems);
        stages.push(Stage { position: Position::Phase(name.clone()), rules, gate });
    }
    if bytes > MAX_RULES_BYTES {
        let message = format!("the rules have {bytes} bytes, and at most {MAX_RULES_BYTES} can be published");
        problems.push(Problem::too_large(format!("{path}.phases"), message));
    }
    let ceiling = match &gradual.current_phase {
        None => 0,
        Some(current) => match gradual.phases.iter().position(|phase| phase.name == *current) {
            Some(index) => index + 1,
            None => {
                let known: Vec<_> = gradual.phases.iter().map(|phase| phase.name.as_str()).collect();
                let message = format!("no phase is named {current:?}; there are: {}", known.join(", "));
                problems.push(Problem::not_found(format!("{path}.currentPhase"), message));
                0
            }
        },
    };
    Stages { stages, ceiling, walks: gradual.automatic, floor: Gate::default() }
}

/// A rule that names a provider which does not exist would fit nothing, and nobody would be told. A draft without providers is of the
/// migration alone.
pub(super) fn known_providers(draft: &MigrationDraft, providers: &[ProviderDraft], problems: &mut Vec<Problem>) {
    let phases = draft.gradual.iter().flat_map(|gradual| &gradual.phases).enumerate();
    let rules =
        phases.flat_map(|(phase, draft)| draft.rules.iter().enumerate().map(move |(index, rule)| (phase, index, rule)));
    for (phase, index, rule) in rules.filter(|_| !providers.is_empty()) {
        let is_known = |name: &&String| providers.iter().any(|provider| provider.name == **name);
        if let Some(name) = rule.providers.iter().find(|name| !is_known(name)) {
            let known: Vec<_> = providers.iter().map(|provider| provider.name.as_str()).collect();
            problems.push(Problem::not_found(
                format!("{}.gradual.phases[{phase}].rules[{index}].match.providers", draft.path),
                format!("no provider is named {name:?}; configured: {}", known.join(", ")),
            ));
        }
    }
}

fn rule(draft: &MatchRule, phase: &str, index: usize, problems: &mut Vec<Problem>) -> MatchRule {
    let at = |member: &str| format!("{phase}.rules[{index}].match.{member}");
    if *draft == MatchRule::default() {
        let message = "names no condition, so it would fit every request: name one, or say paths: ['/*'] if every request is meant";
        problems.push(Problem::invalid(format!("{phase}.rules[{index}].match"), message));
    }
    let mut rule = draft.clone();
    for header in &mut rule.headers {
        header.name = header.name.to_ascii_lowercase();
        if !is_header_name(&header.name) {
            let message = format!("{:?} is no name of a header", header.name);
            problems.push(Problem::invalid(at("headers"), message));
        }
    }
    if rule.user_percent.is_some_and(|percent| percent > 100) {
        problems.push(Problem::invalid(at("userPercent"), "must lie between 0 and 100"));
    }
    for (member, list) in [("paths", &rule.paths), ("models", &rule.models)] {
        if let Some(text) = list.iter().find(|text| text.trim_end_matches('*').contains('*') || text.ends_with("**")) {
            let message = format!("{text:?}: a * stands at the end only");
            problems.push(Problem::invalid(at(member), message));
        }
    }
    if let Some(text) = rule.paths.iter().find(|text| !text.starts_with('/')) {
        let message = format!("{text:?} does not begin with /: give it as the vendor has it, /v1/chat/completions");
        problems.push(Problem::invalid(at("paths"), message));
    }
    rule
}

fn colours(draft: &BlueGreenDraft, path: &str, problems: &mut Vec<Problem>) -> Stages {
    let watch =
        draft.watch.as_deref().map_or(Duration::ZERO, |text| duration(text, &format!("{path}.watch"), problems));
    let green = Stage { position: Position::Green, rules: Vec::new(), gate: Gate { hold: watch, pause: false } };
    let floor = draft.preview.as_ref().map_or(Gate::default(), |preview| gate(preview, path, problems));
    Stages { stages: vec![green], ceiling: usize::from(draft.green), walks: draft.preview.is_some(), floor }
}

fn gate(draft: &GateDraft, path: &str, problems: &mut Vec<Problem>) -> Gate {
    let hold = draft.hold.as_deref().map_or(Duration::ZERO, |text| duration(text, &format!("{path}.hold"), problems));
    Gate { hold, pause: draft.pause }
}

fn duration(text: &str, path: &str, problems: &mut Vec<Problem>) -> Duration {
    match parse_duration(text) {
        Some(duration) if duration <= MAX_HOLD => duration,
        _ => {
            let message = format!("{text:?} is no duration up to 672h (four weeks), such as 10m");
            problems.push(Problem::invalid(path, message));
            Duration::ZERO
        }
    }
}

fn sticky_key(draft: &MigrationDraft, problems: &mut Vec<Problem>) -> StickyKey {
    let stickiness = &draft.stickiness;
    let path = format!("{}.stickiness.header", draft.path);
    if stickiness.kind != StickinessKind::Header && stickiness.header.is_some() {
        problems.push(Problem::invalid(path.clone(), "belongs to stickiness key Header"));
    }
    match stickiness.kind {
        StickinessKind::Auto => StickyKey::Auto,
        StickinessKind::Body => StickyKey::Body,
        StickinessKind::Credential => StickyKey::Credential,
        StickinessKind::None => StickyKey::None,
        StickinessKind::Header => {
            let name = stickiness.header.clone().unwrap_or_default().to_ascii_lowercase();
            if !is_header_name(&name) {
                problems.push(Problem::invalid(path, "stickiness key Header needs the name of a header"));
            }
            StickyKey::Header { name }
        }
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(draft: MigrationDraft) -> Result<Plan, Vec<String>> {
        let mut problems = Vec::new();
        let plan = plan(&MigrationDraft { path: "m".into(), ..draft }, &mut problems);
        if problems.is_empty() { Ok(plan) } else { Err(problems.iter().map(ToString::to_string).collect()) }
    }

    fn step(percent: i64, hold: &str) -> StepDraft {
        StepDraft { percent, gate: GateDraft { hold: Some(hold.into()), pause: false } }
    }

    fn gradual(phases: &[&str], current: Option<&str>) -> MigrationDraft {
        let phase = |name: &&str| PhaseDraft {
            name: (*name).into(),
            rules: vec![MatchRule { models: vec!["gpt-*".into()], ..MatchRule::default() }],
            gate: GateDraft::default(),
        };
        MigrationDraft {
            strategy: Some(Strategy::Gradual),
            gradual: Some(GradualDraft {
                phases: phases.iter().map(phase).collect(),
                current_phase: current.map(str::to_owned),
                automatic: false,
            }),
            ..MigrationDraft::default()
        }
    }

    #[test]
    fn without_a_strategy_the_members_say_which() {
        assert_eq!(checked(MigrationDraft::default()).unwrap().goal().percent, 100);
        let canary = MigrationDraft { canary_percent: Some(7), ..MigrationDraft::default() };
        assert_eq!(checked(canary).unwrap().goal().percent, 7);
        let steps = MigrationDraft { canary_steps: Some(vec![step(1, "1m"), step(50, "2h")]), ..Default::default() };
        let plan = checked(steps).unwrap();
        assert_eq!((plan.strategy, plan.ceiling, plan.walks, plan.goal().percent), (Strategy::Canary, 2, true, 50));
        assert_eq!(plan.gate(1).hold, Duration::from_secs(60));
    }

    #[test]
    fn steps_rise_lie_in_bounds_and_hold_a_duration() {
        let steps = |list| MigrationDraft { canary_steps: Some(list), ..MigrationDraft::default() };
        let problems = checked(steps(vec![step(5, "1m"), step(5, "1m"), step(101, "x")])).unwrap_err();
        assert_eq!(
            problems,
            [
                "m.canary.steps[1].percent: 5 does not lie above the step before, 5: steps only rise",
                "m.canary.steps[2].percent: 101 is not between 1 and 100",
                "m.canary.steps[2].hold: \"x\" is no duration up to 672h (four weeks), such as 10m",
            ]
        );
        assert!(checked(steps(vec![])).is_err());
    }

    #[test]
    fn members_of_another_strategy_are_named() {
        let draft = MigrationDraft {
            strategy: Some(Strategy::DropIn),
            canary_percent: Some(5),
            gradual: Some(GradualDraft::default()),
            ..MigrationDraft::default()
        };
        let problems = checked(draft).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("m.canaryPercent: belongs to strategy Canary"), "{problems:?}");
        assert!(problems[1].starts_with("m.gradual: belongs to strategy Gradual"), "{problems:?}");
        for strategy in [Strategy::Canary, Strategy::Gradual, Strategy::BlueGreen] {
            let draft = MigrationDraft { strategy: Some(strategy), ..MigrationDraft::default() };
            assert_eq!(checked(draft).unwrap_err().len(), 1, "{strategy:?} needs its member");
        }
    }

    #[test]
    fn the_pointer_names_a_phase_or_nothing() {
        assert_eq!(checked(gradual(&["a", "b"], Some("b"))).unwrap().ceiling, 2);
        let nobody = checked(gradual(&["a", "b"], None)).unwrap();
        assert_eq!((nobody.ceiling, nobody.goal().rules.len()), (0, 0));
        let problems = checked(gradual(&["a", "b"], Some("c"))).unwrap_err();
        assert_eq!(problems, ["m.gradual.currentPhase: no phase is named \"c\"; there are: a, b"]);
        assert!(checked(gradual(&["a", "a"], None)).is_err());
    }

    #[test]
    fn a_rule_that_nobody_could_mean_is_refused() {
        let mut draft = gradual(&["a"], Some("a"));
        let rule = &mut draft.gradual.as_mut().unwrap().phases[0].rules[0];
        rule.paths = vec!["v1/chat".into(), "/v1/*/x".into()];
        rule.user_percent = Some(101);
        rule.headers = vec![crate::HeaderMatch { name: "X Team".into(), value: None }];
        assert_eq!(checked(draft).unwrap_err().len(), 4);
        let mut empty = gradual(&["a"], Some("a"));
        empty.gradual.as_mut().unwrap().phases[0].rules[0] = MatchRule::default();
        let problems = checked(empty).unwrap_err();
        assert!(problems[0].starts_with("m.gradual.phases[0].rules[0].match: names no condition"), "{problems:?}");
    }

    #[test]
    fn a_rule_names_a_provider_that_there_is() {
        let mut draft = gradual(&["a"], Some("a"));
        draft.gradual.as_mut().unwrap().phases[0].rules[0].providers = vec!["openai".into(), "opneai".into()];
        let provider = ProviderDraft {
            path: "p".into(),
            name: "openai".into(),
            provider_type: crate::ProviderType::OpenAI,
            base_url: None,
            network: Default::default(),
        };
        let mut problems = Vec::new();
        known_providers(&draft, &[], &mut problems);
        assert!(problems.is_empty());
        known_providers(&draft, &[provider], &mut problems);
        let told = problems[0].to_string();
        assert_eq!(
            told,
            ".gradual.phases[0].rules[0].match.providers: no provider is named \"opneai\"; configured: openai"
        );
    }

    #[test]
    fn green_is_reached_at_once_or_after_a_preview() {
        let blue_green = |green, preview| MigrationDraft {
            strategy: Some(Strategy::BlueGreen),
            blue_green: Some(BlueGreenDraft { green, preview, watch: None }),
            ..MigrationDraft::default()
        };
        assert_eq!(checked(blue_green(false, None)).unwrap().goal().percent, 0);
        assert_eq!(checked(blue_green(true, None)).unwrap().goal().percent, 100);
        let preview = Some(GateDraft { hold: Some("10m".into()), pause: false });
        let plan = checked(blue_green(true, preview)).unwrap();
        assert_eq!((plan.walks, plan.gate(0).hold), (true, Duration::from_secs(600)));
    }

    #[test]
    fn what_is_copied_is_checked() {
        let shadow = ShadowDraft {
            percent: 5,
            daily_limit: "10.00".into(),
            skip_tools: true,
            skip_size: "256Ki".into(),
            skip_header: Some("X-No-Shadow".into()),
            ..ShadowDraft::default()
        };
        let with =
            |shadow, canary_percent| MigrationDraft { shadow: Some(shadow), canary_percent, ..Default::default() };
        let plan = checked(with(shadow.clone(), Some(10))).unwrap();
        let copied = plan.goal().shadow.unwrap();
        assert_eq!((copied.daily_limit, copied.max_body, copied.of), (10_000_000, 256 << 10, ShadowedArm::Baseline));
        assert_eq!(copied.skip_header.as_deref(), Some("x-no-shadow"));
        let problems = checked(with(shadow.clone(), None)).unwrap_err();
        assert!(problems[0].starts_with("m.shadow.of: under DropIn"), "{problems:?}");
        let wrong = ShadowDraft {
            percent: 101,
            daily_limit: "0".into(),
            skip_size: "2Mi".into(),
            skip_header: Some("a b".into()),
            ..shadow
        };
        let members = ["percent", "dailyLimit", "skip.size", "skip.header"].map(|name| format!("m.shadow.{name}: "));
        let problems = checked(with(wrong, Some(1))).unwrap_err();
        assert!(problems.iter().zip(&members).all(|(problem, start)| problem.starts_with(start)), "{problems:?}");
        assert_eq!(problems.len(), members.len());
    }
}
