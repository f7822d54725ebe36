//! No key value is anywhere but in Secrets: shown for a gateway with traffic, and that the search which follows every scenario would
//! find one that is.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::FutureExt;
use serde_json::json;

use super::{
    gateway::{self, POOL_OPENAI},
    leaks::Leaks,
    load,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "no-leaks",
    "No ConfigMap, event, status, pod spec or log of the whole run holds a key's value, and one that did would be found",
    |context| run(context).boxed(),
);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, json!({"strategy": "Canary", "canaryPercent": 50})).await?;
    load::send(context, &["--requests", "200", "--users", "fixed"]).await?.all_served()?;
    let leaks = &context.stage.leaks;
    let before = leaks.totals();
    leaks.search(context).await?;
    let now = leaks.totals();
    ensure!(now.objects > before.objects && now.logs > before.logs, "there was nothing to search: {now}");
    a_planted_key_is_found(context).await?;
    ensure!(now.hits.is_empty(), "{}", now.hits.join("; "));
    println!("  so far in this run: {now}");
    Ok(())
}

async fn a_planted_key_is_found(context: &Context) -> Result<()> {
    let text = STANDARD.encode(format!("v={POOL_OPENAI}"));
    let planted =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"}, "data": {"note": text}});
    context.apply(&planted.to_string()).await?;
    // One of its own, whose hit is none of the run's.
    let found = Leaks::default().search(context).await;
    context.kubectl(&["delete", "configmap/planted"]).await?;
    let error = found.err().context("a planted key is not found")?;
    ensure!(error.to_string().contains(&context.namespace), "{error:#}");
    println!("  a planted key in base64 is found");
    Ok(())
}
