//! What a verdict says, and why, in words for the people who run the platform.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::check::{Action, Check, CheckKind, Limit, Scale};
use crate::contrast::Contrast;
use crate::stratum::Stratum;

/// The outcome of one analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// There is enough data and nothing speaks against going on.
    Pass,
    /// The new arm is worse than allowed. With all looks together this is wrong as rarely as the budget says.
    Fail,
    /// Neither, or not yet. It neither advances nor rolls back.
    Inconclusive,
}

/// Why a check is inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Less than what was asked for has been measured.
    TooFewRequests,
    /// The old arm has no traffic to compare with.
    NoBaseline,
    /// Too few users to tell the arm from a user.
    TooFewUsers,
    /// Above the limit, but it may still be chance.
    Unproven,
    /// It would fail, but recent answers cover too little of the traffic.
    UnknownTraffic,
    /// It would pass, but not every pod answered.
    MissingPods,
    /// A stratum has no price.
    NoPrice,
}

/// The verdict and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The verdict. A check whose action is to warn has no part in it.
    pub verdict: Verdict,
    /// The strongest action of the checks that failed, also [`Action::Warn`].
    pub action: Option<Action>,
    /// Each check, in the order asked for, and last the watch for gross failure.
    pub checks: Vec<CheckReport>,
}

/// One check's outcome. Numbers are shares, milliseconds, tokens or money, as the check measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: String,
    /// Its outcome.
    pub verdict: Verdict,
    /// Why it is inconclusive, if it is.
    pub cause: Option<Cause>,
    /// What follows if it fails.
    pub action: Action,
    /// The stratum that decided; none: all strata together.
    pub stratum: Option<Stratum>,
    /// The old arm's value, when it is compared with.
    pub baseline: Option<f64>,
    /// The new arm's value.
    pub bifrost: Option<f64>,
    /// The difference: points for shares, relative for everything else; for an absolute limit the new arm's value itself.
    pub estimate: Option<f64>,
    /// Between these the true difference lies, at every look of the step.
    pub bounds: Option<(f64, f64)>,
    /// Requests of the old and of the new arm.
    pub requests: [u64; 2],
    /// All that in one sentence.
    pub reason: String,
}

/// The name of the watch for gross failure among the checks.
pub const GROSS_FAILURE: &str = "GrossFailure";

/// A comparison in the units of a report.
pub(crate) struct Shown {
    pub(crate) baseline: Option<f64>,
    pub(crate) bifrost: f64,
    pub(crate) estimate: f64,
    pub(crate) bounds: (f64, f64),
}

impl Shown {
    /// `half_width` is that of the excess, on the measure's own scale.
    pub(crate) fn new(contrast: &Contrast, scale: Scale, limit: Limit, half_width: f64) -> Self {
        let natural = |mean: f64| if scale == Scale::LogMillis { mean.exp() } else { mean };
        let bifrost = natural(contrast.bifrost);
        let show = |excess: f64| match (limit, scale) {
            (Limit::Absolute(_), _) => natural(excess - contrast.excess + contrast.bifrost),
            (Limit::AgainstBaseline(increase), Scale::Share) => excess + increase,
            (Limit::AgainstBaseline(increase), Scale::LogMillis) => (excess + increase.ln_1p()).exp() - 1.0,
            (Limit::AgainstBaseline(increase), Scale::Mean) => {
                let baseline = contrast.baseline.unwrap_or_default();
                if baseline > 0.0 { excess / baseline + increase } else { 0.0 }
            }
        };
        // Bounded, since a report is JSON and knows no infinity.
        let finite = |value: f64| value.clamp(-1e300, 1e300);
        Self {
            baseline: contrast.baseline.map(natural),
            bifrost,
            estimate: finite(show(contrast.excess)),
            bounds: (finite(show(contrast.excess - half_width)), finite(show(contrast.excess + half_width))),
        }
    }
}

