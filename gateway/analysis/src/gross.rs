//! Gross failure: the new arm fails most of what it gets. Looked at with every pull, over the recent past, so that it is seen
//! within seconds and not only when the whole step's sums show it.
//!
//! Each group of users has one vote, the share of its requests that failed; votes are independent between users, whatever one
//! user does, and bounded by 0 and 1. (The old arm counts for more votes where the whole step shows how independent its failures
//! are: it may have a hundred times the traffic.) For the mean of such votes H. Chernoff, "A measure of asymptotic efficiency", 1952, and
//! W. Hoeffding, "Probability inequalities for sums of bounded random variables", 1963, bound how improbable it is. The two arms'
//! terms are added at the rate that suits both best; two such terms exceed s together with a probability of at most (1+s)·exp(−s).
//!
//! A baseline with hardly any recent traffic is a weak witness and no absent one: in a vendor's outage it may well have had no
//! request that failed. Only when it had none at all for as long as is looked at is there a limit that stands alone.
//!
//! Looks share the budget. A look costs something only if the failures of both arms together are so many that they could make
//! gross failure of the new one: which arm they fell on is chance, if the arms are the same, and that is not looked at.

use crate::budget;
use crate::recent::{ArmTally, PairTally, SPANS, Tally};
use crate::stratum::{GROUPS, Stratum};

/// The fewest failed requests.
const LEAST_FAILURES: u64 = 20;
/// The fewest groups of users with a request: with fewer there is no saying whether it is the arm or some user.
const LEAST_GROUPS: f64 = 10.0;
/// From how many failures of the old arm in the step on its design effect is known well enough.
const KNOWN_DESIGN_EFFECT: f64 = 20.0;
/// How much more of the new arm's requests must fail than of the old one's.
const LEAST_EXCESS: f64 = 0.2;
/// Without traffic on the old arm: how much must fail, and which rate must be out of the question.
const LEAST_ALONE: f64 = 0.5;
const TOLERATED_ALONE: f64 = 0.1;

/// A gross failure that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GrossFailure {
    /// Where; none: over all strata.
    pub(crate) stratum: Option<Stratum>,
    /// Requests and failures, old arm and new.
    pub(crate) requests: [u64; 2],
    pub(crate) failures: [u64; 2],
    /// Whether the old arm had traffic to be compared with.
    pub(crate) is_compared: bool,
}

/// Whether there could be gross failure if the failures of both arms together had fallen on the new one. Such a look is counted.
pub fn could_be_gross(requests: [u64; 2], failures: [u64; 2]) -> bool {
    let all = failures[0] + failures[1];
    let new = all.min(requests[1]);
    may_be_gross(requests, [all - new, new])
}

/// The first thing that must hold, on plain counts. It is cheap, and false for nearly every look.
pub fn may_be_gross(requests: [u64; 2], failures: [u64; 2]) -> bool {
    if failures[1] < LEAST_FAILURES {
        return false;
    }
    // Multiplied out: this runs at every look of a simulation of many weeks.
    let [old, new] = requests.map(|count| count.max(1) as f64);
    let [old_failed, new_failed] = failures.map(|count| count as f64);
    new_failed * old >= old_failed * new + LEAST_EXCESS * old * new
}

/// Whether [`could_be_gross`] holds for any span and stratum, or for all strata together.
pub(crate) fn could_be_anywhere(spans: &[Tally]) -> bool {
    let is_compared = has_baseline(spans);
    spans.iter().any(|tally| {
        let single = tally.strata.iter().any(|(_, pair)| could_be_gross(requests(pair), failures(pair)));
        let all = together(tally, is_compared);
        single || could_be_gross(requests(&all), failures(&all))
    })
}

/// Whether the old arm had any request for as long as is looked at.
fn has_baseline(spans: &[Tally]) -> bool {
    spans.last().is_some_and(|longest| longest.strata.iter().any(|(_, pair)| requests(pair)[0] > 0))
}

