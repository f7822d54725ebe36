//! Every image of this project, built together: one cargo run, then an archive each.

use anyhow::Result;

use crate::{
    clients::JavaScript,
    images::{Binary, Image, build_binaries, build_binary_image, build_node_app},
};

/// The images that the chart and the example use.
#[derive(Debug, Clone)]
pub struct Images {
    /// The data plane.
    pub gateway: Image,
    /// The operator.
    pub operator: Image,
    /// The stand-in for the vendors.
    pub fake_provider: Image,
    /// Node with the SDKs and the example's scripts.
    pub example_app: Image,
}

impl Images {
    /// Builds what changed.
    pub async fn build() -> Result<Self> {
        let binaries = build_binaries().await?;
        Ok(Self {
            gateway: build_binary_image(Binary::GATEWAY, binaries.gateway)?,
            operator: build_binary_image(Binary::OPERATOR, binaries.operator)?,
            fake_provider: build_binary_image(Binary::FAKE_PROVIDER, binaries.fake_provider)?,
            example_app: build_node_app(&JavaScript::install().await?).await?,
        })
    }

    /// All of them, to be loaded.
    pub fn all(&self) -> [&Image; 4] {
        [&self.gateway, &self.operator, &self.fake_provider, &self.example_app]
    }
}