/// A measured value as people read it.
pub(crate) fn value(kind: &CheckKind, value: f64) -> String {
    match kind.scale() {
        Scale::Share if *kind == CheckKind::ShadowAgreement => format!("{} %", digits((1.0 - value) * 100.0)),
        Scale::Share => format!("{} %", digits(value * 100.0)),
        Scale::LogMillis => format!("{} ms", digits(value)),
        Scale::Mean if *kind == CheckKind::OutputTokens => format!("{} tokens", digits(value)),
        Scale::Mean => digits(value),
    }
}

/// A limit as people read it.
pub(crate) fn limit(kind: &CheckKind, limit: Limit) -> String {
    match limit {
        Limit::Absolute(most) => value(kind, most),
        Limit::AgainstBaseline(increase) if kind.scale() == Scale::Share => {
            format!("+{} points", digits(increase * 100.0))
        }
        Limit::AgainstBaseline(increase) => format!("+{} %", digits(increase * 100.0)),
    }
}

/// What follows from what was observed, as a clause. `least`: the requests that are needed.
pub(crate) fn conclusion(check: &Check, verdict: Verdict, cause: Option<Cause>, least: u64) -> String {
    let limit = limit(&check.kind, check.limit);
    let (over, within, counted) = match check.kind {
        CheckKind::ShadowAgreement => (["less than", "below"], "not less than", "copies"),
        _ => (["more than", "above"], "within", "requests"),
    };
    match (verdict, cause) {
        (Verdict::Fail, _) => format!("{} {limit} at any look", over[0]),
        (Verdict::Pass, _) => format!("{within} {limit}"),
        (_, Some(Cause::Unproven)) => format!("{} {limit}, which may still be chance", over[1]),
        (_, Some(Cause::TooFewUsers)) => "too few users to tell the arm from a user".into(),
        (_, Some(Cause::NoBaseline)) => "and many of its requests have none on the baseline arm to compare with".into(),
        (_, Some(Cause::NoPrice)) => "some requests have no price".into(),
        _ => {
            let whose = if matches!(check.limit, Limit::Absolute(_)) { "the bifrost arm" } else { "each arm" };
            format!("too few {counted} yet: {} are needed on {whose}", grouped(least))
        }
    }
}

/// Three figures that matter, without an end of zeros.
fn digits(number: f64) -> String {
    let places = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 || size == 0.0 => 2,
        size if size >= 0.0001 => 5,
        // Of money, down to parts of a micro-unit.
        _ => 8,
    };
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number with a comma at each thousand.
pub(crate) fn grouped(number: u64) -> String {
    let text = number.to_string();
    let mut out = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// "openai/gpt-4o-mini chat_completion", or all strata.
pub(crate) fn place(stratum: Option<&Stratum>) -> String {
    stratum.map_or_else(|| "all requests".into(), ToString::to_string)
}

/// What both arms show, as a clause.
pub(crate) fn observed(kind: &CheckKind, shown: &Shown, requests: [u64; 2]) -> String {
    if *kind == CheckKind::ShadowAgreement {
        return format!("{} of {} copies agree", value(kind, shown.bifrost), grouped(requests[1]));
    }
    let mut text = format!("{} on the bifrost arm", value(kind, shown.bifrost));
    // Writing to a string cannot fail.
    let _ = match shown.baseline {
        Some(baseline) => write!(
            text,
            " against {} on baseline ({} and {} requests)",
            value(kind, baseline),
            grouped(requests[1]),
            grouped(requests[0])
        ),
        None => write!(text, " ({} requests)", grouped(requests[1])),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_204_000), "1,204,000");
        assert_eq!(value(&CheckKind::EmptyResponseRate, 0.031), "3.1 %");
        assert_eq!(value(&CheckKind::Latency, 1234.5), "1234 ms");
        assert_eq!(value(&CheckKind::OutputTokens, 0.0), "0 tokens");
        assert_eq!(limit(&CheckKind::EmptyResponseRate, Limit::AgainstBaseline(0.005)), "+0.5 points");
        assert_eq!(limit(&CheckKind::Latency, Limit::AgainstBaseline(0.2)), "+20 %");
        assert_eq!(value(&CheckKind::CostPerRequest, 0.00042), "0.00042");
        assert_eq!(value(&CheckKind::CostPerRequest, 0.000_012_3), "0.0000123");
    }
}
