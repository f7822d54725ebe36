//! Runs the gateway under callgrind, and reads what that found.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::{answer, connect, free_address, request};
use crate::gateway::Setup;
use crate::{Case, Tries};

/// What only the analysis needs. What a function has inlined is in its own cost, so of each group the first that is there counts.
const ANALYSIS: [&[&str]; 4] = [
    &["bifrost_gateway::pipeline::measure::sample"],
    &["bifrost_gateway::telemetry::models::ModelLabels::has"],
    &["bifrost_analysis::window::Window::slot"],
    &["bifrost_analysis::window::Window::record_at", "bifrost_analysis::sums::GroupSums::record"],
];
/// All that counts a request once its sample is made.
const COUNTING: &str = "bifrost_gateway::telemetry::recorder::Recorder::record";

/// Instructions.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// All.
    pub(crate) all: f64,
    /// Of the analysis, as far as it has functions of its own.
    pub(crate) analysis: f64,
    /// Of all counting.
    pub(crate) counting: f64,
}

/// What one process that served so many requests took.
pub(crate) fn run(folder: &Path, provider: SocketAddr, case: &Case, requests: u64) -> Cost {
    let out = folder.join("callgrind.out");
    let address = free_address();
    let Case { percent, shadow, rollout, .. } = *case;
    let setup = Setup { port: address.port(), provider: provider.port(), percent, shadow, rollout };
    let mut process = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe().unwrap())
        .args(setup.args())
        .stdin(Stdio::piped())
        .spawn()
        .expect("valgrind must be installed: apt-get install valgrind");
    let mut client = connect(address, &mut process);
    let request = request(case);
    for _ in 0..requests {
        client.write_all(request.as_bytes()).unwrap();
        let answer = answer(&mut client);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(told(rollout)), "{answer}");
    }
    drop(client);
    // The end of its input is the word.
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success(), "the gateway ended badly");
    read(&out)
}

/// What tells by whom it was answered.
fn told(rollout: Tries) -> &'static str {
    match rollout {
        Tries::Nothing => "x-bf-arm-reason: canary",
        Tries::Others => "x-bf-revision: measured",
        Tries::Here | Tries::There => "x-bf-revision: next",
    }
}

/// Total and inclusive costs, as callgrind_annotate tells them.
fn read(out: &Path) -> Cost {
    let output =
        Command::new("callgrind_annotate").args(["--inclusive=yes", "--threshold=100"]).arg(out).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<(f64, &str)> = text.lines().filter_map(cost).collect();
    let of = |name: &str| -> f64 {
        // A method of a type stands as `<path::Type>::method` or `path::Type::method`.
        let is_it = |line: &str| line.replace(['<', '>'], "").contains(name);
        lines.iter().filter(|(_, line)| is_it(line)).map(|(cost, _)| cost).fold(0.0, |most, cost| most.max(*cost))
    };
    let total = lines.iter().find(|(_, line)| line.contains("PROGRAM TOTALS")).map_or(0.0, |(cost, _)| *cost);
    let first = |group: &[&str]| group.iter().map(|name| of(name)).find(|cost| *cost > 0.0).unwrap_or(0.0);
    Cost { all: total, analysis: ANALYSIS.iter().map(|group| first(group)).sum(), counting: of(COUNTING) }
}

/// `1,234,567 (12.34%)  file:function [object]`
fn cost(line: &str) -> Option<(f64, &str)> {
    let (number, rest) = line.trim_start().split_once(' ')?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
    is_number.then(|| number.replace(',', "").parse().ok().map(|cost| (cost, rest))).flatten()
}
