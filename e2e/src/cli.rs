//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{components, down, env, forward, images, status, test, up};

/// Runs Bifrost on a local Kubernetes cluster, and tests it there.
#[derive(Debug, Parser)]
#[command(name = "bifrost-local", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the local cluster with everything in it; safe to repeat
    Up(up::Args),
    /// Removes a local cluster and every trace of it
    Down(down::Args),
    /// Prints shell lines that point kubectl, helm and the SDKs at the local cluster
    Env(env::Args),
    /// Shows what runs
    Status(status::Args),
    /// Runs the end-to-end scenarios on a cluster of their own
    Test(test::Args),
    /// Installs and builds the cluster's components, as `up` does when they are missing
    Components(components::Args),
    /// Builds this project's images and loads them into a running local cluster
    Images(images::Args),
    /// Forwards ports of 127.0.0.1 into a cluster; started in the background by `up`
    #[command(hide = true)]
    Forward(forward::Args),
}

/// Runs the command; errors go to stderr with their causes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::progress::begin();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,kube_client=off".into()),
        )
        .init();
    // Fails only when one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            crate::progress::line(&format!("Error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // It moves its thread into another network namespace, so it makes its runtime itself.
    if let Command::Forward(args) = command {
        forward::run(&args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await?,
            Command::Down(args) => down::run(args).await?,
            Command::Env(args) => env::run(&args)?,
            Command::Status(args) => return status::run(&args).await,
            Command::Test(args) => return test::run(args).await,
            Command::Components(args) => components::run(&args).await?,
            Command::Images(args) => images::run(args).await?,
            Command::Forward(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
