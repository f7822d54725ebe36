//! Runs the gateway under callgrind, and reads what that found.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::{answer, connect, free_address, request};
use crate::gateway::Setup;
use crate::{Case, Tries};

/// The instructions of a process that served so many requests.
pub(crate) fn run(folder: &Path, provider: SocketAddr, case: &Case, requests: u64) -> f64 {
    let out = folder.join("callgrind.out");
    let address = free_address();
    let Case { percent, shadow, rollout, counts, .. } = *case;
    let setup = Setup { port: address.port(), provider: provider.port(), percent, shadow, rollout, counts };
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

/// The total: the last number of the line `totals: 1234567`, or `summary:` where there are several.
fn read(out: &Path) -> f64 {
    let text = std::fs::read_to_string(out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("callgrind says a total");
    total.trim().parse().unwrap()
}
