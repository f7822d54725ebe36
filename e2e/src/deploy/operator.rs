//! The operator, installed as users install it: with the chart.

use anyhow::Result;

use super::rolled_out;
use crate::{images::Images, paths, progress::Step, target::Target};

/// Where the chart is installed.
pub const OPERATOR_NAMESPACE: &str = "bifrost-system";
const RELEASE: &str = "bifrost";

/// Whose gateways the operator serves.
#[derive(Debug, Clone, Copy)]
pub enum Watch<'a> {
    /// These namespaces', which exist.
    Namespaces(&'a [&'a str]),
    /// Everybody's.
    Cluster,
}

/// The installed operator.
#[derive(Debug, Clone, Copy)]
pub struct Operator;

impl Operator {
    /// The name of its Deployment.
    pub const DEPLOYMENT: &'static str = "bifrost-operator";

    /// Installs or upgrades it, and waits until it runs.
    pub async fn install(target: &Target, images: &Images, watch: Watch<'_>) -> Result<()> {
        let step = Step::start("Installing the chart");
        let chart = paths::checkout()?.join("helm/bifrost").display().to_string();
        let (operator, gateway) =
            (image_values("image", &images.operator), image_values("gateway.image", &images.gateway));
        let watch = match watch {
            Watch::Namespaces(names) => format!("watch.namespaces={{{}}}", names.join(",")),
            Watch::Cluster => "watch.cluster=true".to_owned(),
        };
        let mut args =
            vec!["upgrade", "--install", RELEASE, &chart, "--namespace", OPERATOR_NAMESPACE, "--create-namespace"];
        for value in operator.iter().chain(&gateway).chain([&watch]) {
            args.extend(["--set", value]);
        }
        target.access()?.helm(args).await?;
        rolled_out(target, OPERATOR_NAMESPACE, Self::DEPLOYMENT).await?;
        step.done();
        Ok(())
    }

    /// Removes the release, as a user does, and waits until its objects are gone. The resource definitions stay.
    pub async fn uninstall(target: &Target) -> Result<()> {
        let args = ["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait"];
        target.access()?.helm(args).await.map(drop)
    }
}

fn image_values(prefix: &str, image: &crate::images::Image) -> [String; 2] {
    let (repository, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, ""));
    [format!("{prefix}.repository={repository}"), format!("{prefix}.tag={tag}")]
}
