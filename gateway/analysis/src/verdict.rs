//! The verdict: is the new arm worse than allowed?
//!
//! *Fail*: the evidence of a check against "not worse than allowed", averaged over each stratum and all strata together with
//! fixed weights, exceeds what its part of the budget asks for; or the new arm fails grossly. *Pass*: enough has been measured,
//! no check fails, and the estimate over all strata exceeds the limit by no more than one standard error. It is not asked that
//! the upper bound lies below the limit: that would take days at ordinary rates, and a difference that is really there is found
//! later. Everything else is *Inconclusive*.

use std::collections::BTreeSet;

use crate::bound;
use crate::budget::{self, Budget, Position};
use crate::check::{Action, Check, CheckKind, Limit, Prices, Scale};
use crate::contrast::{Contrast, contrast};
use crate::gross;
use crate::ledger::Merged;
use crate::measure::Measured;
use crate::recent::Tally;
use crate::report::{self, Cause, CheckReport, GROSS_FAILURE, Report, Shown, Verdict};
use crate::stratum::{Arm, Stratum};
use crate::window::{ArmStats, StratumStats};

/// From which variance on the bound of a share is tight, in failures.
const TUNED_FOR_FAILURES: f64 = 8.0;
/// From how many requests on (half the harmonic mean of the arms) the bound of any other mean is tight.
const TUNED_FOR_REQUESTS: f64 = 100.0;
/// A share fails only with so many failures on the arms that are looked at: with fewer a normal's tails are not theirs.
const LEAST_FAILURES: f64 = 20.0;
/// A check fails only with so many groups of users on each arm, counted as if they had equally many requests.
const LEAST_GROUPS: f64 = 8.0;
/// The share of the new arm's requests without anything on the old arm to compare them with that a Pass puts up with.
const MOST_WITHOUT_BASELINE: f64 = 0.2;
/// The share of the traffic that must be known for a Fail.
const LEAST_KNOWN: f64 = 0.8;
/// So many models without a price are named.
const MODELS_NAMED: usize = 3;

/// What the verdict is asked with.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What was measured.
    pub merged: &'a Merged,
    /// What is checked besides gross failure. It must not change within a step but by the user.
    pub checks: &'a [Check],
    /// Prices, for the cost of requests.
    pub prices: &'a Prices,
    /// The budget of the whole migration.
    pub budget: Budget,
    /// Where the migration stands.
    pub position: Position,
    /// The fewest requests on the new arm, and on the old one where it is compared with. 100 is usual.
    pub min_requests: u64,
}

/// The verdict on everything known at this moment.
pub fn verdict(inputs: &Inputs<'_>) -> Report {
    conclude(inputs, checks(inputs))
}

/// The same at many moments of one step, cheaply: checks are looked at again when the new arm's data has grown by 2 %, gross
/// failure every time. Begin a new one with each step.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    last: Option<Look>,
}

#[derive(Debug, Clone)]
struct Look {
    /// Requests on the new arm, and copies.
    requests: u64,
    checks: Vec<Check>,
    reports: Vec<CheckReport>,
}

impl Watch {
    /// How much more data there must be for the next look.
    const GROWTH: f64 = 1.02;

    /// Whether the checks would be looked at again with so many requests on the new arm, copies included.
    pub fn is_due(&self, requests: u64) -> bool {
        self.last.as_ref().is_none_or(|last| requests as f64 >= last.requests as f64 * Self::GROWTH)
    }

    /// The verdict, with the checks as of the last look. Other checks than then are looked at at once.
    pub fn look(&mut self, inputs: &Inputs<'_>) -> Report {
        let total = &inputs.merged.total;
        let requests = total.requests(Arm::Bifrost) + total.copies();
        let is_due = self.is_due(requests);
        let current = self.last.take().filter(|last| !is_due && last.checks == inputs.checks);
        let look = || Look { requests, checks: inputs.checks.to_vec(), reports: checks(inputs) };
        let reports = self.last.insert(current.unwrap_or_else(look)).reports.clone();
        conclude(inputs, reports)
    }
}

