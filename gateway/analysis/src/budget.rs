//! The budget of false alarms: one for the whole migration, split over its steps, over gross failure and the checks, and over
//! strata, of which nobody knows beforehand how many there will be.

/// The share of a step's budget that the watch for gross failure has; the checks share the rest evenly.
const GROSS_SHARE: f64 = 0.2;
/// The share of the whole budget that is kept back for steps that are taken once more, where their number is known.
const RETRY_SHARE: f64 = 0.1;
/// The share of a check's budget for all strata together.
const POOLED_SHARE: f64 = 0.5;

/// How probable a false alarm may be, over the whole migration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Between 0 and 1; what lies outside is taken as the default.
    pub false_alarm: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { false_alarm: 0.01 }
    }
}

/// Where the migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The step, from 0.
    pub step: u32,
    /// How many steps the migration has; none when nobody knows, as with a percentage set by hand.
    pub steps: Option<u32>,
}

impl Budget {
    /// The step's share. Steps that are known have equal shares; of steps without a known end each next one has less, so that the
    /// sum stays below the budget: 1/2, 1/6, 1/12, … So have steps beyond the known number, those that are taken once more, of
    /// what is kept back for them.
    fn of_step(self, position: Position) -> f64 {
        let is_probability = self.false_alarm > 0.0 && self.false_alarm < 1.0;
        let all = if is_probability { self.false_alarm } else { Self::default().false_alarm };
        match position.steps {
            Some(steps) if position.step < steps => all * (1.0 - RETRY_SHARE) / f64::from(steps),
            Some(steps) => all * RETRY_SHARE * series(position.step - steps),
            None => all * series(position.step),
        }
    }

    /// What one of `checks` checks may spend in this step.
    pub(crate) fn of_check(self, position: Position, checks: usize) -> f64 {
        self.of_step(position) * (1.0 - GROSS_SHARE) / checks.max(1) as f64
    }

    /// What the watch for gross failure may spend in this step.
    pub(crate) fn of_gross_failure(self, position: Position) -> f64 {
        self.of_step(position) * GROSS_SHARE
    }
}

/// The weight of the comparison over all strata together, given how many there are. With a single one it is that stratum's.
pub(crate) fn pooled_weight(strata: usize) -> f64 {
    if strata < 2 { 0.0 } else { POOLED_SHARE }
}

/// The weight of a stratum, by the order in which the strata were first seen. All of them and the pooled one add up to 1 at most.
pub(crate) fn stratum_weight(order: usize, strata: usize) -> f64 {
    let own = (1.0 - POOLED_SHARE) * series(u32::try_from(order).unwrap_or(u32::MAX));
    if strata < 2 { own + POOLED_SHARE } else { own }
}

/// 1/2, 1/6, 1/12, …: adds up to 1.
fn series(place: u32) -> f64 {
    let place = f64::from(place);
    1.0 / ((place + 1.0) * (place + 2.0))
}

/// The share of a look in what may be spent on all looks of the step, given how many were before it. Early ones have more, and
/// the sum over any number of looks stays below 1.
pub(crate) fn look_weight(before: u64) -> f64 {
    let place = before as f64 + 2.0;
    // 1/(n ln² n) from n = 2 on adds up to 2.1097…
    1.0 / (place * place.ln().powi(2) * 2.11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_there_is() {
        let budget = Budget::default();
        for steps in [None, Some(1), Some(5)] {
            let spent: f64 = (0..10_000)
                .map(|step| {
                    let position = Position { step, steps };
                    3.0 * budget.of_check(position, 3) + budget.of_gross_failure(position)
                })
                .sum();
            assert!((0.0099..=0.010_000_1).contains(&spent), "{steps:?}: {spent}");
        }
        for strata in 1..40 {
            let spent: f64 =
                pooled_weight(strata) + (0..strata).map(|order| stratum_weight(order, strata)).sum::<f64>();
            assert!(spent < 1.0);
        }
        let spent: f64 = (0..1_000_000).map(look_weight).sum();
        assert!((0.9..1.0).contains(&spent), "{spent}");
    }

    #[test]
    fn a_budget_that_is_no_probability_is_the_default() {
        for false_alarm in [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY] {
            let share = Budget { false_alarm }.of_check(Position { step: 0, steps: Some(1) }, 1);
            assert!((share - 0.0072).abs() < 1e-12, "{false_alarm}");
        }
    }
}
