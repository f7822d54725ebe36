//! What counting for the analysis, a shadow and a rollout cost a request: instructions under callgrind, of the gateway's server on one runtime,
//! between a client and a provider on loopback.
//!
//! `make cost`, or `cargo run --release -p bifrost-gateway --example request_cost`; needs `valgrind`.
//!
//! Each case runs twice, with few requests and with many, and the difference is what requests cost: the start of the process is in
//! both. Counting cannot be switched off, so there is no run without it to compare with: the share of the analysis is the inclusive cost
//! of the functions that only it needs; beside it that of all counting, metrics included, into which the rest of it is inlined. What is looked at in tool calls is
//! on top: the difference to the same answers to a request that names no tools. What a shadow or a rollout costs is a difference too: to
//! the same requests without one. Of a request that is forwarded to a candidate's own pods it is the stable pod's side; the provider plays
//! the other.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends")]

mod callgrind;
mod client;
mod gateway;
mod provider;

use std::net::SocketAddr;
use std::path::Path;

use callgrind::Cost;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of the two runs of a case.
const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// What the analysis may cost of a request, and a shadow of one that it does not copy.
const MOST_PERCENT: f64 = 3.0;

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

/// What the provider answers, to what request.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Text,
    ToolCall,
    /// The request has a member of the same size and another name.
    UnnamedToolCall,
}

const fn case(name: &'static str, percent: u8, stream: bool, answer: Answer) -> Case {
    Case { name, percent, stream, answer, shadow: None, rollout: Tries::Nothing }
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
        println!("a case is over it, or the functions of the analysis were not found");
        std::process::exit(1);
    }
}

/// What each request of a case takes.
fn cost(folder: &Path, provider: SocketAddr, case: &Case) -> Cost {
    let [few, many] = [FEW, MANY].map(|requests| callgrind::run(folder, provider, case, requests));
    let each = |of: fn(&Cost) -> f64| (of(&many) - of(&few)) / (MANY - FEW) as f64;
    Cost { all: each(|cost| cost.all), analysis: each(|cost| cost.analysis), counting: each(|cost| cost.counting) }
}

/// Whether the analysis keeps to its share in each case.
fn analysis(found: &[Cost; CASES.len()], cost: impl Fn(&Case) -> Cost) -> bool {
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "instructions a request", "all", "analysis", "counting", "tools");
    let mut keeps = true;
    for (case, found) in CASES.iter().zip(found) {
        let tools = match case.answer {
            Answer::ToolCall => found.all - cost(&Case { answer: Answer::UnnamedToolCall, ..*case }).all,
            _ => 0.0,
        };
        let Cost { all, analysis, counting } = *found;
        println!("{:<44} {all:>9.0} {analysis:>9.0} {counting:>9.0} {tools:>9.0}", case.name);
        let share = |part: f64| part / all * 100.0;
        println!("{:<44} {:>9} {:>8.2}% {:>8.2}% {:>8.2}%", "", "", share(analysis), share(counting), share(tools));
        keeps &= analysis > 0.0 && share(analysis) <= MOST_PERCENT;
    }
    println!("the analysis may cost {MOST_PERCENT} % of a request, tool calls apart\n");
    keeps
}

/// Whether a shadow keeps to its share in each case, of requests that are not copied.
fn shadow(found: &[Cost; CASES.len()], cost: impl Fn(&Case) -> Cost) -> bool {
    println!("{:<44} {:>9} {:>9} {:>9}", "instructions a request, with a shadow", "none", "not taken", "taken");
    let mut keeps = true;
    for (case, none) in CASES.iter().zip(found).filter(|(case, _)| case.answer == Answer::Text) {
        let more = |chosen| cost(&Case { shadow: Some(chosen), ..*case }).all - none.all;
        let (not_taken, taken) = (more(0), more(100));
        let share = |part: f64| part / none.all * 100.0;
        println!("{:<44} {:>9.0} {not_taken:>+9.0} {taken:>+9.0}", case.name, none.all);
        println!("{:<44} {:>9} {:>+8.2}% {:>+8.2}%", "", "", share(not_taken), share(taken));
        keeps &= share(not_taken) <= MOST_PERCENT;
    }
    println!("a shadow may cost {MOST_PERCENT} % of a request that it does not take");
    keeps
}

/// What a rollout costs each case. It lasts for hours at the most, and has no share to keep to.
fn rollout(found: &[Cost; CASES.len()], cost: impl Fn(&Case) -> Cost) {
    println!();
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "instructions a request, in a rollout", "none", "stable", "here", "there"
    );
    for (case, none) in CASES.iter().zip(found).filter(|(case, _)| case.answer == Answer::Text) {
        let more =
            [Tries::Others, Tries::Here, Tries::There].map(|rollout| cost(&Case { rollout, ..*case }).all - none.all);
        let share = more.map(|part| part / none.all * 100.0);
        println!("{:<44} {:>9.0} {:>+9.0} {:>+9.0} {:>+9.0}", case.name, none.all, more[0], more[1], more[2]);
        println!("{:<44} {:>9} {:>+8.2}% {:>+8.2}% {:>+8.2}%", "", "", share[0], share[1], share[2]);
    }
}
