//! Keys of one provider share its requests by weight; a key that is disabled or deleted leaves every pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use bifrost_fake_provider::Control;
use futures::FutureExt;
use serde_json::{Value, json};

use super::gateway::{self, POOL_OPENAI};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "key-pool",
    "Weights 80 and 20 share the requests so; a disabled and a deleted key leave every pod, and an event says when",
    |context| run(context).boxed(),
)
.embedded_only();

const SECOND: &str = "sk-pool-light-0123456789";
const THIRD: &str = "sk-pool-third-0123456789";

async fn run(context: &Context) -> Result<()> {
    let mut items = gateway::key("light", "openai", SECOND);
    items[1]["spec"]["weight"] = json!(20);
    gateway::apply_all(context, items).await?;
    gateway::create(context, 2, Value::Null).await?;
    let patch = json!({"spec": {"weight": 80}}).to_string();
    context.kubectl(&["patch", "providerkey/openai", "--type=merge", "--patch", &patch]).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    wait::wait_until("the weights to be in force", Duration::from_secs(20), || async {
        let (heavy, light) = share(context, &control, "500").await?;
        ensure!(heavy > light * 2, "{heavy} : {light}");
        Ok(true)
    })
    .await?;
    let (heavy, light) = share(context, &control, "4000").await?;
    let percent = 100.0 * heavy as f64 / (heavy + light) as f64;
    println!("  weights 80 : 20 → {percent:.1} % and {:.1} % of {} requests", 100.0 - percent, heavy + light);
    ensure!((percent - 80.0).abs() <= 3.0, "{percent:.1} %");

    let patch = json!({"spec": {"enabled": false}}).to_string();
    context.kubectl(&["patch", "providerkey/light", "--type=merge", "--patch", &patch]).await?;
    println!("  disabled: {}", revoked(context, "light").await?);
    let (_, light) = share(context, &control, "500").await?;
    ensure!(light == 0, "{light} requests with the disabled key");

    gateway::apply_all(context, gateway::key("third", "openai", THIRD)).await?;
    gateway::wait_condition(context, "providerkey/third", "Ready", "True").await?;
    context.kubectl(&["delete", "providerkey/third"]).await?;
    println!("  deleted: {}", revoked(context, "third").await?);
    control.reset().await?;
    gateway::load(context, &["--requests", "500"]).await?.all_served()?;
    let third = control.counts().await?.sum(|c| c.key.as_deref() == Some(THIRD));
    ensure!(third == 0, "{third} requests with the deleted key");
    Ok(())
}

/// Requests with the first key and with the second.
async fn share(context: &Context, control: &Control, requests: &str) -> Result<(u64, u64)> {
    control.reset().await?;
    gateway::load(context, &["--requests", requests]).await?.all_served()?;
    let counts = control.counts().await?;
    let of = |key: &str| counts.sum(|count| count.key.as_deref() == Some(key));
    Ok((of(POOL_OPENAI), of(SECOND)))
}

/// Waits for the event that says that no pod has a key any more.
async fn revoked(context: &Context, key: &str) -> Result<String> {
    wait::wait_for(&format!("KeyRevoked of {key}"), Duration::from_secs(20), || async {
        let events: Value = serde_json::from_str(&context.kubectl(&["get", "events", "--output=json"]).await?)?;
        let mut messages =
            events["items"].as_array().into_iter().flatten().filter(|event| event["reason"] == "KeyRevoked");
        Ok(messages.find_map(|event| event["message"].as_str().filter(|text| text.contains(key)).map(str::to_owned)))
    })
    .await
}
