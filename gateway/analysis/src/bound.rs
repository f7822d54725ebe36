//! Bounds that hold at every look, however many there are.
//!
//! A difference divided by its standard error is watched as a process in the time of its own variance. Against "not worse", the
//! mixture of its likelihood ratios over all worse values is a process that exceeds 1/α with a probability of at most α, ever:
//! H. Robbins, "Statistical methods related to the law of the iterated logarithm", 1970; one-sided as in S. Howard, A. Ramdas,
//! J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021. With a variance that is
//! estimated it holds asymptotically: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central limit
//! theory and asymptotic confidence sequences", 2024. A variance estimated from few groups makes large values likelier; they are
//! taken back to a normal's by D. Wallace, "Bounds on normal approximations to Student's and the chi-square distributions", 1959.

use std::f64::consts::PI;

/// The logarithm of the evidence against "not worse" of a score at this variance. `tuned_for` is the variance, in the
/// same unit, from which on the bound is to be tight.
pub(crate) fn log_evidence(score: f64, variance: f64, tuned_for: f64) -> f64 {
    let both = variance + tuned_for;
    let scaled = score * (variance / both).sqrt();
    // exp(scaled²/2) · 2Φ(scaled), by a bound of the normal tail that is close everywhere.
    let tail_ratio = (2.0 / PI).sqrt() * 2.0 / (scaled.abs() + (scaled * scaled + 8.0 / PI).sqrt());
    let log_normal_part = if scaled > 0.0 {
        let square = scaled * scaled / 2.0;
        square + (2.0 - tail_ratio * (-square).exp()).ln()
    } else {
        tail_ratio.ln()
    };
    0.5 * (tuned_for / both).ln() + log_normal_part
}

/// The score at which the evidence reaches `1/alpha`, rounded up.
pub(crate) fn critical_score(alpha: f64, variance: f64, tuned_for: f64) -> f64 {
    let both = variance + tuned_for;
    let log_term = ((both / tuned_for).sqrt() / (2.0 * alpha) + 1.0).ln();
    (2.0 * (both / variance) * log_term).sqrt()
}

/// The normal score that is as unlikely as this one of Student's distribution.
pub(crate) fn student_to_normal(score: f64, freedom: f64) -> f64 {
    let shrink = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    (freedom * (score * score / freedom).ln_1p()).sqrt() * shrink * score.signum()
}

/// The score of Student's distribution that is as unlikely as this normal one.
pub(crate) fn normal_to_student(score: f64, freedom: f64) -> f64 {
    let stretch = (8.0 * freedom + 3.0) / (8.0 * freedom + 1.0);
    // Bounded, so that a bound with hardly any freedom is wide and still a number.
    let exponent = (score * score * stretch * stretch / freedom).min(60.0);
    (freedom * exponent.exp_m1()).sqrt() * score.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_critical_score_has_the_evidence_it_stands_for() {
        for alpha in [0.01, 1e-3, 1e-5] {
            for variance in [1.0, 10.0, 1e3, 1e6] {
                let score = critical_score(alpha, variance, 5.0);
                let evidence = log_evidence(score, variance, 5.0) + f64::ln(alpha);
                assert!((-0.001..0.2).contains(&evidence), "{alpha} {variance}: {evidence}");
            }
        }
    }

    #[test]
    fn student_and_normal_are_inverse_and_right() {
        // A t of 3.499 at 7 degrees of freedom is exceeded in 0.5 % of cases, as a normal 2.576 is.
        assert!((student_to_normal(3.499, 7.0) - 2.576).abs() < 0.01);
        for score in [-4.0, -0.5, 0.0, 1.0, 5.0] {
            assert!((student_to_normal(normal_to_student(score, 9.0), 9.0) - score).abs() < 1e-9);
        }
        assert!(normal_to_student(6.0, 0.1).is_finite());
    }

    #[test]
    fn a_walk_without_drift_rarely_ever_has_evidence() {
        let mut rng = fastrand::Rng::with_seed(11);
        let alpha: f64 = 0.05;
        let crossed = (0..1_000).filter(|_| {
            let (mut sum, mut variance) = (0.0, 0.0);
            (0..5_000).any(|_| {
                sum += if rng.bool() { 1.0 } else { -1.0 };
                variance += 1.0;
                log_evidence(sum / f64::sqrt(variance), variance, 5.0) >= -alpha.ln()
            })
        });
        let crossed = crossed.count();
        assert!((5..=50).contains(&crossed), "{crossed} of 1000");
    }
}
