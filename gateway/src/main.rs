//! The gateway's program. Everything it does is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything speaks TLS: libraries look for the process's provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("bifrost-gateway: a TLS provider was installed before the program's own");
        return ExitCode::FAILURE;
    }
    bifrost_gateway::cli::run(std::env::args_os())
}