fn checks(inputs: &Inputs<'_>) -> Vec<CheckReport> {
    inputs.checks.iter().map(|check| look(inputs, check)).collect()
}

/// Adds the watch for gross failure, and what missing pods forbid.
fn conclude(inputs: &Inputs<'_>, mut checks: Vec<CheckReport>) -> Report {
    checks.push(gross_failure(inputs));
    for check in &mut checks {
        match check.verdict {
            Verdict::Fail if inputs.merged.known_share < LEAST_KNOWN => {
                check.hold(Cause::UnknownTraffic, "but answers cover too little of the traffic");
            }
            Verdict::Pass if !inputs.merged.is_complete => {
                check.hold(Cause::MissingPods, "but not every pod has answered");
            }
            _ => {}
        }
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail);
    let action = failed.map(|check| check.action).max();
    let mut counting = checks.iter().filter(|check| check.action > Action::Warn);
    let verdict = if action > Some(Action::Warn) {
        Verdict::Fail
    } else if counting.all(|check| check.verdict == Verdict::Pass) {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    };
    Report { verdict, action, checks }
}

impl CheckReport {
    fn hold(&mut self, cause: Cause, why: &str) {
        self.verdict = Verdict::Inconclusive;
        self.cause = Some(cause);
        self.reason = format!("{}, {why}", self.reason);
    }
}

/// One comparison of a check: over all strata, or in one.
struct Comparison {
    stratum: Option<Stratum>,
    weight: f64,
    contrast: Contrast,
    /// Of the weighted evidence; none when there is too little data to fail.
    log_evidence: Option<f64>,
}

fn look(inputs: &Inputs<'_>, check: &Check) -> CheckReport {
    let alpha = inputs.budget.of_check(inputs.position, inputs.checks.len());
    let comparisons = compare(inputs, check);
    let unpriced = unpriced(inputs, check);
    let evidence: f64 = comparisons.iter().filter_map(|comparison| comparison.log_evidence).map(f64::exp).sum();
    let strongest = comparisons.iter().max_by(|a, b| {
        let evidence = |c: &Comparison| c.log_evidence.unwrap_or(f64::NEG_INFINITY);
        evidence(a).total_cmp(&evidence(b))
    });
    match strongest {
        Some(strongest) if strongest.log_evidence.is_some() && evidence >= 1.0 / alpha => {
            describe(inputs, check, strongest, alpha, Verdict::Fail, None, None)
        }
        // The first is the one over all strata.
        _ => match comparisons.first() {
            Some(first) => {
                let cause = hinders(inputs, check, &first.contrast, unpriced.is_some());
                let verdict = if cause.is_none() { Verdict::Pass } else { Verdict::Inconclusive };
                describe(inputs, check, first, alpha, verdict, cause, unpriced.as_deref())
            }
            None => nothing_measured(inputs, check, unpriced),
        },
    }
}

/// All comparisons of a check that have data on the arms they need; the one over all strata comes first.
fn compare(inputs: &Inputs<'_>, check: &Check) -> Vec<Comparison> {
    let scale = check.kind.scale();
    let count = inputs.merged.total.strata().len();
    let mut measured = Vec::with_capacity(count);
    for (order, stats) in inputs.merged.total.strata().iter().enumerate() {
        let price = inputs.prices.get(&stats.stratum).copied();
        if check.kind.applies_to(&stats.stratum) {
            measured.push((order, &stats.stratum, Measured::new(&check.kind, stats, price)));
        }
    }
    let comparison = |parts: &[Measured], stratum: Option<&Stratum>, weight: f64| {
        let contrast = contrast(parts, scale, check.limit)?;
        let log_evidence = log_evidence(inputs, check, &contrast).map(|evidence| evidence + weight.ln());
        Some(Comparison { stratum: stratum.cloned(), weight, contrast, log_evidence })
    };
    let mut comparisons = Vec::with_capacity(count + 1);
    if count > 1 {
        let all: Vec<Measured> = measured.iter().map(|(.., measured)| *measured).collect();
        // Where only one stratum has what the check measures, all of it is that one.
        let only = if let [(_, stratum, _)] = measured.as_slice() { Some(*stratum) } else { None };
        comparisons.extend(comparison(&all, only, budget::pooled_weight(count)));
    }
    comparisons.extend(measured.iter().filter_map(|(order, stratum, measured)| {
        comparison(std::slice::from_ref(measured), Some(stratum), budget::stratum_weight(*order, count))
    }));
    comparisons
}

