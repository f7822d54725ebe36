//! The chart's default: an operator for its own namespace alone, which has no rights elsewhere and needs none.

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::Value;

use super::{gateway, load, operator};
use crate::{
    deploy::{Operator, VENDORS_NAMESPACE},
    run,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "namespaced-watch",
    "An operator of one namespace serves a gateway there under restricted pod security, and may read no Secret elsewhere",
    |context| run(context).boxed(),
)
.embedded_only();

async fn run(context: &Context) -> Result<()> {
    // The one that serves all namespaces would do the work in place of this one.
    operator::without(context, alone(context)).await
}

async fn alone(context: &Context) -> Result<()> {
    Operator::install_beside(&context.target, &context.stage.images, &context.namespace).await?;
    gateway::create(context, 1, Value::Null).await?;
    load::send(context, &["--requests", "1"]).await?.all_served()?;
    ensure!(may_read_secrets(context, &context.namespace).await?, "it may not read the Secrets of its own namespace");
    for namespace in [VENDORS_NAMESPACE, "kube-system", "default"] {
        ensure!(!may_read_secrets(context, namespace).await?, "it may read the Secrets of {namespace}");
    }
    println!("  a gateway is ready and serves; Secrets of other namespaces are out of the operator's reach");
    context.stage.leaks.search(context).await?;
    // Before the other one is back: two would work on the same gateway.
    Operator::uninstall_beside(&context.target, &context.namespace).await
}

async fn may_read_secrets(context: &Context, namespace: &str) -> Result<bool> {
    let account = format!("system:serviceaccount:{}:{}", context.namespace, Operator::DEPLOYMENT);
    let args = ["auth", "can-i", "get", "secrets", "--namespace", namespace, "--as", &account];
    let answer = run::output_of(&mut context.access.kubectl_command(args)).await?;
    // It ends with an error for a no, as for a failure.
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => anyhow::bail!("kubectl auth can-i: {}", String::from_utf8_lossy(&answer.stderr)),
    }
}
