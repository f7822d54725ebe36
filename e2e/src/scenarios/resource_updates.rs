//! How `kubectl` and the resource get along: apply, patch, replace, scale, and the ways in and out of a canary.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT},
    objects,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "resource-updates",
    "Re-apply is unchanged, a patch of the percent stays, and what would end a canary by accident is refused",
    |context| run(context).boxed(),
);

async fn run(context: &Context) -> Result<()> {
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    let plain = gateway::manifest(1, Value::Null, Vec::new());
    context.apply(&plain.to_string()).await?;
    let again = context.apply(&plain.to_string()).await?;
    ensure!(again.contains("unchanged"), "{again}");

    let patch = json!({"spec": {"migration": {"canaryPercent": 10}}}).to_string();
    context.kubectl(&["patch", OBJECT, "--type=merge", "--patch", &patch]).await?;
    let again = context.apply(&plain.to_string()).await?;
    ensure!(again.contains("unchanged"), "{again}");
    ensure!(percent(context).await? == 10, "the old file took the percent away");

    let canary = gateway::manifest(1, json!({"strategy": "Canary", "canaryPercent": 20}), Vec::new());
    context.apply(&canary.to_string()).await?;
    refused(context.apply(&plain.to_string()).await, "set strategy: DropIn")?;
    refused(replace(context, &plain).await, "set strategy: DropIn")?;
    let both = gateway::manifest(1, json!({"strategy": "DropIn", "canaryPercent": 20}), Vec::new());
    refused(context.apply(&both.to_string()).await, "belongs to strategy Canary")?;
    ensure!(percent(context).await? == 20, "a refused change had an effect");

    let drop_in = gateway::manifest(1, json!({"strategy": "DropIn"}), Vec::new());
    context.apply(&drop_in.to_string()).await?;
    context.apply(&canary.to_string()).await?;
    println!("  apply, patch and replace do what they say; Canary → DropIn → Canary works");

    context.kubectl(&["scale", "bgw", NAME, "--replicas=2"]).await?;
    context.wait_for_pods(&gateway::selector(), 2, Duration::from_secs(60)).await?;
    println!("  kubectl scale bgw works");
    Ok(())
}

async fn percent(context: &Context) -> Result<i64> {
    let seen = objects::get(context, OBJECT).await?;
    seen["spec"]["migration"]["canaryPercent"].as_i64().context("no canaryPercent")
}

async fn replace(context: &Context, manifest: &Value) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    crate::files::write(file.path(), manifest.to_string())?;
    context.kubectl(&["replace", "--filename", &file.path().display().to_string()]).await
}

fn refused(outcome: Result<String>, message: &str) -> Result<()> {
    let error = outcome.err().context("accepted")?;
    ensure!(format!("{error:#}").contains(message), "{error:#}");
    Ok(())
}
