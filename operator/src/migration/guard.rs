//! What watches a migration: the checks, and what a failure leads to. Read from the spec, with a problem for each member that makes
//! no sense.

use std::time::Duration;

use bifrost_analysis::{Action, Budget, Check, CheckKind, Failure, Limit};
use bifrost_config::prices::parse_money;
use bifrost_config::units::parse_duration;
use bifrost_config::{Plan, Problem};
use bifrost_crds::{
    AnalysisCheck, AnalysisSpec, CheckAction, CheckType, FailureClass, MigrationSpec, RollbackSpec, RollbackTarget,
};

use super::metric::{self, Metric};

/// The check where the spec names none.
const DEFAULT_CHECK: &str = "errors";
/// How long after a rollback it is tried again, unless configured.
const COOLDOWN: Duration = Duration::from_secs(600);

/// What watches a migration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guard {
    /// How the arms are compared; none: they are not.
    pub analysis: Option<Analysis>,
    /// Whether a rollback goes to the stage before, not to the floor.
    pub to_previous: bool,
    /// How often a failed stage is tried again by itself.
    pub retries: u32,
    /// How long after a rollback.
    pub cooldown: Duration,
}

/// How the arms are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// The checks, at least one.
    pub checks: Vec<Check>,
    /// What others measure.
    pub metrics: Vec<Metric>,
    /// Fewest requests for a pass.
    pub min_requests: u64,
    /// How probable a false alarm may be in the whole migration.
    pub budget: Budget,
}

impl Guard {
    /// Whether a container that ends sends the traffic back: where stages are taken by nobody's hand, or somebody asked for a watch.
    pub fn watches_crashes(&self, plan: &Plan) -> bool {
        self.analysis.is_some() || plan.walks || !plan.gate(plan.ceiling).is_open()
    }

    /// Whether there is a check of this kind. Some need what pods look at only where one asks for it.
    pub fn asks_for(&self, kind: &CheckKind) -> bool {
        self.analysis.as_ref().is_some_and(|analysis| analysis.checks.iter().any(|check| check.kind == *kind))
    }
}

/// Reads the spec.
pub fn guard(spec: &MigrationSpec) -> Result<Guard, Vec<Problem>> {
    let mut problems = Vec::new();
    let analysis = spec.analysis.as_ref().map(|analysis| read_analysis(analysis, "spec.migration", &mut problems));
    let compares_copies = |one: &Analysis| one.checks.iter().any(|check| check.kind == CheckKind::ShadowAgreement);
    if spec.shadow.is_none() && analysis.as_ref().is_some_and(compares_copies) {
        let message = "a check of type ShadowAgreement needs copies: set shadow, or take the check out";
        problems.push(Problem::invalid("spec.migration.shadow", message));
    }
    let mut guard = Guard { analysis, cooldown: COOLDOWN, ..Guard::default() };
    if let Some(RollbackSpec { to, retries, cooldown }) = &spec.rollback {
        guard.to_previous = *to == RollbackTarget::PreviousStep;
        guard.retries = u32::try_from(*retries).unwrap_or(0);
        guard.cooldown = parse_duration(cooldown).unwrap_or_else(|| {
            let message = format!("{cooldown:?} is no duration, such as 10m");
            problems.push(Problem::invalid("spec.migration.rollback.cooldown", message));
            COOLDOWN
        });
    }
    if problems.is_empty() { Ok(guard) } else { Err(problems) }
}

/// Reads an analysis alone. `path`: whose it is.
pub fn of_analysis(spec: Option<&AnalysisSpec>, path: &str) -> Result<Guard, Vec<Problem>> {
    let mut problems = Vec::new();
    let analysis = spec.map(|analysis| read_analysis(analysis, path, &mut problems));
    if problems.is_empty() { Ok(Guard { analysis, ..Guard::default() }) } else { Err(problems) }
}

fn read_analysis(spec: &AnalysisSpec, path: &str, problems: &mut Vec<Problem>) -> Analysis {
    let errors = || Check {
        name: DEFAULT_CHECK.to_owned(),
        kind: CheckKind::ErrorRate { classes: Vec::new() },
        limit: Limit::ERROR_RATE,
        action: Action::Rollback,
    };
    let mut checks = Vec::with_capacity(spec.checks.len().max(1));
    for (index, check) in spec.checks.iter().enumerate() {
        match limit(check) {
            Ok(limit) => {
                checks.push(Check { name: check.name.clone(), kind: kind(check), limit, action: action(check.action) })
            }
            Err((member, message)) => {
                let path = format!("{path}.analysis.checks[{index}].{member}");
                problems.push(Problem::invalid(path, message));
            }
        }
    }
    if checks.is_empty() {
        checks.push(errors());
    }
    let taken: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    let metrics = metric::read(&spec.metrics, path, &taken, problems);
    Analysis {
        checks,
        metrics,
        min_requests: u64::try_from(spec.min_requests).unwrap_or(100),
        budget: Budget { false_alarm: f64::from(spec.false_alarm_percent) / 100.0 },
    }
}

