//! By how much a measure of the new arm exceeds what is allowed, and how sure that is, in one stratum or over several.
//!
//! Variances are those of ratios over groups of users, with the small-sample factor G/(G−1): A. C. Cameron, J. Gelbach,
//! D. Miller, "Robust inference with multiway clustering", 2011, section 2. A group's requests in all strata go together, since a
//! user's do. Over strata, differences inside the strata are averaged with the weights of N. Mantel, W. Haenszel, "Statistical
//! aspects of the analysis of data from retrospective studies of disease", 1959: a mix of models that differs between the arms
//! is no difference. Freedom is that of F. Satterthwaite, "An approximate distribution of estimates of variance components", 1946.

use crate::check::{Limit, Scale};
use crate::measure::{Measured, Side};
use crate::stratum::GROUPS;

/// No standard error is taken to be smaller, as a part of the estimate: values that are all the same have none.
const LEAST_RELATIVE_ERROR: f64 = 1e-6;

/// What the comparison of one measure gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contrast {
    /// The old arm's mean, weighted as the comparison is; none when only the new one is looked at.
    pub(crate) baseline: Option<f64>,
    /// The new arm's mean.
    pub(crate) bifrost: f64,
    /// By how much the new arm exceeds what is allowed, on the measure's own scale.
    pub(crate) excess: f64,
    /// The excess' standard error.
    pub(crate) std_error: f64,
    /// Degrees of freedom of the standard error.
    pub(crate) freedom: f64,
    /// How much has been seen, which only grows: variance in units of failures for shares, a number of requests for the rest.
    pub(crate) seen: f64,
    /// Values of each arm, old and new.
    pub(crate) counts: [f64; 2],
    /// Sums of each arm, old and new; failures, for shares.
    pub(crate) sums: [f64; 2],
    /// How many groups of users each arm has, counted as if all had equally many requests. Infinite for an arm not looked at.
    pub(crate) groups: [f64; 2],
}

/// What is summed over strata for one arm.
struct ArmTotal {
    mean: f64,
    influence: [f64; GROUPS],
    load: [f64; GROUPS],
    /// The variance, were requests independent, at the arm's own rate and at the rate of both arms together.
    binomial: f64,
    binomial_null: f64,
    count: f64,
    sum: f64,
}

/// Compares. None when there is nothing to compare or the numbers are out of all bounds.
pub(crate) fn contrast(parts: &[Measured], scale: Scale, limit: Limit) -> Option<Contrast> {
    let weight = |part: &Measured| match limit {
        Limit::Absolute(_) => part.bifrost.count,
        Limit::AgainstBaseline(_) => harmonic(part.baseline.count, part.bifrost.count),
    };
    let all: f64 = parts.iter().map(weight).sum();
    if all <= 0.0 {
        return None;
    }
    let mut old = ArmTotal::new();
    let mut new = ArmTotal::new();
    for part in parts {
        let share = weight(part) / all;
        if share > 0.0 {
            let null_rate = match limit {
                Limit::Absolute(most) => most.clamp(0.0, 1.0),
                Limit::AgainstBaseline(_) => {
                    (part.baseline.sum + part.bifrost.sum) / (part.baseline.count + part.bifrost.count)
                }
            };
            new.add(&part.bifrost, share, null_rate);
            if matches!(limit, Limit::AgainstBaseline(_)) {
                old.add(&part.baseline, share, null_rate);
            }
        }
    }
    let contrast = match limit {
        Limit::Absolute(most) => absolute(&new, scale, most, all),
        Limit::AgainstBaseline(increase) => against(&old, &new, scale, increase, all),
    };
    (contrast.excess.is_finite() && contrast.std_error.is_finite() && contrast.seen.is_finite()).then_some(contrast)
}

fn absolute(new: &ArmTotal, scale: Scale, most: f64, all: f64) -> Contrast {
    let allowed = if scale == Scale::LogMillis { most.ln() } else { most };
    let mut variance = new.variance();
    let floor = (new.mean.abs() * LEAST_RELATIVE_ERROR).powi(2);
    if scale == Scale::Share {
        variance = variance.max(design_effect(variance, new.binomial) * new.binomial_null);
    }
    variance = variance.max(floor).max(f64::MIN_POSITIVE);
    Contrast {
        baseline: None,
        bifrost: new.mean,
        excess: new.mean - allowed,
        std_error: variance.sqrt(),
        freedom: new.freedom(),
        seen: if scale == Scale::Share { all * all * variance } else { all },
        counts: [0.0, new.count],
        sums: [0.0, new.sum],
        groups: [f64::INFINITY, new.effective_groups()],
    }
}

