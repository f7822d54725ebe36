//! `down`: removes a local cluster.

use anyhow::Result;

use crate::{
    cluster::Cluster,
    commands::{LOCAL, TEST},
    progress,
};

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the cluster of this name; else the local one, and that of tests if one was left
    #[arg(long)]
    name: Option<String>,
}

/// Removes the cluster with its processes, mounts, namespaces, cgroups and files. What was built stays in the cache.
pub async fn run(args: Args) -> Result<()> {
    let (name, left) = match &args.name {
        Some(name) => (name.as_str(), None),
        None => (LOCAL, Some(TEST)),
    };
    let stopped = Cluster::stop(name).await;
    if let Some(left) = left {
        Cluster::stop(left).await?;
    }
    if !stopped? {
        progress::line(&format!("There is no cluster {name}."));
    }
    Ok(())
}