pub(super) fn action(action: Option<CheckAction>) -> Action {
    match action {
        None | Some(CheckAction::Rollback) => Action::Rollback,
        Some(CheckAction::Pause) => Action::Pause,
        Some(CheckAction::Warn) => Action::Warn,
    }
}

fn kind(check: &AnalysisCheck) -> CheckKind {
    match check.type_ {
        CheckType::ErrorRate => {
            CheckKind::ErrorRate { classes: check.failures.iter().map(|one| class(*one)).collect() }
        }
        CheckType::Latency => CheckKind::Latency,
        CheckType::TimeToFirstToken => CheckKind::TimeToFirstToken,
        CheckType::GatewayOverhead => CheckKind::GatewayOverhead,
        CheckType::OutputTokens => CheckKind::OutputTokens,
        CheckType::CostPerRequest => CheckKind::CostPerRequest,
        CheckType::EmptyResponseRate => CheckKind::EmptyResponseRate,
        CheckType::InvalidToolCallRate => CheckKind::InvalidToolCallRate,
        CheckType::ShadowAgreement => CheckKind::ShadowAgreement,
    }
}

const fn class(class: FailureClass) -> Failure {
    match class {
        FailureClass::Timeout => Failure::Timeout,
        FailureClass::Unreachable => Failure::Unreachable,
        FailureClass::Upstream5xx => Failure::Upstream5xx,
        FailureClass::RateLimited => Failure::RateLimited,
        FailureClass::ClientError => Failure::ClientError,
        FailureClass::Gateway => Failure::Gateway,
        FailureClass::BrokenStream => Failure::BrokenStream,
    }
}

fn limit(check: &AnalysisCheck) -> Result<Limit, (&'static str, String)> {
    if check.type_ == CheckType::ShadowAgreement {
        return least_agreement(check);
    }
    if check.min.is_some() {
        return Err(("min", "belongs to type ShadowAgreement: set max or maxIncrease in its place".to_owned()));
    }
    match (&check.max, &check.max_increase) {
        (Some(_), Some(_)) => Err(("max", "either max or maxIncrease: take one of the two out".to_owned())),
        (None, None) if check.type_ == CheckType::ErrorRate => Ok(Limit::ERROR_RATE),
        (None, None) => Err(("maxIncrease", "the check needs a limit: set max, or maxIncrease".to_owned())),
        (None, Some(text)) => match percent(text) {
            Some(increase) => Ok(Limit::AgainstBaseline(increase)),
            None => Err(("maxIncrease", format!("{text:?} is no percentage, such as 0.5%"))),
        },
        (Some(text), None) => most(check.type_, text).map(Limit::Absolute).map_err(|message| ("max", message)),
    }
}

/// The most copies that may differ.
fn least_agreement(check: &AnalysisCheck) -> Result<Limit, (&'static str, String)> {
    for (member, limit) in [("max", &check.max), ("maxIncrease", &check.max_increase)] {
        if limit.is_some() {
            return Err((
                member,
                format!("type ShadowAgreement has a least and no most: set min in place of {member}"),
            ));
        }
    }
    let text = check.min.as_deref().ok_or(("min", "the check needs a limit: set min, such as 95%".to_owned()))?;
    let least = percent(text).filter(|least| *least <= 1.0);
    let least = least.ok_or_else(|| ("min", format!("{text:?} is no percentage from 0% to 100%, such as 95%")))?;
    Ok(Limit::Absolute(1.0 - least))
}

fn most(kind: CheckType, text: &str) -> Result<f64, String> {
    match kind {
        CheckType::ErrorRate
        | CheckType::EmptyResponseRate
        | CheckType::InvalidToolCallRate
        | CheckType::ShadowAgreement => percent(text).ok_or_else(|| format!("{text:?} is no percentage, such as 2%")),
        CheckType::Latency | CheckType::TimeToFirstToken | CheckType::GatewayOverhead => parse_duration(text)
            .map(|most| most.as_secs_f64() * 1000.0)
            .ok_or_else(|| format!("{text:?} is no duration, such as 800ms")),
        CheckType::OutputTokens => {
            text.parse::<u32>().map(f64::from).map_err(|_| format!("{text:?} is no number of tokens, such as 500"))
        }
        CheckType::CostPerRequest => parse_money(text)
            .filter(|micros| *micros > 0)
            .map(|micros| micros as f64 / 1e6)
            .ok_or_else(|| format!("{text:?} is no amount of money, such as 0.002")),
    }
}