/// Which models cannot be priced, of a check on cost: those whose tokens were counted on the new arm. What has no tokens, such as a
/// list of models, needs no price.
fn unpriced(inputs: &Inputs<'_>, check: &Check) -> Option<String> {
    if check.kind != CheckKind::CostPerRequest {
        return None;
    }
    let has_tokens = |stats: &StratumStats| {
        stats.arm(Arm::Bifrost).is_some_and(|arm| arm.groups.iter().any(|group| group.usage.n > 0))
    };
    let lacking = inputs.merged.total.strata().iter();
    let lacking = lacking.filter(|stats| has_tokens(stats) && !inputs.prices.contains_key(&stats.stratum));
    let models: BTreeSet<_> =
        lacking.map(|stats| (stats.stratum.provider.as_str(), stats.stratum.model.as_str())).collect();
    let named = models.iter().take(MODELS_NAMED).map(|(provider, model)| format!("{provider}/{model}"));
    let named: Vec<_> = named.collect();
    let more = match models.len().saturating_sub(MODELS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!models.is_empty()).then(|| {
        format!(
            "no price for {}{more}: add it to the operator's price list (value prices of its chart)",
            named.join(", ")
        )
    })
}

/// The evidence against "not worse than allowed"; none when there is too little data to fail on.
fn log_evidence(inputs: &Inputs<'_>, check: &Check, contrast: &Contrast) -> Option<f64> {
    let least = (inputs.min_requests as f64).max(1.0);
    let is_compared = contrast.baseline.is_some();
    let has_data = contrast.counts[1] >= least
        && (!is_compared || contrast.counts[0] >= least)
        && contrast.groups.iter().all(|&groups| groups >= LEAST_GROUPS)
        && (check.kind.scale() != Scale::Share || contrast.sums[0] + contrast.sums[1] >= LEAST_FAILURES);
    has_data.then(|| {
        let score = bound::student_to_normal(contrast.excess / contrast.std_error, contrast.freedom);
        bound::log_evidence(score, contrast.seen, tuned_for(check))
    })
}

fn tuned_for(check: &Check) -> f64 {
    if check.kind.scale() == Scale::Share { TUNED_FOR_FAILURES } else { TUNED_FOR_REQUESTS }
}

/// What stands in the way of a Pass.
fn hinders(inputs: &Inputs<'_>, check: &Check, contrast: &Contrast, lacks_price: bool) -> Option<Cause> {
    let least = (inputs.min_requests as f64).max(1.0);
    let is_compared = matches!(check.limit, Limit::AgainstBaseline(_));
    if contrast.counts[1] < least || (is_compared && contrast.counts[0] < least) {
        Some(Cause::TooFewRequests)
    } else if lacks_price {
        Some(Cause::NoPrice)
    } else if is_compared && share_without_baseline(inputs, check) > MOST_WITHOUT_BASELINE {
        Some(Cause::NoBaseline)
    } else if contrast.groups.iter().any(|&groups| groups < LEAST_GROUPS) {
        Some(Cause::TooFewUsers)
    } else if contrast.excess > contrast.std_error {
        Some(Cause::Unproven)
    } else {
        None
    }
}

