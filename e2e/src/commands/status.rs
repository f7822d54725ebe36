//! `status`: what runs, where it is reached, and whether it is well.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cluster::Cluster, commands::LOCAL};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name
    #[arg(long, default_value = LOCAL)]
    name: String,
}

/// Prints the status on stdout; fails when the cluster is not well.
pub async fn run(args: &Args) -> Result<ExitCode> {
    let Some(cluster) = Cluster::attach(&args.name)? else {
        println!("cluster {}: does not run", args.name);
        return Ok(ExitCode::FAILURE);
    };
    for process in cluster.processes() {
        let state = process.pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
        println!("{:<24} {state:<12} {}", process.name, process.log.display());
    }
    for forward in cluster.forwards()? {
        println!("127.0.0.1:{:<14} -> {}", forward.port, forward.to);
    }
    println!("kubeconfig: {}", cluster.access()?.kubeconfig.display());
    match cluster.check_health().await {
        Ok(()) => {
            println!("cluster {}: healthy", args.name);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("cluster {}: {error:#}", args.name);
            Ok(ExitCode::FAILURE)
        }
    }
}