/// `0.5%` is 0.005.
fn percent(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number.parse::<f64>().ok().filter(|_| is_plain).map(|percent| percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(analysis: serde_json::Value) -> Result<Analysis, String> {
        read_spec(json!({"canaryPercent": 10, "analysis": analysis}))
    }

    fn read_spec(spec: serde_json::Value) -> Result<Analysis, String> {
        match guard(&serde_json::from_value::<MigrationSpec>(spec).unwrap()) {
            Ok(guard) => Ok(guard.analysis.unwrap()),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    #[test]
    fn an_empty_analysis_watches_errors() {
        let analysis = read(json!({})).unwrap();
        assert_eq!(analysis.checks.len(), 1);
        assert_eq!(analysis.checks[0].limit, Limit::ERROR_RATE);
        assert_eq!((analysis.min_requests, analysis.budget.false_alarm), (100, 0.01));
    }

    #[test]
    fn a_metric_has_a_name_that_no_check_has() {
        let metrics = json!([{"name": "errors", "webhook": {"url": "http://w"}}]);
        let named = json!({"checks": [{"name": "failures", "type": "ErrorRate"}], "metrics": metrics});
        assert_eq!(read(named).unwrap().metrics.len(), 1);
        let problem = read(json!({"metrics": metrics})).unwrap_err();
        assert!(problem.starts_with("spec.migration.analysis.metrics[0].name: a check is called errors"), "{problem}");
    }

    #[test]
    fn limits_are_read_by_what_they_limit() {
        let analysis = read(json!({"checks": [
            {"name": "a", "type": "ErrorRate", "max": "2.5%", "failures": ["Timeout"]},
            {"name": "b", "type": "TimeToFirstToken", "max": "1500ms", "action": "Pause"},
            {"name": "c", "type": "Latency", "maxIncrease": "20%", "action": "Warn"},
            {"name": "d", "type": "OutputTokens", "max": "500"},
            {"name": "e", "type": "CostPerRequest", "max": "0.002"},
        ]}))
        .unwrap();
        let limits: Vec<_> = analysis.checks.iter().map(|check| check.limit).collect();
        assert_eq!(
            limits,
            [
                Limit::Absolute(0.025),
                Limit::Absolute(1500.0),
                Limit::AgainstBaseline(0.2),
                Limit::Absolute(500.0),
                Limit::Absolute(0.002)
            ]
        );
        assert_eq!(analysis.checks[0].kind, CheckKind::ErrorRate { classes: vec![Failure::Timeout] });
        assert_eq!((analysis.checks[1].action, analysis.checks[2].action), (Action::Pause, Action::Warn));
    }

    #[test]
    fn agreement_has_a_least_and_needs_a_shadow() {
        let checks = |change: serde_json::Value| {
            let mut check = json!({"name": "a", "type": "ShadowAgreement"});
            check.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!({"checks": [check]})
        };
        let copied = |change| {
            let shadow = json!({"percent": 5, "dailyLimit": "1"});
            read_spec(json!({"canaryPercent": 10, "shadow": shadow, "analysis": checks(change)}))
        };
        let read_min = copied(json!({"min": "75%"})).unwrap();
        assert_eq!(
            (&read_min.checks[0].kind, read_min.checks[0].limit),
            (&CheckKind::ShadowAgreement, Limit::Absolute(0.25))
        );
        let alone = read(checks(json!({"min": "75%"}))).unwrap_err();
        assert!(alone.starts_with("spec.migration.shadow: "), "{alone}");
        for (change, member) in [
            (json!({}), "min"),
            (json!({"min": "101%"}), "min"),
            (json!({"min": "a%"}), "min"),
            (json!({"min": "95%", "max": "5%"}), "max"),
            (json!({"min": "95%", "maxIncrease": "5%"}), "maxIncrease"),
            (json!({"type": "ErrorRate", "min": "95%"}), "min"),
        ] {
            let problem = copied(change).unwrap_err();
            assert!(problem.starts_with(&format!("spec.migration.analysis.checks[0].{member}: ")), "{problem}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let problems = read(json!({"checks": [
            {"name": "a", "type": "Latency"},
            {"name": "b", "type": "Latency", "max": "20%"},
            {"name": "c", "type": "ErrorRate", "max": "1%", "maxIncrease": "1%"},
            {"name": "d", "type": "ErrorRate", "maxIncrease": "1e3%"},
            {"name": "e", "type": "CostPerRequest", "max": "0"},
        ]}))
        .unwrap_err();
        for (index, member) in [(0, "maxIncrease"), (1, "max"), (2, "max"), (3, "maxIncrease"), (4, "max")] {
            assert!(problems.contains(&format!("spec.migration.analysis.checks[{index}].{member}: ")), "{problems}");
        }
    }
}
