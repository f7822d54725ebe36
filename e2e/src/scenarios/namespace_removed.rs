//! Without an operator, pods serve on and a namespace can still be deleted: no finalizer waits for anybody.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::FutureExt;
use serde_json::Value;

use super::{gateway, load};
use crate::{
    deploy::{Operator, Watch},
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "namespace-removed",
    "After helm uninstall traffic goes on, and a namespace with a gateway can be deleted",
    |context| run(context).boxed(),
)
.embedded_only();

/// How long the namespace may take; its pods end their streams first.
const LIMIT: Duration = Duration::from_secs(60);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, Value::Null).await?;
    // Everything goes, logs too.
    context.stage.leaks.search(context).await?;
    let outcome = without_operator(context).await;
    Operator::install(&context.target, &context.stage.images, Watch::Cluster).await?;
    outcome
}

async fn without_operator(context: &Context) -> Result<()> {
    Operator::uninstall(&context.target).await?;
    let crds = ["get", "crd/bifrostgateways.bifrost.dev", "crd/providerkeys.bifrost.dev"];
    context.kubectl(&crds).await.context("the resource definitions went with the release")?;
    let load = load::send(context, &["--requests", "50"]).await?;
    load.all_served()?;
    println!("  helm uninstall: {} requests served without an operator, the resources are still there", load.requests);
    let began = Instant::now();
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    context.access.kubectl(["delete", "namespace", &context.namespace, &limit]).await?;
    println!("  the namespace of a gateway is gone after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
