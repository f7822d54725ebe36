//! What is promised of the verdict, and whether what was simulated keeps it.

use super::detection::{Cell, quantile};

/// The share of migrations with equal arms that may go back.
const BUDGET: f64 = 0.01;
/// How probable it may be that an analysis which keeps to that is refused.
const CHANCE: f64 = 0.01;
/// Two points more, which are found within [`TWO_POINTS_SECONDS`].
pub(crate) const TWO_POINTS: Cell = Cell { rate: 50.0, percent: 50.0, errors: [0.01, 0.03], clump: 1, onset: 0 };
/// Of its step, in 19 of 20 runs.
pub(crate) const TWO_POINTS_SECONDS: f64 = 240.0;
/// Until all that fails is found, in 19 of 20 runs. Counted from the pull that brings the 20th failure, which may be five seconds
/// after it.
pub(crate) const GROSS_FAILURE_SECONDS: f64 = 10.0;

/// What is wrong with the false rollbacks of the cells, each of so many migrations.
pub(crate) fn broken_budget(found: &[usize], migrations: usize) -> Vec<String> {
    let cells = found.len();
    let most = most_of(migrations, CHANCE / cells as f64);
    let mut broken: Vec<_> = found
        .iter()
        .enumerate()
        .filter(|(_, found)| **found > most)
        .map(|(row, found)| format!("row {}: {found} of {migrations} rolled back, more than {most}", row + 1))
        .collect();
    let (all, total, most) = (cells * migrations, found.iter().sum::<usize>(), most_of(cells * migrations, CHANCE));
    if total > most {
        broken.push(format!("all rows: {total} of {all} rolled back, more than {most}"));
    }
    broken
}

/// What is wrong with the times of a cell.
pub(crate) fn broken_time(cell: &Cell, times: &[f64], promised: f64) -> Option<String> {
    let seconds = quantile(times, 0.95);
    (seconds > promised).then(|| format!("{cell:?}: 19 of 20 runs took {seconds} s, and {promised} s are promised"))
}

/// How many of so many migrations may go back; more have at most this chance (Poisson).
fn most_of(migrations: usize, chance: f64) -> usize {
    let mean = BUDGET * migrations as f64;
    // By its logarithm, as the first term of a large mean is too small for a number.
    let (mut number, mut term) = (0, -mean);
    let mut within = term.exp();
    while 1.0 - within > chance && number < migrations {
        number += 1;
        term += (mean / number as f64).ln();
        within += term.exp();
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_false_rollbacks_than_chance_explains_are_named() {
        let calm = [13, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6];
        assert_eq!(broken_budget(&calm, 500), [] as [&str; 0], "79 in all");
        let one_more = [13, 7, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6];
        assert_eq!(broken_budget(&one_more, 500), ["all rows: 80 of 6000 rolled back, more than 79"]);
        let row = [0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(broken_budget(&row, 500), ["row 2: 14 of 500 rolled back, more than 13"]);
        assert_eq!(broken_budget(&[1100], 100_000).len(), 2, "also of many");
    }

    #[test]
    fn a_time_is_that_of_19_of_20_runs() {
        let mut times = vec![5.0; 19];
        times.push(f64::INFINITY);
        assert_eq!(broken_time(&TWO_POINTS, &times, 5.0), None);
        times.push(f64::INFINITY);
        let broken = broken_time(&TWO_POINTS, &times, 5.0).unwrap();
        assert!(broken.ends_with("19 of 20 runs took inf s, and 5 s are promised"), "{broken}");
    }
}
