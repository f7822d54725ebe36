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
        let [gateway, operator, fake_provider] =
            build_programs([Binary::GATEWAY, Binary::OPERATOR, Binary::FAKE_PROVIDER]).await?;
        let example_app = build_node_app(&JavaScript::install().await?).await?;
        Ok(Self { gateway, operator, fake_provider, example_app })
    }

    /// All of them, to be loaded.
    pub fn all(&self) -> [&Image; 4] {
        [&self.gateway, &self.operator, &self.fake_provider, &self.example_app]
    }
}

/// Compiles programs together and makes an image of each.
pub async fn build_programs<const N: usize>(binaries: [Binary; N]) -> Result<[Image; N]> {
    let paths = build_binaries(&binaries).await?;
    let images = binaries.into_iter().zip(paths).map(|(binary, path)| build_binary_image(binary, path));
    let images: Vec<Image> = images.collect::<Result<_>>()?;
    images.try_into().map_err(|_| anyhow::anyhow!("another number of images than of programs"))
}
