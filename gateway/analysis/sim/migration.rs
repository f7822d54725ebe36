//! A migration of four weeks in which both arms are the same.

use bifrost_analysis::Position;
use fastrand::Rng;

use super::parallel;
use super::step::{self, Found, Plan};

/// Percent and days of each step.
pub(crate) const STEPS: [(f64, u64); 5] = [(1.0, 2), (5.0, 5), (25.0, 7), (50.0, 7), (100.0, 7)];

/// The traffic of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub rate: f64,
    pub errors: f64,
    pub clump: u32,
}

/// All cells.
pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for rate in [1.0, 10.0, 50.0] {
        for errors in [0.01, 0.03] {
            for clump in [1, 5] {
                cells.push(Cell { rate, errors, clump });
            }
        }
    }
    cells
}

/// One migration, at an allowed increase of nothing: the false rollback, if there is one.
pub(crate) fn migrate(cell: &Cell, seed: u64) -> Option<Found> {
    let mut rng = Rng::with_seed(seed);
    STEPS.iter().enumerate().find_map(|(number, &(percent, days))| {
        let plan = Plan {
            rate: cell.rate,
            percent,
            errors: [cell.errors; 2],
            onset: 0,
            clump: cell.clump,
            seconds: days * 86_400,
            allowed: 0.0,
            position: Position { step: number as u32, steps: Some(STEPS.len() as u32) },
        };
        step::run(&plan, &mut rng)
    })
}

/// How many of so many migrations of each cell were rolled back, with the reasons.
pub(crate) fn false_rollbacks(runs: usize) -> Vec<(Cell, Vec<String>)> {
    let cells = cells();
    let found = parallel(cells.len() * runs, |job| {
        let (cell, run) = (job / runs, job % runs);
        migrate(&cells[cell], (cell * 1_000_003 + run) as u64).map(|found| {
            let reasons =
                found.report.checks.into_iter().filter(|check| check.verdict == bifrost_analysis::Verdict::Fail);
            reasons.map(|check| check.reason).collect::<String>()
        })
    });
    let mut found = found.into_iter();
    cells.into_iter().map(|cell| (cell, found.by_ref().take(runs).flatten().collect())).collect()
}
