//! `components`: installs and builds what a cluster is made of.

use anyhow::Result;

use crate::components::{self, Components};

/// Arguments of `components`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Installs what is missing and says where everything is.
pub async fn run(_: &Args) -> Result<()> {
    let components = Components::install().await?;
    components::announce(&components);
    Ok(())
}
