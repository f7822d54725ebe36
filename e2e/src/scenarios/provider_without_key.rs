//! A provider whose keys are gone is told, and nothing rises by itself onto what would answer 503.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    migration::{self, HANDLED},
    objects, rollout,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "provider-without-key",
    "A provider without a key in use holds steps and candidates until it has one or somebody promotes; Degraded names it",
    |context| run(context).boxed(),
);

const REPLICAS: u64 = 2;
/// What would have risen, had it not been held.
const HELD: Duration = Duration::from_secs(4);
const KEY: &str = "providerkey/anthropic";
const KEYLESS: &str = "provider anthropic has no key in use";

async fn run(context: &Context) -> Result<()> {
    let plan = rollout::canary(json!([{"percent": 20, "hold": "1s"}, {"percent": 100, "hold": "1s"}]));
    rollout::create(context, json!({"canaryPercent": 0}), plan).await?;
    enable(context, false).await?;
    let steps = json!([{"percent": 10, "hold": "1s"}, {"percent": 50, "hold": "1s"}, {"percent": 100}]);
    let change = json!({"canaryPercent": null, "canary": {"steps": steps}});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": change}})).await?;
    told(context, "10 % waits for a key").await?;
    migration::stays(context, 0, HELD).await?;
    ensure!(degraded(&migration::seen(context).await?).is_none(), "nobody is sent there");

    migration::ask(context, "promote/1").await?;
    migration::reach(context, 10, REPLICAS, HANDLED).await?;
    told(context, "50 % waits for a key").await?;
    migration::stays(context, 10, HELD).await?;
    let degraded_now = gateway::wait_condition(context, OBJECT, "Degraded", "True").await?;
    let why = degraded_now["message"].as_str().unwrap_or_default();
    ensure!(why.starts_with(KEYLESS) && degraded_now["reason"] == "NoKeyInUse", "{degraded_now}");
    println!("  held at 10 %: {why}");

    enable(context, true).await?;
    migration::reach(context, 100, REPLICAS, HANDLED).await?;
    wait::wait_until("Degraded to be over", HANDLED, || async {
        Ok(degraded(&migration::seen(context).await?).is_none())
    })
    .await?;
    println!("  100 % as soon as the key is enabled");
    candidate(context).await
}

/// A configuration that moves a provider to a host where its key may not be sent.
async fn candidate(context: &Context) -> Result<()> {
    let before = migration::seen(context).await?["spec"]["config"]["providers"].clone();
    let mut providers = before.clone();
    providers[1]["baseURL"] = json!("https://elsewhere.vendors.svc");
    objects::merge(context, OBJECT, &json!({"spec": {"config": {"providers": providers}}})).await?;
    let wait = wait::wait_for("the candidate to wait for a key", HANDLED, || async {
        let rollout = rollout::seen(context).await?["status"]["rollout"].clone();
        let message = rollout["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(&format!("waits for a key: {KEYLESS}")) && rollout["percent"] == 0, "{rollout}");
        Ok(Some(message))
    });
    println!("  candidate: {}", wait.await?);
    rollout::stays(context, 0, HELD).await?;
    let stable = rollout::revision(&rollout::seen(context).await?, "stableRevision")?;
    objects::merge(context, OBJECT, &json!({"spec": {"config": {"providers": before}}})).await?;
    rollout::settled(context, &stable).await.map(|_| ())
}

async fn enable(context: &Context, enabled: bool) -> Result<()> {
    objects::merge(context, KEY, &json!({"spec": {"enabled": enabled}})).await.map(|_| ())
}

/// Waits until the status of the migration says so.
async fn told(context: &Context, text: &str) -> Result<()> {
    wait::wait_until(text, HANDLED, || async {
        let migration = migration::seen(context).await?["status"]["migration"].clone();
        let message = migration["message"].as_str().unwrap_or_default();
        ensure!(message.contains(text) && message.contains(KEYLESS), "{migration}");
        Ok(true)
    })
    .await
}

/// What the condition Degraded says, where it is True.
fn degraded(seen: &Value) -> Option<String> {
    let condition = gateway::condition(&seen["status"], "Degraded").filter(|one| one["status"] == "True")?;
    Some(condition["message"].as_str().unwrap_or_default().to_owned())
}