/// Which share of the new arm's requests lies in strata that the old arm does not have.
fn share_without_baseline(inputs: &Inputs<'_>, check: &Check) -> f64 {
    let (mut all, mut alone) = (0, 0);
    for stats in inputs.merged.total.strata().iter().filter(|stats| check.kind.applies_to(&stats.stratum)) {
        let requests = |arm| stats.arm(arm).map_or(0, ArmStats::requests);
        all += requests(Arm::Bifrost);
        alone += if requests(Arm::Baseline) == 0 { requests(Arm::Bifrost) } else { 0 };
    }
    if all == 0 { 0.0 } else { alone as f64 / all as f64 }
}

fn describe(
    inputs: &Inputs<'_>,
    check: &Check,
    found: &Comparison,
    alpha: f64,
    verdict: Verdict,
    cause: Option<Cause>,
    unpriced: Option<&str>,
) -> CheckReport {
    let Comparison { stratum, weight, contrast, .. } = found;
    let score = bound::critical_score(alpha * weight, contrast.seen, tuned_for(check));
    let half_width = bound::normal_to_student(score, contrast.freedom) * contrast.std_error;
    let shown = Shown::new(contrast, check.kind.scale(), check.limit, half_width);
    let requests = contrast.counts.map(|count| count as u64);
    let conclusion = match (cause, unpriced) {
        (Some(Cause::NoPrice), Some(unpriced)) => unpriced.to_owned(),
        _ => report::conclusion(check, verdict, cause, inputs.min_requests),
    };
    let observed = report::observed(&check.kind, &shown, requests);
    CheckReport {
        name: check.name.clone(),
        verdict,
        cause,
        action: check.action,
        reason: format!("{} {}: {observed}, {conclusion}", check.name, report::place(stratum.as_ref())),
        stratum: stratum.clone(),
        baseline: shown.baseline,
        bifrost: Some(shown.bifrost),
        estimate: Some(shown.estimate),
        bounds: Some(shown.bounds),
        requests,
    }
}

fn nothing_measured(inputs: &Inputs<'_>, check: &Check, unpriced: Option<String>) -> CheckReport {
    let requests = [Arm::Baseline, Arm::Bifrost].map(|arm| inputs.merged.total.requests(arm));
    let is_compared = matches!(check.limit, Limit::AgainstBaseline(_));
    let (cause, why) = if let Some(unpriced) = &unpriced {
        (Cause::NoPrice, unpriced.as_str())
    } else if is_compared && requests[0] == 0 && requests[1] > 0 {
        (Cause::NoBaseline, "the baseline arm has no traffic to compare with")
    } else if check.kind == CheckKind::ShadowAgreement {
        (Cause::TooFewRequests, "nothing has been copied and compared yet, see status.shadow")
    } else {
        let why = match check.kind {
            CheckKind::TimeToFirstToken => "no stream with output has been seen yet",
            CheckKind::InvalidToolCallRate => "no answer that calls a tool has been seen yet",
            _ => "nothing has been measured yet",
        };
        (Cause::TooFewRequests, why)
    };
    CheckReport::plain(&check.name, Verdict::Inconclusive, Some(cause), check.action, requests)
        .because(format!("{}: {why}", check.name))
}

impl CheckReport {
    fn plain(name: &str, verdict: Verdict, cause: Option<Cause>, action: Action, requests: [u64; 2]) -> Self {
        Self {
            name: name.into(),
            verdict,
            cause,
            action,
            stratum: None,
            baseline: None,
            bifrost: None,
            estimate: None,
            bounds: None,
            requests,
            reason: String::new(),
        }
    }

    fn because(self, reason: String) -> Self {
        Self { reason, ..self }
    }
}

