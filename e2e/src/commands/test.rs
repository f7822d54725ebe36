//! `test`: the end-to-end scenarios, on a cluster that is started for them and removed afterwards.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cluster::{Cluster, Options},
    commands::{TEST, TargetArgs},
    progress,
    scenarios::{self, Scenario, Stage, Summary, runner},
};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only scenarios whose name contains this
    filter: Option<String>,
    /// List the scenarios and do nothing
    #[arg(long)]
    list: bool,
    /// Leave the cluster and what the scenarios made in it
    #[arg(long)]
    keep: bool,
    /// The name of the embedded cluster
    #[arg(long, default_value = TEST)]
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs the scenarios; fails when one does.
pub async fn run(args: Args) -> Result<ExitCode> {
    let scenarios = scenarios::all_matching(args.filter.as_deref());
    if args.list {
        for scenario in &scenarios {
            println!("{:<32} {}", scenario.name, scenario.description);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if scenarios.is_empty() {
        bail!("no scenario has {:?} in its name; --list shows them", args.filter.unwrap_or_default());
    }
    // The cluster goes whatever happened: a failure to start, a failed scenario, Ctrl-C.
    let outcome = tokio::select! {
        outcome = run_on_cluster(&args, &scenarios) => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let removed = if args.keep || args.target.is_external() { Ok(false) } else { Cluster::stop(&args.name).await };
    let summary = outcome?;
    removed?;
    println!("{summary}");
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_on_cluster(args: &Args, scenarios: &[Scenario]) -> Result<Summary> {
    let options = Options { name: args.name.clone(), api_port: 0, forwards: Vec::new() };
    let target = args.target.open(&options).await?;
    let stage = Stage::prepare(&target).await?;
    let summary = runner::run(&target, &stage, scenarios, args.keep).await;
    if args.keep {
        progress::line(&format!("Kept: KUBECONFIG={}", target.access()?.kubeconfig.display()));
    }
    Ok(summary)
}

/// Ready at Ctrl-C, when this program is asked to end, or when its terminal is closed.
async fn interrupted() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut streams: Vec<_> = signals.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    if streams.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(streams.iter_mut().map(|stream| Box::pin(stream.recv()))).await;
}
