//! The example: a gateway at ten percent, two provider keys, and an application that is pointed at it by `envFrom`.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Vendors, manifest, rolled_out};
use crate::{images::Images, progress::Step, target::Target};

/// Where it lives.
pub const EXAMPLE_NAMESPACE: &str = "llm";
/// The application's Deployment.
const APP: &str = "example-app";

/// The running example.
#[derive(Debug, Clone, Copy)]
pub struct Example;

impl Example {
    /// Applies it and waits until it works. A share that the user has set since stays.
    pub async fn install(target: &Target, images: &Images, vendors: &Vendors) -> Result<()> {
        let access = target.access()?;
        vendors.trust_in(target, EXAMPLE_NAMESPACE).await?;
        let step = Step::start("Applying the example gateway");
        access.apply(None, &manifest("local/gateway.yaml", None)?).await?;
        access
            .kubectl([
                "--namespace",
                EXAMPLE_NAMESPACE,
                "wait",
                "bifrostgateway/ai",
                "--for=condition=Ready",
                "--timeout=120s",
            ])
            .await?;
        step.done();
        let step = Step::start("Starting the example application");
        access.apply(None, &manifest("local/app.yaml", Some(&images.example_app))?).await?;
        rolled_out(target, EXAMPLE_NAMESPACE, APP).await?;
        step.done();
        Ok(())
    }

    /// Sends requests with the SDK from within the application's pod and returns what it printed.
    pub async fn send(target: &Target, requests: u32) -> Result<String> {
        let step = Step::start(format!("Sending {requests} SDK requests from the application through the Service"));
        let deployment = format!("deployment/{APP}");
        let count = requests.to_string();
        let args = ["--namespace", EXAMPLE_NAMESPACE, "exec", &deployment, "--", "node", "app.mjs", "--once", &count];
        let sent = tokio::time::timeout(Duration::from_secs(120), target.access()?.kubectl(args)).await;
        let sent = sent.context("the application's requests did not end in two minutes")??;
        step.done();
        Ok(sent)
    }
}
