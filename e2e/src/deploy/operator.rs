//! The operator, installed as users install it: with the chart.

use anyhow::Result;
use serde_json::json;

use super::{RESTRICTED, rolled_out};
use crate::{images::Images, paths, progress::Step, target::Target};

/// Where the chart is installed.
pub const OPERATOR_NAMESPACE: &str = "bifrost-system";
const RELEASE: &str = "bifrost";

/// Metrics of an analysis are asked for at the fake vendors' pod.
const METRICS_HOST: &str = "analysis.allowedHosts={measures.vendors.svc}";
/// What belongs to the cluster is one release's only.
const SECOND_RELEASE: [&str; 3] =
    ["crds.install=false", "admissionPolicy.install=false", "rbac.aggregateClusterRoles=false"];

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
    /// The name of its Deployment, ServiceAccount and Lease.
    pub const DEPLOYMENT: &'static str = "bifrost-operator";

    /// Installs or upgrades it, and waits until it runs.
    pub async fn install(target: &Target, images: &Images, watch: Watch<'_>) -> Result<()> {
        Self::install_with(target, images, watch, &[]).await
    }

    /// The same, with further values of the chart.
    pub async fn install_with(target: &Target, images: &Images, watch: Watch<'_>, values: &[&str]) -> Result<()> {
        let labels = json!({RESTRICTED.0: RESTRICTED.1});
        let metadata = json!({"name": OPERATOR_NAMESPACE, "labels": labels});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        target.access()?.apply(None, &namespace.to_string()).await?;
        let watch = match watch {
            Watch::Namespaces(names) => format!("watch.namespaces={{{}}}", names.join(",")),
            Watch::Cluster => "watch.cluster=true".to_owned(),
        };
        let values = [&[&*watch, METRICS_HOST], values].concat();
        upgrade(target, images, OPERATOR_NAMESPACE, &values).await
    }

    /// A second one, for the namespace that it is in and no other, and waits until it runs.
    pub async fn install_beside(target: &Target, images: &Images, namespace: &str) -> Result<()> {
        upgrade(target, images, namespace, &SECOND_RELEASE).await
    }

    /// Removes the release, as a user does, and waits until its objects are gone. The resource definitions stay.
    pub async fn uninstall(target: &Target) -> Result<()> {
        remove(target, OPERATOR_NAMESPACE).await
    }

    /// Removes a second one.
    pub async fn uninstall_beside(target: &Target, namespace: &str) -> Result<()> {
        remove(target, namespace).await
    }
}

async fn remove(target: &Target, namespace: &str) -> Result<()> {
    target.access()?.helm(["uninstall", RELEASE, "--namespace", namespace, "--wait"]).await.map(drop)
}

async fn upgrade(target: &Target, images: &Images, namespace: &str, values: &[&str]) -> Result<()> {
    let step = Step::start("Installing the chart");
    let chart = paths::checkout()?.join("helm/bifrost").display().to_string();
    let (operator, gateway) = (image_values("image", &images.operator), image_values("gateway.image", &images.gateway));
    let mut args = vec!["upgrade", "--install", RELEASE, &chart, "--namespace", namespace];
    for value in operator.iter().chain(&gateway).map(String::as_str).chain(values.iter().copied()) {
        args.extend(["--set", value]);
    }
    target.access()?.helm(args).await?;
    rolled_out(target, namespace, Operator::DEPLOYMENT).await?;
    step.done();
    Ok(())
}

fn image_values(prefix: &str, image: &crate::images::Image) -> [String; 2] {
    let (repository, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, ""));
    [format!("{prefix}.repository={repository}"), format!("{prefix}.tag={tag}")]
}
