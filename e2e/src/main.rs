//! `bifrost-local`: the local cluster and the end-to-end scenarios.

use std::process::ExitCode;

fn main() -> ExitCode {
    bifrost_e2e::cli::main()
}