fn gross_failure(inputs: &Inputs<'_>) -> CheckReport {
    let alpha = inputs.budget.of_gross_failure(inputs.position);
    let step = Tally::of(&inputs.merged.total);
    if let Some(found) = gross::find(&inputs.merged.recent, &step, alpha, inputs.merged.gross_looks) {
        let share = |arm: usize| found.failures[arm] as f64 / found.requests[arm].max(1) as f64;
        let percent = |arm: usize| report::value(&CheckKind::EmptyResponseRate, share(arm));
        let place = report::place(found.stratum.as_ref());
        let counts = format!("{} of {}", report::grouped(found.failures[1]), report::grouped(found.requests[1]));
        let reason = if found.is_compared {
            format!(
                "{GROSS_FAILURE} {place}: {counts} recent requests failed on the bifrost arm, {} against {} on baseline",
                percent(1),
                percent(0)
            )
        } else {
            format!(
                "{GROSS_FAILURE} {place}: {counts} recent requests failed on the bifrost arm, and baseline has no traffic to compare with"
            )
        };
        return CheckReport {
            stratum: found.stratum,
            baseline: found.is_compared.then(|| share(0)),
            bifrost: Some(share(1)),
            estimate: Some(if found.is_compared { share(1) - share(0) } else { share(1) }),
            ..CheckReport::plain(GROSS_FAILURE, Verdict::Fail, None, Action::Rollback, found.requests)
        }
        .because(reason);
    }
    let requests = [Arm::Baseline, Arm::Bifrost].map(|arm| inputs.merged.total.requests(arm));
    let (verdict, cause, why) = if requests[1] < inputs.min_requests {
        (Verdict::Inconclusive, Some(Cause::TooFewRequests), "too few requests yet")
    } else {
        (Verdict::Pass, None, "none")
    };
    CheckReport::plain(GROSS_FAILURE, verdict, cause, Action::Rollback, requests)
        .because(format!("{GROSS_FAILURE}: {why} ({} requests on the bifrost arm)", report::grouped(requests[1])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Price;
    use crate::sample::Sample;
    use crate::window::Window;

    /// 300 requests of a model on each arm, of 64 users.
    fn count(window: &mut Window, model: &str, endpoint: &str, tokens: Option<u64>) {
        for request in 0..300 {
            let sample =
                Sample { group: request % 64, input_tokens: tokens, output_tokens: tokens, ..Sample::default() };
            for arm in [Arm::Baseline, Arm::Bifrost] {
                window.record(("openai", model, endpoint, false), arm, &sample);
            }
        }
    }

    fn cost(window: Window, prices: &Prices) -> CheckReport {
        let check = Check {
            name: "cost".into(),
            kind: CheckKind::CostPerRequest,
            limit: Limit::Absolute(1.0),
            action: Action::Rollback,
        };
        let merged = Merged { total: window, known_share: 1.0, is_complete: true, ..Merged::default() };
        let report = verdict(&Inputs {
            merged: &merged,
            checks: &[check],
            prices,
            budget: Budget { false_alarm: 0.01 },
            position: Position { step: 0, steps: None },
            min_requests: 100,
        });
        report.checks.into_iter().next().unwrap()
    }

    #[test]
    fn a_model_without_a_price_is_named_and_what_has_no_tokens_needs_none() {
        let priced = Stratum {
            provider: "openai".into(),
            model: "known".into(),
            endpoint: "chat_completion".into(),
            stream: false,
        };
        let prices = Prices::from([(priced, Price { input: 1e-6, output: 1e-6 })]);
        let mut window = Window::new();
        count(&mut window, "known", "chat_completion", Some(100));
        count(&mut window, "", "list_models", None);
        assert_eq!(cost(window.clone(), &prices).verdict, Verdict::Pass);
        for model in ["a", "b", "c", "d"] {
            count(&mut window, model, "chat_completion", Some(100));
        }
        let report = cost(window, &prices);
        assert_eq!((report.verdict, report.cause), (Verdict::Inconclusive, Some(Cause::NoPrice)));
        let names = "no price for openai/a, openai/b, openai/c and 1 more: add it to the operator's price list";
        assert!(report.reason.contains(names), "{}", report.reason);
    }
}
