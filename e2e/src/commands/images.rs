//! `images`: builds this project's images, and loads them into a running local cluster.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    clients::JavaScript,
    cluster::Cluster,
    commands::LOCAL,
    images::{self, Binary, Image},
    progress,
};

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these
    images: Vec<Which>,
    /// The cluster to load them into, when it runs
    #[arg(long, default_value = LOCAL)]
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Gateway,
    Operator,
    FakeProvider,
    ExampleApp,
}

impl Which {
    async fn build(self) -> Result<Image> {
        let binary = match self {
            Self::Gateway => Binary::GATEWAY,
            Self::Operator => Binary::OPERATOR,
            Self::FakeProvider => Binary::FAKE_PROVIDER,
            Self::ExampleApp => return images::build_node_app(&JavaScript::install().await?).await,
        };
        let [image] = images::build_programs([binary]).await?;
        Ok(image)
    }
}

/// Prints each image's name on stdout.
pub async fn run(args: Args) -> Result<()> {
    let cluster = Cluster::attach(&args.name)?;
    let which = if args.images.is_empty() { Which::value_variants().to_vec() } else { args.images };
    for which in which {
        let image = which.build().await?;
        println!("{}", image.reference);
        if let Some(cluster) = &cluster {
            cluster.load_image(&image).await?;
            progress::line(&format!("Loaded into cluster {}: {}", cluster.name(), image.reference));
        }
    }
    Ok(())
}
