//! `images`: builds this project's images, and loads them into a running local cluster.

use anyhow::Result;

use crate::{cluster::Cluster, commands::LOCAL, images::Images, progress};

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster to load them into, when it runs
    #[arg(long, default_value = LOCAL)]
    name: String,
}

/// Prints each image's name and its archive on stdout.
pub async fn run(args: Args) -> Result<()> {
    let cluster = Cluster::attach(&args.name)?;
    for image in Images::build().await?.all() {
        println!("{}\t{}", image.reference, image.archive.display());
        if let Some(cluster) = &cluster {
            cluster.load_image(image).await?;
            progress::line(&format!("Loaded into cluster {}: {}", cluster.name(), image.reference));
        }
    }
    Ok(())
}
