//! What runs in the cluster: the operator by its chart, the fake vendors, the example. `up` and the scenarios use the same.

mod example;
mod operator;
mod vendors;

pub use example::{EXAMPLE_NAMESPACE, Example};
pub use operator::{OPERATOR_NAMESPACE, Operator, Watch};
pub use vendors::{VENDORS_NAMESPACE, Vendors};

use anyhow::{Context, Result};

use crate::{paths, target::Target};

/// The label of namespaces whose pods have no rights at all: the product's own need none.
pub const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// Images that manifests name by a tag of their own, which stands for the one built here.
const TAG_IN_MANIFESTS: &str = ":dev";

/// A manifest of `examples/`, with the image's reference in place of the one that stands for it.
fn manifest(file: &str, image: Option<&crate::images::Image>) -> Result<String> {
    let path = paths::checkout()?.join("examples").join(file);
    let text = crate::files::read(&path)?;
    let Some(image) = image else { return Ok(text) };
    let (repository, _) = image.reference.rsplit_once(':').context("an image reference without a tag")?;
    Ok(text.replace(&format!("{repository}{TAG_IN_MANIFESTS}"), &image.reference))
}

/// Waits until a Deployment's pods are all of its newest template, and ready.
async fn rolled_out(target: &Target, namespace: &str, deployment: &str) -> Result<()> {
    let object = format!("deployment/{deployment}");
    let args = ["--namespace", namespace, "rollout", "status", &object, "--timeout=120s"];
    target.access()?.kubectl(args).await.map(drop)
}
