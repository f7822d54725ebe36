//! Prints how often the verdict is wrong when both arms are the same, and how fast it is when they are not, and fails when that is more,
//! or slower, than is promised. All seeds are fixed.
//! The only argument is the number of migrations per cell, 500 by default.

#[path = "../sim/mod.rs"]
mod sim;

use std::process::ExitCode;
use std::time::Instant;

use sim::detection::{Cell, quantile};
use sim::migration;
use sim::promise::{GROSS_FAILURE_SECONDS, TWO_POINTS, TWO_POINTS_SECONDS, broken_budget, broken_time};

/// Runs of each cell of the tables of times.
const RUNS: usize = 200;

fn main() -> ExitCode {
    let migrations = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let began = Instant::now();
    let mut broken = Vec::from_iter(times_of_ordinary_effects());
    broken.extend(times_of_gross_failure());
    broken.extend(false_rollbacks(migrations));
    println!("\nAll in {:.0?}.", began.elapsed());
    for promise in &broken {
        eprintln!("not as promised: {promise}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn false_rollbacks(migrations: usize) -> Vec<String> {
    println!("\n## Both arms the same: false rollbacks of {migrations} migrations of four weeks\n");
    println!("Steps {:?} (percent, days); allowed increase 0; budget 1 %.\n", migration::STEPS);
    println!("| requests/s | errors | failures come | false rollbacks |\n|---|---|---|---|");
    let mut total = 0;
    let results = migration::false_rollbacks(migrations);
    for (cell, found) in &results {
        let come = if cell.clump == 1 { "alone".into() } else { format!("{} of one user", cell.clump) };
        println!("| {} | {} % | {come} | {} |", cell.rate, cell.errors * 100.0, found.len());
        total += found.len();
    }
    println!("| all | | | {total} of {} |\n", migrations * results.len());
    for reason in results.iter().flat_map(|(_, found)| found) {
        println!("* {reason}");
    }
    broken_budget(&results.iter().map(|(_, found)| found.len()).collect::<Vec<_>>(), migrations)
}

fn times_of_ordinary_effects() -> Option<String> {
    println!(
        "## Worse from the step's start, on 1 % errors, half a point allowed: time until Fail, median and 19 of 20 runs\n"
    );
    println!(
        "| requests/s | percent | failures come | +1 point | +2 points | +5 points | +20 points |\n|---|---|---|---|---|---|---|"
    );
    for rate in [1.0, 10.0, 50.0] {
        for percent in [1.0, 5.0, 25.0, 50.0] {
            for clump in [1, 5] {
                let cells = [0.01, 0.02, 0.05, 0.2].map(|effect| {
                    let cell = Cell { rate, percent, errors: [0.01, 0.01 + effect], clump, onset: 0 };
                    show(&cell.times(RUNS))
                });
                let come = if clump == 1 { "alone" } else { "5 of one user" };
                println!("| {rate} | {percent} % | {come} | {} |", cells.join(" | "));
            }
        }
    }
    broken_time(&TWO_POINTS, &TWO_POINTS.times(RUNS), TWO_POINTS_SECONDS)
}

fn times_of_gross_failure() -> Vec<String> {
    let mut broken = Vec::new();
    println!(
        "\n## All failing: seconds from the pull that brings the 20th failure until Fail, 19 of 20 runs and the longest\n"
    );
    println!("| requests/s | percent | from the step's start | after an hour | after a week |\n|---|---|---|---|---|");
    for rate in [1.0, 10.0, 50.0] {
        for percent in [1.0, 5.0, 25.0, 50.0, 100.0] {
            let cells = [0, 3_600, 604_800].map(|onset| {
                let cell = Cell { rate, percent, errors: [0.01, 1.0], clump: 1, onset };
                let times = cell.times_since_twentieth(RUNS);
                broken.extend(broken_time(&cell, &times, GROSS_FAILURE_SECONDS));
                format!("{} / {}", quantile(&times, 0.95), quantile(&times, 1.0))
            });
            println!("| {rate} | {percent} % | {} |", cells.join(" | "));
        }
    }
    broken
}

fn show(times: &[f64]) -> String {
    format!("{} / {}", span(quantile(times, 0.5)), span(quantile(times, 0.95)))
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s.is_infinite() => "> 24 h".into(),
        s if s < 600.0 => format!("{s} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}