fn against(old: &ArmTotal, new: &ArmTotal, scale: Scale, increase: f64, all: f64) -> Contrast {
    let factor = if scale == Scale::Mean { 1.0 + increase } else { 1.0 };
    let allowed = match scale {
        Scale::Share => increase,
        Scale::LogMillis => increase.ln_1p(),
        Scale::Mean => 0.0,
    };
    let (old_variance, new_variance) = (factor * factor * old.variance(), new.variance());
    let mut variance = old_variance + new_variance;
    if scale == Scale::Share {
        variance = variance.max(null_variance(old, new));
    }
    let floor = ((old.mean.abs() + new.mean.abs()) * LEAST_RELATIVE_ERROR).powi(2);
    variance = variance.max(floor).max(f64::MIN_POSITIVE);
    let parts = old_variance * old_variance / old.freedom() + new_variance * new_variance / new.freedom();
    let freedom = (old_variance + new_variance).powi(2) / parts;
    Contrast {
        baseline: Some(old.mean),
        bifrost: new.mean,
        excess: new.mean - factor * old.mean - allowed,
        std_error: variance.sqrt(),
        freedom: if freedom.is_finite() { freedom } else { old.freedom().min(new.freedom()) },
        seen: if scale == Scale::Share { all * all * variance } else { all },
        counts: [old.count, new.count],
        sums: [old.sum, new.sum],
        groups: [old.effective_groups(), new.effective_groups()],
    }
}

/// The variance if both arms had one rate. The arm's own variance is too small when it happens to have few failures; that arm
/// is the old one exactly when a failure of the check is near, so the old arm's part takes the clumping of both arms together.
fn null_variance(old: &ArmTotal, new: &ArmTotal) -> f64 {
    let weigh = |arm: &ArmTotal, value: f64| {
        if arm.binomial_null > 0.0 { value / (arm.binomial_null * arm.binomial_null) } else { 0.0 }
    };
    let seen = weigh(old, old.variance()) + weigh(new, new.variance());
    let independent = weigh(old, old.binomial) + weigh(new, new.binomial);
    design_effect(seen, independent) * old.binomial_null
        + design_effect(new.variance(), new.binomial) * new.binomial_null
}

/// How many times larger a variance is than that of independent requests; never below 1.
fn design_effect(variance: f64, independent: f64) -> f64 {
    if independent > 0.0 { (variance / independent).max(1.0) } else { 1.0 }
}

/// Half the harmonic mean: what two arms together are worth.
fn harmonic(old: f64, new: f64) -> f64 {
    if old > 0.0 && new > 0.0 { old * new / (old + new) } else { 0.0 }
}

impl ArmTotal {
    fn new() -> Self {
        Self {
            mean: 0.0,
            influence: [0.0; GROUPS],
            load: [0.0; GROUPS],
            binomial: 0.0,
            binomial_null: 0.0,
            count: 0.0,
            sum: 0.0,
        }
    }

    fn add(&mut self, side: &Side, share: f64, null_rate: f64) {
        let mean = side.mean();
        self.mean += share * mean;
        for group in 0..GROUPS {
            self.influence[group] += share * (side.sums[group] - mean * side.counts[group]) / side.count;
            self.load[group] += share * side.counts[group] / side.count;
        }
        let each = share * share / side.count;
        self.binomial += each * (mean * (1.0 - mean)).max(0.0);
        self.binomial_null += each * null_rate * (1.0 - null_rate);
        self.count += side.count;
        self.sum += side.sum;
    }

    fn variance(&self) -> f64 {
        let groups = self.load.iter().filter(|&&load| load > 0.0).count() as f64;
        let squares: f64 = self.influence.iter().map(|influence| influence * influence).sum();
        if groups > 1.0 { squares * groups / (groups - 1.0) } else { squares }
    }

    /// The inverse of Simpson's index of the groups' shares.
    fn effective_groups(&self) -> f64 {
        let squares: f64 = self.load.iter().map(|load| load * load).sum();
        if squares > 0.0 { 1.0 / squares } else { 0.0 }
    }

    fn freedom(&self) -> f64 {
        (self.effective_groups() - 1.0).max(0.1)
    }
}
