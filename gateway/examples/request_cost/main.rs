//! What counting for the analysis, a shadow and a rollout cost a request: instructions under callgrind, of the gateway's server on one runtime,
//! between a client and a provider on loopback.
//!
//! `make cost`, or `cargo run --release -p bifrost-gateway --example request_cost`; needs `valgrind`.
//!
//! Each case runs twice, with few requests and with many, and the difference is what requests cost: the start of the process is in
//! both. What something costs is a difference again: to the same requests without it. Of a request that is forwarded to a candidate's
//! own pods it is the stable pod's side; the provider plays the other.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends")]

mod callgrind;
mod client;
mod gateway;
mod provider;

use std::net::SocketAddr;
use std::path::Path;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of the two runs of a case.
const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// What the analysis may cost of a request, and a shadow of one that it does not copy, and of all together at its usual share.
const MOST_PERCENT: f64 = 3.0;
/// The share that a shadow copies in docs/shadow.md.
const SHADOWED_PERCENT: f64 = 5.0;

/// One kind of request.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    percent: u8,
    stream: bool,
    answer: Answer,
    /// Share that is chosen to be copied; none: no shadow.
    shadow: Option<u8>,
    /// What a rollout tries.
    rollout: Tries,
    /// What is counted for the analysis.
    counts: Counts,
}

/// What is counted for the analysis.
#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Nothing,
    /// What pods always count for an operator.
    Windows,
    /// And what is in the answers, as checks ask for it.
    Answers,
}

/// What a rollout tries, and with whom.
#[derive(Clone, Copy, PartialEq)]
enum Tries {
    Nothing,
    /// A configuration, for users of the stable revision.
    Others,
    /// A configuration, for its own users.
    Here,
    /// An image, for its own users.
    There,
}

/// What the provider answers.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Text,
    ToolCall,
}

const fn case(name: &'static str, percent: u8, stream: bool, answer: Answer) -> Case {
    Case { name, percent, stream, answer, shadow: None, rollout: Tries::Nothing, counts: Counts::Windows }
}

const CASES: [Case; 6] = [
    case("baseline, plain", 0, false, Answer::Text),
    case("baseline, stream of 20 events", 0, true, Answer::Text),
    case("bifrost, plain", 100, false, Answer::Text),
    case("bifrost, stream of 20 events", 100, true, Answer::Text),
    case("bifrost, plain, a tool call", 100, false, Answer::ToolCall),
    case("bifrost, stream of 20 events of a tool call", 100, true, Answer::ToolCall),
];

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if !args.is_empty() {
        return gateway::serve(&args);
    }
    let (folder, provider) = (tempfile::tempdir().unwrap(), provider::provider());
    let cost = |case: &Case| cost(folder.path(), provider, case);
    let found = CASES.map(|case| cost(&case));
    let analysis = analysis(&found, cost);
    let shadow = shadow(&found, cost);
    rollout(&found, cost);
    if !(analysis && shadow) {
        println!("a case is over it");
        std::process::exit(1);
    }
}

/// The instructions of each request of a case.
fn cost(folder: &Path, provider: SocketAddr, case: &Case) -> f64 {
    let [few, many] = [FEW, MANY].map(|requests| callgrind::run(folder, provider, case, requests));
    (many - few) / (MANY - FEW) as f64
}

/// Whether the analysis keeps to its share in each case.
fn analysis(found: &[f64; CASES.len()], cost: impl Fn(&Case) -> f64) -> bool {
    println!("{:<44} {:>9} {:>9} {:>9}", "instructions a request", "all", "windows", "answers");
    let mut keeps = true;
    for (case, all) in CASES.iter().zip(found) {
        let windows = all - cost(&Case { counts: Counts::Nothing, ..*case });
        let answers = cost(&Case { counts: Counts::Answers, ..*case }) - all;
        println!("{:<44} {all:>9.0} {windows:>+9.0} {answers:>+9.0}", case.name);
        let share = |part: f64| part / all * 100.0;
        println!("{:<44} {:>9} {:>+8.2}% {:>+8.2}%", "", "", share(windows), share(answers));
        keeps &= share(windows) <= MOST_PERCENT;
    }
    println!(
        "the windows may cost {MOST_PERCENT} % of a request; what is in the answers is looked at only where a check asks for it\n"
    );
    keeps
}

/// Whether a shadow keeps to its share in each case: of requests that are not copied, and of all requests together where some are.
fn shadow(found: &[f64; CASES.len()], cost: impl Fn(&Case) -> f64) -> bool {
    let together = format!("of {SHADOWED_PERCENT} %");
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "instructions a request, with a shadow", "none", "not taken", "taken", together
    );
    let mut keeps = true;
    for (case, none) in CASES.iter().zip(found).filter(|(case, _)| case.answer == Answer::Text) {
        let more = |chosen| cost(&Case { shadow: Some(chosen), ..*case }) - none;
        let (not_taken, taken) = (more(0), more(100));
        let share = |part: f64| part / none * 100.0;
        // What all pay for those that are taken, but for the copies themselves.
        let together = taken * SHADOWED_PERCENT / 100.0;
        println!("{:<44} {:>9.0} {not_taken:>+9.0} {taken:>+9.0} {together:>+9.0}", case.name, none);
        println!("{:<44} {:>9} {:>+8.2}% {:>+8.2}% {:>+8.2}%", "", "", share(not_taken), share(taken), share(together));
        keeps &= share(not_taken) <= MOST_PERCENT && share(together) <= MOST_PERCENT;
    }
    println!(
        "a shadow of {SHADOWED_PERCENT} % may cost {MOST_PERCENT} % of all requests, and of one that it does not take"
    );
    keeps
}

/// What a rollout costs each case. It lasts for hours at the most, and has no share to keep to.
fn rollout(found: &[f64; CASES.len()], cost: impl Fn(&Case) -> f64) {
    println!();
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "instructions a request, in a rollout", "none", "stable", "here", "there"
    );
    for (case, none) in CASES.iter().zip(found).filter(|(case, _)| case.answer == Answer::Text) {
        let more = [Tries::Others, Tries::Here, Tries::There].map(|rollout| cost(&Case { rollout, ..*case }) - none);
        let share = more.map(|part| part / none * 100.0);
        println!("{:<44} {:>9.0} {:>+9.0} {:>+9.0} {:>+9.0}", case.name, none, more[0], more[1], more[2]);
        println!("{:<44} {:>9} {:>+8.2}% {:>+8.2}% {:>+8.2}%", "", "", share[0], share[1], share[2]);
    }
}
