//! How long it takes until a new arm that is worse fails.

use bifrost_analysis::{Limit, Position};
use fastrand::Rng;

use super::parallel;
use super::step::{self, Found, Plan};

/// Seconds a search goes on for.
const LONGEST: u64 = 86_400;

/// What is to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) rate: f64,
    pub(crate) percent: f64,
    /// Error rates of the old and of the new arm.
    pub(crate) errors: [f64; 2],
    pub(crate) clump: u32,
    /// Seconds into the step at which the new arm becomes worse.
    pub(crate) onset: u64,
}

impl Cell {
    fn run(&self, seed: u64) -> Option<Found> {
        let Limit::AgainstBaseline(allowed) = Limit::ERROR_RATE else { return None };
        let plan = Plan {
            rate: self.rate,
            percent: self.percent,
            errors: self.errors,
            onset: self.onset,
            clump: self.clump,
            seconds: self.onset + LONGEST,
            allowed,
            position: Position { step: 1, steps: Some(5) },
        };
        let found = step::run(&plan, &mut Rng::with_seed(seed))?;
        (found.second > self.onset).then_some(found)
    }

    /// The times in seconds from the onset until each of so many runs failed, in order; infinite for those that did not.
    pub(crate) fn times(&self, runs: usize) -> Vec<f64> {
        self.sorted(runs, |found| (found.second - self.onset) as f64)
    }

    /// The times in seconds since the pull that brought the 20th failure; 0 if it failed before.
    pub(crate) fn times_since_twentieth(&self, runs: usize) -> Vec<f64> {
        self.sorted(runs, |found| found.twentieth.map_or(0.0, |twentieth| found.second as f64 - twentieth as f64))
    }

    fn sorted(&self, runs: usize, time: impl Fn(Found) -> f64 + Sync) -> Vec<f64> {
        let mut times = parallel(runs, |run| self.run(run as u64).map_or(f64::INFINITY, &time));
        times.sort_by(f64::total_cmp);
        times
    }
}

/// The time within which this share of the runs failed.
pub(crate) fn quantile(times: &[f64], share: f64) -> f64 {
    let place = ((share * times.len() as f64).ceil() as usize).clamp(1, times.len().max(1));
    times.get(place - 1).copied().unwrap_or(f64::INFINITY)
}