/// By how much more of the new arm's requests failed inside the strata, on average with the weights of Mantel and Haenszel. What
/// fails on both arms alike, and is more of the one arm's traffic than of the other's, is no excess.
fn excess_inside(tally: &Tally) -> f64 {
    let (mut weights, mut sum) = (0.0, 0.0);
    for (_, pair) in &tally.strata {
        let (requests, failures) = (requests(pair), failures(pair));
        let [old, new] = requests.map(|count| count as f64);
        if old > 0.0 && new > 0.0 {
            let weight = old * new / (old + new);
            weights += weight;
            sum += weight * (share(failures[1], requests[1]) - share(failures[0], requests[0]));
        }
    }
    if weights > 0.0 { sum / weights } else { 0.0 }
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

fn requests(pair: &PairTally) -> [u64; 2] {
    [0, 1].map(|arm| total(&pair[arm].requests))
}

fn failures(pair: &PairTally) -> [u64; 2] {
    [0, 1].map(|arm| total(&pair[arm].failures))
}

fn total(counts: &[u32; GROUPS]) -> u64 {
    counts.iter().map(|&count| u64::from(count)).sum()
}

/// All strata in one; where arms are compared, those that both arms have.
fn together(tally: &Tally, is_compared: bool) -> PairTally {
    let mut all = PairTally::default();
    for (_, pair) in &tally.strata {
        if !is_compared || requests(pair).iter().all(|&count| count > 0) {
            all[0].add(&pair[0]);
            all[1].add(&pair[1]);
        }
    }
    all
}

/// Looks for gross failure in the spans. `step` is the step's whole tally, `alpha` is what all looks of the step together may
/// spend, `looks` how many of them cost something before this one.
pub(crate) fn find(spans: &[Tally], step: &Tally, alpha: f64, looks: u64) -> Option<GrossFailure> {
    let alpha = alpha * budget::look_weight(looks) / f64::from(SPANS);
    let is_compared = has_baseline(spans);
    spans.iter().find_map(|tally| {
        let count = tally.strata.len();
        let single = tally.strata.iter().enumerate().find_map(|(order, (stratum, pair))| {
            let alpha = alpha * budget::stratum_weight(order, count);
            let whole = || step.strata.iter().find(|(other, _)| other == stratum).map(|(_, pair)| *pair);
            let is_gross = may_be_gross(requests(pair), failures(pair)) && is_gross(pair, is_compared, whole(), alpha);
            is_gross.then_some((Some(stratum), *pair))
        });
        let all = || {
            let (pair, alpha) = (together(tally, is_compared), alpha * budget::pooled_weight(count));
            let is_gross = may_be_gross(requests(&pair), failures(&pair))
                && (!is_compared || excess_inside(tally) >= LEAST_EXCESS)
                && is_gross(&pair, is_compared, Some(together(step, is_compared)), alpha);
            is_gross.then_some((None, pair))
        };
        let (stratum, pair) = single.or_else(all)?;
        let stratum = stratum.cloned();
        Some(GrossFailure { stratum, requests: requests(&pair), failures: failures(&pair), is_compared })
    })
}

fn is_gross(pair: &PairTally, is_compared: bool, step: Option<PairTally>, alpha: f64) -> bool {
    let [(old_votes, old), (new_votes, new)] = [votes(&pair[0]), votes(&pair[1])];
    if new_votes < LEAST_GROUPS {
        return false;
    }
    if !is_compared {
        return new >= LEAST_ALONE && new_votes * divergence(new, TOLERATED_ALONE) > -alpha.ln();
    }
    let design_effect = step.and_then(|step| design_effect(&step[0]));
    let old_votes = design_effect.map_or(old_votes, |effect| old_votes.max(total(&pair[0].requests) as f64 / effect));
    let both = (old_votes * old + new_votes * new) / (old_votes + new_votes);
    let sum = old_votes * divergence(old, both) + new_votes * divergence(new, both);
    new >= old + LEAST_EXCESS && sum - sum.ln_1p() > -alpha.ln()
}

/// How many times the variance over groups of users is that of independent failures; none when there are too few.
fn design_effect(tally: &ArmTally) -> Option<f64> {
    let (requests, failures) = (total(&tally.requests) as f64, total(&tally.failures) as f64);
    if failures < KNOWN_DESIGN_EFFECT || failures >= requests {
        return None;
    }
    let rate = failures / requests;
    let groups = tally.requests.iter().zip(&tally.failures);
    let squares: f64 = groups.map(|(&n, &bad)| (f64::from(bad) - rate * f64::from(n)).powi(2)).sum();
    Some((squares / (requests * rate * (1.0 - rate))).max(1.0))
}

/// How many groups had a request, and the mean of the shares of their requests that failed.
fn votes(tally: &ArmTally) -> (f64, f64) {
    let (mut groups, mut shares) = (0.0, 0.0);
    for (&requests, &failures) in tally.requests.iter().zip(&tally.failures) {
        if requests > 0 {
            groups += 1.0;
            shares += (f64::from(failures) / f64::from(requests)).min(1.0);
        }
    }
    (groups, if groups > 0.0 { shares / groups } else { 0.0 })
}

/// The divergence of Bernoulli distributions of Kullback and Leibler.
fn divergence(seen: f64, assumed: f64) -> f64 {
    let term = |seen: f64, assumed: f64| if seen > 0.0 { seen * (seen / assumed).ln() } else { 0.0 };
    term(seen, assumed) + term(1.0 - seen, 1.0 - assumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one step of five may spend.
    const ALPHA: f64 = 4e-4;

    fn arm(groups: std::ops::Range<usize>, requests: u32, failures: u32) -> ArmTally {
        let mut tally = ArmTally::default();
        for group in groups {
            tally.requests[group] = requests;
            tally.failures[group] = failures;
        }
        tally
    }

    fn is_found(old: ArmTally, new: ArmTally, looks: u64) -> bool {
        let stratum = Stratum { provider: "p".into(), model: "m".into(), endpoint: "e".into(), stream: false };
        find(&[Tally { strata: vec![(stratum, [old, new])] }], &Tally::default(), ALPHA, looks).is_some()
    }

    #[test]
    fn twenty_failures_and_nothing_else_are_gross() {
        assert!(is_found(arm(0..20, 1, 0), arm(0..20, 1, 1), 0));
        assert!(is_found(arm(0..64, 30, 0), arm(0..20, 1, 1), 100_000));
        assert!(is_found(ArmTally::default(), arm(0..20, 1, 1), 100_000));
    }

    #[test]
    fn what_hits_both_arms_is_not_gross() {
        assert!(!is_found(arm(0..64, 10, 10), arm(0..64, 10, 10), 0));
        assert!(!is_found(arm(0..64, 10, 5), arm(0..64, 10, 6), 0));
        assert!(!is_found(arm(0..3, 1, 1), arm(0..64, 10, 10), 0));
        assert!(!is_found(arm(0..3, 1, 0), arm(0..64, 10, 10), 0));
    }

    #[test]
    fn an_outage_of_one_model_is_not_gross_when_one_arm_has_more_of_it() {
        let stratum =
            |model: &str| Stratum { provider: "p".into(), model: model.into(), endpoint: "e".into(), stream: false };
        let strata = vec![
            (stratum("out"), [arm(0..64, 1, 1), arm(0..64, 9, 9)]),
            (stratum("well"), [arm(0..64, 9, 0), arm(0..64, 1, 0)]),
            (stratum("only here"), [ArmTally::default(), arm(0..64, 9, 9)]),
        ];
        assert!(find(&[Tally { strata }], &Tally::default(), ALPHA, 0).is_none());
        let strata = ["a", "b"].map(|model| (stratum(model), [arm(0..10, 1, 0), arm(0..14, 1, 1)])).to_vec();
        assert!(find(&[Tally { strata }], &Tally::default(), ALPHA, 0).is_some());
    }

    #[test]
    fn one_user_is_not_an_arm() {
        let mut new = arm(0..40, 1, 0);
        new.requests[7] = 200;
        new.failures[7] = 200;
        assert!(!is_found(arm(0..40, 1, 0), new, 0));
        assert!(!is_found(arm(0..40, 1, 0), arm(0..4, 5, 5), 0));
    }
}
