//! `down`: removes a local cluster.

use anyhow::Result;

use crate::{cluster::Cluster, commands::LOCAL, progress};

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's name
    #[arg(long, default_value = LOCAL)]
    name: String,
}

/// Removes the cluster with its processes, mounts, namespaces, cgroups and files. What was built stays in the cache.
pub async fn run(args: Args) -> Result<()> {
    if !Cluster::stop(&args.name).await? {
        progress::line(&format!("There is no cluster {}.", args.name));
    }
    Ok(())
}
