//! Last of all: no key value is anywhere but in Secrets, after everything that the other scenarios did.

use anyhow::{Result, ensure};
use base64::Engine as _;
use futures::FutureExt;

use super::gateway::{APP_ANTHROPIC, APP_OPENAI, POOL_ANTHROPIC, POOL_OPENAI};
use crate::{
    deploy::OPERATOR_NAMESPACE,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "no-leaks",
    "No ConfigMap, event, status, pod spec or log of the whole run holds a key's value",
    |context| run(context).boxed(),
);

/// Where values must not be: everything that can be read but Secrets.
const KINDS: &str = "configmaps,events,bifrostgateways,providerkeys,pods,deployments,services";

async fn run(context: &Context) -> Result<()> {
    // A gateway with traffic of its own, so that the search finds something to read whatever ran before.
    super::gateway::create(context, 1, serde_json::json!({"strategy": "Canary", "canaryPercent": 50})).await?;
    super::gateway::load(context, &["--requests", "200", "--users", "fixed"]).await?.all_served()?;
    let all = context.access.kubectl(["get", KINDS, "--all-namespaces", "--output=yaml"]).await?;
    clean("the objects", &all)?;
    let mut logs = 0;
    for namespace in [context.namespace.as_str(), OPERATOR_NAMESPACE] {
        logs += search_logs(context, namespace).await?;
    }
    ensure!(all.len() > 10_000 && logs > 0, "there was nothing to search");
    println!("  searched {} KiB of objects and {} KiB of logs", all.len() / 1024, logs / 1024);
    Ok(())
}

/// Searches the logs of all pods of a namespace; returns how many bytes there were.
pub(super) async fn search_logs(context: &Context, namespace: &str) -> Result<usize> {
    let pods = context.access.kubectl(["--namespace", namespace, "get", "pods", "--output=name"]).await?;
    let mut bytes = 0;
    for pod in pods.lines() {
        let args = ["--namespace", namespace, "logs", pod, "--all-containers", "--tail=-1"];
        let log = context.access.kubectl(args).await?;
        clean(pod, &log)?;
        bytes += log.len();
    }
    Ok(bytes)
}

fn clean(place: &str, text: &str) -> Result<()> {
    for value in [POOL_OPENAI, POOL_ANTHROPIC, APP_OPENAI, APP_ANTHROPIC, "sk-pool-", "sk-ant-pool-"] {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        ensure!(!text.contains(value) && !text.contains(&encoded), "{place} holds a key's value");
    }
    Ok(())
}
