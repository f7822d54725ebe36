//! What `make simulate` prints, with fewer runs: false rollbacks when both arms are the same, and the times that are promised.

#[path = "../sim/mod.rs"]
mod sim;

use sim::detection::Cell;
use sim::migration;
use sim::promise::{GROSS_FAILURE_SECONDS, TWO_POINTS, TWO_POINTS_SECONDS, broken_budget, broken_time};

/// Migrations per cell.
const MIGRATIONS: usize = 25;

#[test]
fn migrations_with_equal_arms_are_not_rolled_back() {
    let found = migration::false_rollbacks(MIGRATIONS);
    let counts: Vec<_> = found.iter().map(|(_, reasons)| reasons.len()).collect();
    let broken = broken_budget(&counts, MIGRATIONS);
    assert!(broken.is_empty(), "{broken:?} {found:?}");
}

#[test]
fn two_points_more_are_found_within_four_minutes() {
    assert_eq!(broken_time(&TWO_POINTS, &TWO_POINTS.times(200), TWO_POINTS_SECONDS), None);
}

#[test]
fn all_failing_is_found_within_15_seconds_of_the_20th_failure() {
    for rate in [1.0, 10.0, 50.0] {
        for percent in [1.0, 5.0, 25.0, 50.0, 100.0] {
            for onset in [0, 3_600] {
                let cell = Cell { rate, percent, errors: [0.01, 1.0], clump: 1, onset };
                assert_eq!(broken_time(&cell, &cell.times_since_twentieth(100), GROSS_FAILURE_SECONDS), None);
            }
        }
    }
}
